"""The detector stage: put encoder and normality models together, and take the champion out of the registry."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asdcore.detector import Detector
from asdcore.encoder.frozen import load_encoder
from asdcore.encoder.network import TrainedEncoder
from asdcore.errors import OutdatedDetectorError
from asdcore.normality.machine import MachineModel
from asdcore.normality.threshold import Threshold
from asdcore.settings import Settings
from asdcore.storage.home import Home
from tasks.encoder import encoder_artifact, kept_encoder
from tasks.registered import CHAMPION, load_detector, registered_folder
from tasks.registry import champion_version
from tasks.stage import Artifact, Facts, stage
from tasks.warn import warn


@stage("runs/detectors/{key}/")
def assemble_detector(
    out: Path,
    settings: Settings,
    encoder: Artifact,
    machines: dict[str, Artifact],
    profiles: dict[str, Artifact],
    about: dict[str, Any],
    thresholds: dict[str, Threshold],
) -> Facts:
    """Write the folder of the detector with this encoder, these machines, their profiles and own thresholds."""
    fitted = {machine: MachineModel.read(model.path, profiles[machine].path) for machine, model in machines.items()}
    Detector(settings, load_encoder(encoder.path), fitted, about, thresholds).save(out)
    return {"machines": sorted(machines)}


@stage("runs/detectors/{key}/", uncounted=("base",))
def change_machine(
    out: Path,
    base: str,
    base_digest: str,
    machine: str,
    model: Artifact | None,
    profile: Artifact | None,
    about: dict[str, Any],
) -> Facts:
    """Write the detector of the folder ``base`` with this machine's model and profile, or without the machine."""
    detector = Detector.load(base)
    if model is not None and profile is not None:
        changed = detector.with_machine(machine, MachineModel.read(model.path, profile.path), about)
    else:
        changed = detector.without_machine(machine)
    changed.save(out)
    return {"machines": sorted(changed.machines)}


@stage("runs/detectors/{key}/", uncounted=("base",))
def change_name(out: Path, base: str, base_digest: str, machine: str, name: str) -> Facts:
    """Write the detector of the folder ``base`` with another name of this machine."""
    Detector.load(base).with_name(machine, name).save(out)
    return {"machines": [name]}


@stage("runs/detectors/{key}/", uncounted=("base",))
def change_threshold(out: Path, base: str, base_digest: str, machine: str, threshold: Threshold) -> Facts:
    """Write the detector of the folder ``base`` with another threshold of this machine."""
    Detector.load(base).with_threshold(machine, threshold).save(out)
    return {"machines": [machine]}


def champion_thresholds(machines: Iterable[str]) -> dict[str, Threshold]:
    """The own thresholds that the champion has of these machines: they outlive a retraining."""
    champion = readable_champion()
    kept = champion.thresholds if champion else {}
    return {machine: kept[machine] for machine in sorted(machines) if machine in kept}


def readable_champion() -> Detector | None:
    """The champion; None if there is none, or if an older version made it in a format that this one does not read."""
    home = Home.current()
    try:
        return load_detector(home)[0] if champion_version(home) else None
    except OutdatedDetectorError:
        return None


def first_encoder(data: str, settings: Settings) -> Artifact | None:
    """The encoder that a warm start begins with: the champion's.

    If the champion was itself trained on this data (a digest) with these settings, this is the encoder that it started
    from, so that the training is not repeated. None: random weights.
    """
    home = Home.current()
    if settings.training.adapter_rank:
        warn("no warm start: adapters are always trained from scratch")
        return None
    if not settings.training.trains:
        warn(f"no warm start: the encoder {settings.training.encoder} is not trained; training.encoder=resnet18 is")
        return None
    if not champion_version(home):
        return None
    with registered_folder(home, CHAMPION) as (folder, version):
        champion = Detector.load(folder)
        if (champion.about["data"], champion.settings.training.digest()) == (data, settings.training.digest()):
            first = champion.about.get("warm_start")
            return encoder_artifact(home.runs / "warm-starts" / f"{first}.safetensors") if first else None
        wanted = settings.training
        if not isinstance(champion.encoder, TrainedEncoder):
            warn(f"no warm start: the encoder of version {version} is {champion.encoder.architecture}, not trained")
            return None
        encoder = champion.encoder.encoder
        if (encoder.architecture, encoder.z_size) != (wanted.encoder, wanted.z_size):
            warn(f"no warm start: the encoder of version {version} is {encoder.architecture}, z_size={encoder.z_size}")
            return None
        return kept_encoder(folder / "encoder.safetensors", home.runs / "warm-starts")
