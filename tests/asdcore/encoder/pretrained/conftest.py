"""Small random models, saved as the published ones are: the names and shapes of their weights are spelt out here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

WIDTH, DEPTH, HEADS = 32, 2, 4
FAMILIES = ("ast", "ced", "dasheng", "beats", "eat")
Shapes = dict[str, tuple[int, ...]]
Clip = Callable[[float, int], NDArray[np.float32]]
Publish = Callable[[str], Path]


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int = WIDTH) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def blocks(prefix: str) -> Shapes:
    shapes: Shapes = {}
    for block in range(DEPTH):
        name = f"{prefix}blocks.{block}"
        shapes |= norm(f"{name}.norm1") | norm(f"{name}.norm2")
        shapes |= linear(f"{name}.attn.qkv", WIDTH, 3 * WIDTH) | linear(f"{name}.attn.proj", WIDTH, WIDTH)
        shapes |= linear(f"{name}.mlp.fc1", WIDTH, 4 * WIDTH) | linear(f"{name}.mlp.fc2", 4 * WIDTH, WIDTH)
    return shapes


def band_norm(name: str) -> Shapes:
    values = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{value}": (64,) for value in values} | {f"{name}.num_batches_tracked": ()}


def on_patches(norm_name: str, patch: tuple[int, int], rows: int, columns: int) -> Shapes:
    return (
        band_norm(norm_name)
        | {"encoder.patch_embed.proj.weight": (WIDTH, 1, *patch), "encoder.patch_embed.proj.bias": (WIDTH,)}
        | {"encoder.time_pos_embed": (1, WIDTH, 1, columns), "encoder.freq_pos_embed": (1, WIDTH, rows, 1)}
        | blocks("encoder.")
        | norm("encoder.norm")
    )


CED = on_patches("encoder.init_bn", (16, 16), 4, 4) | norm("outputlayer.0") | linear("outputlayer.1", WIDTH, 527)
CED_CONFIG = {
    "architectures": ["CedForAudioClassification"], "model_type": "ced", "name": "small random one", "embed_dim": WIDTH,
    "depth": DEPTH, "num_heads": HEADS, "n_mels": 64, "target_length": 70, "patch_size": 16, "patch_stride": 16,
    "mlp_ratio": 4.0, "qkv_bias": True, "pooling": "mean", "outputdim": 527, "pad_last": True,
}  # fmt: skip
DASHENG = on_patches("encoder.init_bn.1", (64, 4), 1, 15)
DASHENG_CONFIG = {
    "architectures": ["DashengModel"], "model_type": "dasheng", "name": "dasheng-base", "loss": "BCELoss",
    "encoder_kwargs": {
        "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "target_length": 60, "patch_size": [64, 4],
        "patch_stride": [64, 4],
    },
}  # fmt: skip
EAT = (
    {"model.local_encoder.proj.weight": (WIDTH, 1, 16, 16), "model.local_encoder.proj.bias": (WIDTH,)}
    | {"model.extra_tokens": (1, 1, WIDTH), "model.fixed_positional_encoder.positions": (1, 8 * 8, WIDTH)}
    | blocks("model.")
    | norm("model.pre_norm")
)
EAT_CONFIG = {
    "architectures": ["EATModel"], "model_type": "eat", "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS,
    "patch_size": 16, "stride": 16, "in_chans": 1, "mel_bins": 128, "max_length": 8, "model_variant": "pretrain",
    "mlp_ratio": 4.0, "qkv_bias": True, "layer_norm_first": False, "norm_eps": 1e-6, "norm_affine": True,
    "fixed_positions": True, "img_size": [1024, 128],
}  # fmt: skip
BEATS_CONFIG = {
    "input_patch_size": 16, "embed_dim": 24, "conv_bias": False, "encoder_layers": DEPTH, "encoder_embed_dim": WIDTH,
    "encoder_ffn_embed_dim": 64, "encoder_attention_heads": HEADS, "activation_fn": "gelu", "layer_norm_first": False,
    "deep_norm": True, "conv_pos": 8, "conv_pos_groups": 4, "relative_position_embedding": True, "num_buckets": 32,
    "max_distance": 80, "gru_rel_pos": True, "finetuned_model": False, "dropout": 0.0,
}  # fmt: skip


def beats() -> Shapes:
    shapes: Shapes = {"patch_embedding.weight": (24, 1, 16, 16), **norm("layer_norm", 24)}
    shapes |= linear("post_extract_proj", 24, WIDTH) | norm("encoder.layer_norm")
    shapes |= {"encoder.pos_conv.0.bias": (WIDTH,), "encoder.pos_conv.0.weight_g": (1, 1, 8)}
    shapes |= {"encoder.pos_conv.0.weight_v": (WIDTH, WIDTH // 4, 8)}
    for layer in range(DEPTH):
        name = f"encoder.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{name}.self_attn.{projection}", WIDTH, WIDTH)
        shapes |= linear(f"{name}.self_attn.grep_linear", WIDTH // HEADS, 8)
        shapes |= {f"{name}.self_attn.grep_a": (1, HEADS, 1, 1)}
        shapes |= {f"{name}.self_attn.relative_attention_bias.weight": (32, HEADS)}
        shapes |= norm(f"{name}.self_attn_layer_norm") | norm(f"{name}.final_layer_norm")
        shapes |= linear(f"{name}.fc1", WIDTH, 64) | linear(f"{name}.fc2", 64, WIDTH)
    return shapes


def random_weights(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Deterministic; variances are positive, normalisations near 1."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}
    for name, values in weights.items():
        if name.endswith((".running_var", ".weight_g")):
            weights[name] = values.abs() + 100
        elif "norm" in name and name.endswith(".weight"):
            weights[name] = values + 1
        elif name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(7)
    return weights


def write(folder: Path, config: dict[str, Any], shapes: Shapes) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(random_weights(shapes), folder / "model.safetensors", {"format": "pt"})
    return folder


def write_beats_checkpoint(file: Path) -> Path:
    """As Microsoft publishes it; all layers share one table of relative positions."""
    weights = random_weights(beats())
    first = weights["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    weights |= {name: first for name in weights if name.endswith("relative_attention_bias.weight")}
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"cfg": BEATS_CONFIG, "model": weights}, file)
    return file


def write_ast(folder: Path) -> Path:
    """A classifier, as the published one is."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=64, max_length=100
    )
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(max_length=100).save_pretrained(folder)
    return folder


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Writes the small model of a family and returns its folder."""

    def of(family: str) -> Path:
        folder = tmp_path / family
        if family == "ast":
            return write_ast(folder)
        if family == "beats":
            from asdcore.encoder.pretrained.checkpoint import convert_checkpoint

            convert_checkpoint(write_beats_checkpoint(tmp_path / "BEATs_iter3.pt"), folder)
            return folder
        config, shapes = {"ced": (CED_CONFIG, CED), "dasheng": (DASHENG_CONFIG, DASHENG), "eat": (EAT_CONFIG, EAT)}[
            family
        ]
        return write(folder, config, shapes)

    return of


@pytest.fixture(scope="session")
def clip() -> Clip:
    """A hum with overtones and some noise below 6 kHz, so that it is the same at every rate above 12 kHz."""

    def of(seconds: float, sample_rate: int = 16_000) -> NDArray[np.float32]:
        time = np.arange(round(seconds * sample_rate)) / sample_rate
        rng = np.random.default_rng(0)
        partials = [(50.0 * k, 0.1 / k) for k in range(1, 20)] + [(rng.uniform(100, 6000), 0.01) for _ in range(200)]
        sound = sum(level * np.sin(2 * np.pi * (hertz * time + rng.uniform())) for hertz, level in partials)
        return np.asarray(sound, np.float32)

    return of
