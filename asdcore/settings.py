"""Every knob on one page: one frozen model per stage, each with a digest, and the presets.

The decisions behind the defaults are those of the paper (section 2) where it states them, but for those that
docs/evidence/representation.md gives reason to change; each field says so. ``paper`` changes them back.
"""

import hashlib
import json
import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, field_validator, model_validator

from asdcore.registry import ENCODERS, LOSSES, NORMALITY_MODELS, SCORERS

PRESETS = ("paper", "default", "demo")
BASE = "base"
"""the pretrained encoder in the registry"""
TWO_BRANCH = ("two_branch", "multi_resolution")
"""The networks in the registry that a benchmark trains on waveforms."""
PRETRAINED = ("ast", "ced", "dasheng", "beats", "eat")
"""The published models in the registry."""
NEEDS_SOURCE = (
    {"embeddings": "a Parquet table of embeddings"}
    | dict.fromkeys(PRETRAINED, "the published model")
    | dict.fromkeys(TWO_BRANCH, "the network that a benchmark has trained")
)
"""The frozen encoders of this package, and the source that they need."""


class Unit(str):
    """The unit of a setting, beside its type."""


Seconds = Annotated[float, Unit("s")]
Recordings = Annotated[int, Unit("recordings")]
Seed = Annotated[int, Field(ge=0)]


class StageSettings(BaseModel):
    """What all settings share: frozen, no unknown names, and a digest that keys the caches."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    renamed: ClassVar[dict[str, str]] = {}
    """Old name: name. Settings that were saved before a rename (deployments, detectors) are read with the new names."""
    dropped: ClassVar[frozenset[str]] = frozenset()
    """Names that saved settings may still have, and that no longer mean anything."""

    @model_validator(mode="before")
    @classmethod
    def _with_new_names(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {cls.renamed.get(name, name): value for name, value in values.items() if name not in cls.dropped}

    where_not_what: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where the work is done, not what it makes: they stay out of the digest."""

    def digest(self) -> str:
        """16 hexadecimal digits that change when any value that changes the result changes."""
        values = self.model_dump(mode="json", exclude=set(self.where_not_what))
        values |= {name: value.digest() for name, value in self if isinstance(value, StageSettings)}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


FOLDER_LABELS = ("normal", "anomaly", "machine")
"""what a person may say a folder's name is; machine: that of a machine, not a label"""


def _folders_and_labels(text: str) -> str:
    for part in filter(None, map(str.strip, text.split(","))):
        folder, _, label = part.rpartition(":")
        if not folder.strip() or label.strip() not in FOLDER_LABELS:
            raise ValueError(f"expected folder:label, a label being {' or '.join(FOLDER_LABELS)}, got {part!r}")
    return text


class RecordingSettings(StageSettings):
    """How an audio file becomes a waveform, and when it is too bad to use."""

    renamed: ClassVar[dict[str, str]] = {"maximum_clipped_share": "maximum_clipped_fraction"}
    dropped: ClassVar[frozenset[str]] = frozenset({"maximum_seconds"})
    where_not_what: ClassVar[frozenset[str]] = frozenset({"labels"})

    sample_rate: Annotated[int, Unit("Hz")] = Field(16_000, ge=1_000, description="every recording is resampled to it")
    channel: Literal["first", "mean"] | NonNegativeInt = Field("first", description="first, mean, or an index from 0")
    minimum_seconds: Seconds = Field(0.5, gt=0, description="shorter recordings are quarantined")
    clip_seconds: Seconds = Field(
        10.0, ge=1, description="a recording of twice this or longer is cut into clips of this length or little more"
    )
    maximum_clipped_fraction: float = Field(0.01, ge=0, le=1, description="share of samples at full scale")
    silence_dbfs: Annotated[float, Unit("dBFS")] = Field(
        -80.0, description="RMS without its mean, dB of full scale; quieter is silent"
    )
    cut_off: Literal["quarantine", "use"] = Field(
        "quarantine", description="recordings that are shorter or longer than their header says; use: use what is there"
    )
    session_gap_minutes: Annotated[float, Unit("min")] = Field(
        60.0, gt=0, description="a longer pause between the time stamps in file names begins a new session"
    )
    minimum_training_recordings: Recordings = Field(10, ge=2, description="normal training recordings a machine needs")
    labels: Annotated[str, AfterValidator(_folders_and_labels)] = Field(
        "",
        description="what folders with these names contain, such as dry:anomaly,run_in:normal,leak:machine; machine: "
        "the name is that of a machine, not a label",
    )


class MelSettings(StageSettings):
    """The log-mel spectrogram (paper 2.3): Hann window, centred, power, Slaney bands from 0 Hz to Nyquist."""

    renamed: ClassVar[dict[str, str]] = {"floor": "amin"}

    n_fft: Annotated[int, Unit("samples")] = Field(2048, ge=64, description="length of an STFT window")
    hop_length: Annotated[int, Unit("samples")] = Field(512, ge=1, description="distance from frame to frame")
    n_mels: int = Field(128, ge=8, description="mel bands")
    amin: float = Field(1e-10, gt=0, description="power below which the logarithm is cut: 10*log10(amin) dB")

    @property
    def amin_db(self) -> float:
        """The lowest value of a spectrogram, dB."""
        return 10.0 * math.log10(self.amin)


class AugmentationSettings(StageSettings):
    """The six variants of a recording (paper 2.3): pitch down, pitch up, two of noise, two of masking."""

    pitch_method: Literal["waveform", "spectral"] = Field(
        "spectral",
        description="spectral: warped frequency axis; waveform: librosa's phase vocoder, five times the time",
    )
    pitch_semitones: Annotated[float, Unit("semitones")] = Field(
        12.0, gt=0, description="shifts are uniform in (0, this), down and up"
    )
    noise_snr_db: Annotated[tuple[float, float], Unit("dB")] = Field(
        (6.0, 24.0), description="signal-to-noise ratio, uniform from the first to the second"
    )
    mask_milliseconds: Annotated[tuple[float, float], Unit("ms")] = Field(
        (500.0, 1000.0), description="lengths of the two masked spans"
    )
    seed: Seed = Field(0, description="of the variants")


class TrainingSettings(StageSettings):
    """The encoder, what it is trained for, and the training (paper 2.1 and 2.3)."""

    where_not_what: ClassVar[frozenset[str]] = frozenset({"device", "processes", "source"})
    renamed: ClassVar[dict[str, str]] = {
        "objective": "loss",
        "chunk": "micro_batch",
        "validation_share": "validation_fraction",
    }

    encoder: Annotated[str, AfterValidator(ENCODERS.check)] = Field(
        BASE,
        description="base: comes with the package, and nothing is trained; resnet18, resnet50: trained on the "
        "recordings; ast, ced, dasheng, beats, eat, two_branch, multi_resolution, embeddings: frozen, from source; "
        "or one that an installed package adds",
        json_schema_extra=ENCODERS.schema,
    )
    source: str | None = Field(
        None,
        description="of a frozen encoder: the local file or folder of its weights, or the Parquet "
        "file of its embeddings",
    )
    adapter_rank: int = Field(
        0, ge=0, description="fine-tune ast, ced, dasheng, beats or eat by low-rank adapters of this rank; 0: frozen"
    )
    z_size: int = Field(128, ge=2, description="values of z, the output of the projection head")
    crop_frames: Annotated[int, Unit("frames")] = Field(
        128, ge=16, description="length of a training view; the same span in both views"
    )
    batch_size: Recordings = Field(48, ge=2, description="recordings a batch; twice as many views")
    loss: Annotated[str, AfterValidator(LOSSES.check)] = Field(
        "discriminative",
        description="nt_xent: the paper's; supervised_contrastive; discriminative: tell machines, attributes and pitch "
        "shifts apart; combined: discriminative and nt_xent; or one that an installed package adds",
        json_schema_extra=LOSSES.schema,
    )
    temperature: float = Field(0.05, gt=0, description="tau of nt_xent and supervised_contrastive")
    subclusters: int = Field(4, ge=1, description="centres of a class of discriminative")
    contrastive_weight: float = Field(0.1, ge=0, description="of nt_xent in combined; that of discriminative is 1")
    learning_rate: float = Field(1e-3, gt=0, description="Adam; the paper states 0.5")
    cycles: int = Field(4, ge=1, description="cosine cycles: three warm restarts make four")
    epochs: int = Field(40, ge=1, description="of the training; a multiple of cycles")
    warmup_steps: Annotated[int, Unit("steps")] = Field(
        0, ge=0, description="first steps, in which the learning rate rises to that of the cycle"
    )
    validation_fraction: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of each machine's recordings that does not train, for early stopping; 0: none",
    )
    patience: Annotated[int, Unit("epochs")] = Field(
        10, ge=1, description="epochs without a lower validation loss before it stops early"
    )
    micro_batch: Annotated[int | None, Unit("recordings")] = Field(
        None, ge=2, description="recordings of a batch in memory at a time; all if empty. All negatives count anyway"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on CUDA that has it")
    tf32: bool = Field(True, description="CUDA: products of float32 in TF32")
    deterministic: bool = Field(False, description="CUDA: only algorithms that give the same bits again, slower")
    compile: bool = Field(False, description="torch.compile; it needs a C++ compiler and minutes before the first step")
    seed: Seed = Field(0, description="of initial weights, batches and views")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="where the encoder is trained and embeds; auto: a GPU if there is one"
    )
    processes: int = Field(1, ge=1, description="that share each batch: one for each GPU")

    @property
    def trains(self) -> bool:
        """Whether the encoder is trained, on recordings and their variants; if not, the rest here is for adapters."""
        if self.encoder in ENCODERS.built_in:
            return self.encoder not in (BASE, *NEEDS_SOURCE)
        return bool(getattr(ENCODERS.get(self.encoder), "trains", True))

    @model_validator(mode="after")
    def _source_of_its_weights(self) -> Self:
        if self.encoder in NEEDS_SOURCE and self.source is None:
            raise ValueError(
                f"encoder={self.encoder} needs source: the local file or folder of "
                f"{NEEDS_SOURCE[self.encoder]}; see docs/how-to/encoders.md"
            )
        if self.adapter_rank and (self.encoder not in PRETRAINED or self.processes > 1):
            raise ValueError(
                f"adapter_rank={self.adapter_rank} needs processes=1 and an encoder of {', '.join(PRETRAINED)}"
            )
        return self

    @model_validator(mode="after")
    def _whole_cycles(self) -> Self:
        if self.epochs % self.cycles:
            raise ValueError(
                f"epochs={self.epochs} must be a multiple of cycles={self.cycles}, so that every cycle ends"
            )
        return self


class NormalitySettings(StageSettings):
    """The normality model of each machine (paper 2.2)."""

    renamed: ClassVar[dict[str, str]] = {"eyes": "scorers", "insist": "force_estimator"}

    estimator: Annotated[str, AfterValidator(NORMALITY_MODELS.check)] = Field(
        "standardised_knn",
        description="normality model of the embedding: ml, elliptic, ledoit_wolf, tied (a mean for each domain), knn "
        "(nearest normal recordings), standardised_knn, kmeans_cosine, local_density, smote_knn, memory_mixup "
        "(back ends of published systems), or one that an installed package adds",
        json_schema_extra=NORMALITY_MODELS.schema,
    )
    layer: Literal["z", "h"] = Field("h", description="z: after the projection head, as in the paper; h: the encoder")
    scorers: tuple[Annotated[str, AfterValidator(SCORERS.check)], ...] = Field(
        ("spectrum", "change", "embedding"),
        min_length=1,
        description="what the detector judges by, fused: spectrum (mean over time), change (from frame to frame), "
        "embedding (alone: as in the paper), spectrum_deviation, or what an installed package adds",
        json_schema_extra=SCORERS.schema,
    )
    force_estimator: bool = Field(
        False, description="use ml or elliptic even where there are too few recordings for it"
    )
    elliptic_components: int | None = Field(
        None,
        ge=1,
        description="principal components kept before elliptic; if empty all of z, 128 of h. 1000 x 128: a minute",
    )
    seed: Seed = Field(0, description="random state of elliptic")
    false_alarm_rate: float = Field(
        0.01, gt=0, lt=1, description="share of normal recordings that may be called anomalous; 0.1 in challenge files"
    )

    @field_validator("scorers", mode="before")
    @classmethod
    def _names_of_scorers(cls, value: Any) -> Any:
        """A text of names with commas, and the words of settings that were saved before there were names."""
        if isinstance(value, list | tuple):
            return tuple(name.strip() if isinstance(name, str) else name for name in value)
        if not isinstance(value, str):
            return value
        # "spectrum" alone meant mean and deviation then; in a list, as the command line makes it, it is the new scorer.
        before = {"both": ("embedding", "spectrum_deviation"), "spectrum": ("spectrum_deviation",)}
        return before.get(value) or tuple(name.strip() for name in value.split(",") if name.strip())

    @field_validator("scorers")
    @classmethod
    def _each_scorer_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"scorers {', '.join(value)}: each may be named once")
        return value


class AutoencoderSettings(StageSettings):
    """The official baseline (arXiv:2303.00455 and its published code). Its spectrograms have a shorter window."""

    renamed: ClassVar[dict[str, str]] = {"validation_share": "validation_fraction"}

    mel: MelSettings = MelSettings(n_fft=1024, amin=2.220446049250313e-16)
    epochs: int = Field(100, ge=1, description="of the training of each autoencoder")
    batch_size: int = Field(256, ge=2, description="vectors of five frames")
    learning_rate: float = Field(1e-3, gt=0, description="Adam")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="share of the vectors that do not train")
    decision_quantile: float = Field(0.9, gt=0, lt=1, description="of the gamma distribution of the training scores")
    seed: Seed = Field(13711, description="of the published results")


class TwoBranchSettings(StageSettings):
    """The two-branch network of the benchmark (arXiv:2312.09578 and its published code)."""

    epochs: int = Field(10, ge=1, description="of the training, on the recordings of all machines")
    batch_size: Recordings = Field(64, ge=2, description="recordings a batch")
    learning_rate: float = Field(1e-3, gt=0, description="Adam")
    seconds: Seconds = Field(
        18.0,
        ge=0.5,
        description="longest input; the network takes that of the longest training clip, shorter ones are repeated",
    )
    seed: Seed = Field(0, description="of initial weights, batches and mixing")


class GateSettings(StageSettings):
    """When a retrained detector, the challenger, replaces the champion."""

    renamed: ClassVar[dict[str, str]] = {"held_out_share": "held_out_fraction"}

    held_out_fraction: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="of the normal recordings of a machine without labelled anomalies: never trained on",
    )
    margin: float = Field(0.05, ge=0, lt=1, description="how much worse, of 1, a challenger may be over all machines")


class Settings(StageSettings):
    """All stages together: what a retraining is made with, and the form of the Prefect UI."""

    recordings: RecordingSettings = RecordingSettings()
    mel: MelSettings = MelSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    training: TrainingSettings = TrainingSettings()
    normality: NormalitySettings = NormalitySettings()
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    two_branch: TwoBranchSettings = TwoBranchSettings()
    gate: GateSettings = GateSettings()

    @model_validator(mode="after")
    def _spectrograms_of_base_encoder(self) -> Self:
        given, needed = (
            (rate, mel.n_fft, mel.hop_length, mel.n_mels)
            for rate, mel in (
                (self.recordings.sample_rate, self.mel),
                (RecordingSettings().sample_rate, MelSettings()),
            )
        )
        if self.training.encoder == BASE and given != needed:
            raise ValueError(
                f"the base encoder needs recordings.sample_rate={needed[0]}, mel.n_fft={needed[1]}, "
                f"mel.hop_length={needed[2]} and mel.n_mels={needed[3]}; training.encoder=resnet18 is trained with any"
            )
        return self

    @classmethod
    def preset(cls, name: str) -> "Settings":
        """``paper``: the closest literal reading; ``default``: for real work; ``demo``: minutes on two CPU cores."""
        if name == "paper":
            return cls(
                augmentation=AugmentationSettings(pitch_method="waveform"),
                training=TrainingSettings(
                    encoder="resnet18", loss="nt_xent", learning_rate=0.5, crop_frames=313, epochs=100
                ),
                normality=NormalitySettings(estimator="ml", layer="z", scorers=("embedding",)),
                gate=GateSettings(held_out_fraction=0.0),
            )
        if name == "demo":
            return cls(
                training=TrainingSettings(crop_frames=32, epochs=16),
                normality=NormalitySettings(elliptic_components=8),
                autoencoder=AutoencoderSettings(epochs=50),
            )
        if name == "default":
            return cls()
        raise ValueError(f"preset {name!r} is none of {', '.join(PRESETS)}")
