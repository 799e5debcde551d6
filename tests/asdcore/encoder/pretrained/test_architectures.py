"""The architectures against independent implementations of their parts, and against the published sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asdcore.encoder.pretrained import beats, ced, dasheng, eat
from asdcore.encoder.pretrained.blocks import Block
from asdcore.encoder.pretrained.checkpoint import PublishedModel
from asdcore.encoder.pretrained.front_ends import decibel_spectrogram, kaldi_spectrogram
from asdcore.encoder.pretrained.patches import PatchTransformer
from tests.asdcore.encoder.pretrained.conftest import BEATS_CONFIG, Clip

BEATS_ITER3 = BEATS_CONFIG | {
    "embed_dim": 512, "encoder_layers": 12, "encoder_embed_dim": 768, "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12, "conv_pos": 128, "conv_pos_groups": 16, "num_buckets": 320, "max_distance": 800,
}  # fmt: skip


def described(**config: Any) -> PublishedModel:
    return PublishedModel(Path("folder"), config, ())


def with_classifier(width: int) -> int:
    """Weights of CED's classifier, which its published size includes."""
    return 2 * width + width * 527 + 527


@pytest.mark.parametrize(
    ("model", "more", "millions"),
    [
        (ced.transformer_of(described(embed_dim=192, num_heads=3)), with_classifier(192), 5.5),
        (ced.transformer_of(described(embed_dim=256, num_heads=4)), with_classifier(256), 9.6),
        (ced.transformer_of(described(embed_dim=384, num_heads=6)), with_classifier(384), 22),
        (ced.transformer_of(described(embed_dim=768, num_heads=12)), with_classifier(768), 86),
        (dasheng.transformer_of(described(name="dasheng-base")), 0, 86),
        (dasheng.transformer_of(described(name="dasheng-0.6B")), 0, 630),
        (dasheng.transformer_of(described(name="dasheng-1.2B")), 0, 1148),
        (beats.transformer_of(described(**BEATS_ITER3)), 0, 90),
        # Its safetensors file of 344 MiB; the 88 million of the paper are without the table of positions, 4.7 million.
        (eat.transformer_of(described()), 0, 344 * 2**20 / 4 / 1e6),
    ],
)
def test_the_sizes_are_the_published_ones(model: nn.Module, more: int, millions: float) -> None:
    counted = sum(parameter.numel() for parameter in model.parameters()) + more
    assert counted / 1e6 == pytest.approx(millions, rel=0.02)


def test_the_size_of_ast_is_the_published_one() -> None:
    from transformers import ASTConfig, ASTModel

    with torch.device("meta"):
        model = ASTModel(ASTConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(87, rel=0.02)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_is_the_transformer_layer_of_torch(norm_first: bool) -> None:
    torch.manual_seed(0)
    reference = nn.TransformerEncoderLayer(
        32, 4, 128, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=norm_first
    )
    names = {
        "self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
    }  # fmt: skip
    weights: dict[str, Tensor] = {}
    for name, values in reference.state_dict().items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        weights[name] = values + 0.1 * torch.randn_like(values)
    reference.load_state_dict({name: weights[ours] for name, ours in zip(reference.state_dict(), weights, strict=True)})
    block = Block(32, 4, 128, norm_first=norm_first)
    block.load_state_dict(weights)
    x = torch.randn(1, 7, 32)
    torch.testing.assert_close(block(x), reference.train()(x), atol=1e-5, rtol=1e-4)


def test_the_attention_of_beats_is_that_of_wavlm() -> None:
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    torch.manual_seed(0)
    theirs = WavLMAttention(32, 4, num_buckets=32, max_distance=80).eval()
    for parameter in theirs.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    # WavLM's gates see what enters the attention, those of BEATs its queries: here, both are the same.
    theirs.q_proj.weight.data, theirs.q_proj.bias.data = torch.eye(32), torch.zeros(32)
    ours = beats.GatedAttention(32, 4).eval()
    named = {
        name.replace("gru_rel_pos_linear", "grep_linear").replace("gru_rel_pos_const", "grep_a"): values
        for name, values in theirs.state_dict().items()
    }
    table = named.pop("rel_attn_embed.weight")
    ours.load_state_dict(named)
    x = torch.randn(1, 150, 32)
    bias = table[beats.bucket_of_distances(150, 32, 80)].permute(2, 0, 1)
    torch.testing.assert_close(bias, theirs.compute_bias(150, 150))
    torch.testing.assert_close(ours(x, bias), theirs(x)[0], atol=1e-5, rtol=1e-4)


def test_the_positional_convolution_of_beats_is_weight_normalised() -> None:
    torch.manual_seed(0)
    # The kernel of each position is normalised, as dim=2 says.
    convolution = nn.utils.parametrizations.weight_norm(nn.Conv1d(32, 32, 8, padding=4, groups=4), dim=2)
    ours = beats.PositionalConvolution(32, 8, 4)
    ours.weight_g.data, ours.weight_v.data = convolution.parametrizations.weight.original0 * 2, convolution.weight.data
    ours.bias.data = convolution.bias.data
    convolution.parametrizations.weight.original0.data *= 2
    x = torch.randn(1, 32, 20)
    torch.testing.assert_close(ours(x), nn.functional.gelu(convolution(x))[..., :20])


@pytest.mark.parametrize(("window", "theirs"), [("hanning", "hann"), ("povey", "povey")])
def test_the_spectrogram_of_kaldi_is_that_of_transformers(clip: Clip, window: Any, theirs: str) -> None:
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    filters = mel_filter_bank(257, 64, 20, 8000, 16_000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    expected = spectrogram(
        clip(0.5, 16_000), window_function(400, theirs, periodic=False), 400, 160, 512, power=2.0, center=False,
        preemphasis=0.97, mel_filters=filters, log_mel="log", mel_floor=1.192092955078125e-07, remove_dc_offset=True,
    )  # fmt: skip
    np.testing.assert_allclose(kaldi_spectrogram(clip(0.5, 16_000), 64, window), expected.T, atol=1e-4)


def test_the_spectrogram_in_decibels_is_that_of_transformers(clip: Clip) -> None:
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    filters = mel_filter_bank(257, 64, 0, 8000, 16_000, norm=None, mel_scale="htk")
    expected = spectrogram(
        clip(0.5, 16_000), window_function(512, "hann"), 512, 160, 512, power=2.0, mel_filters=filters, log_mel="dB",
        db_range=120.0, min_value=1e-10,
    )  # fmt: skip
    np.testing.assert_allclose(decibel_spectrogram(clip(0.5, 16_000), 64), expected, atol=1e-2)


def test_the_tokens_of_padding_do_not_count() -> None:
    torch.manual_seed(0)
    model = PatchTransformer(n_mels=8, frames=40, patch=(4, 4), width=16, depth=1, heads=2).eval()
    spectrogram = torch.randn(8, 40 + 13)
    padded = nn.functional.pad(spectrogram, (0, 27))
    tokens, of_padded = model(spectrogram), model(padded)
    assert len(tokens) == 2 * (10 + 3)
    assert len(of_padded) == 2 * (10 + 10)
    torch.testing.assert_close(tokens[20:], of_padded[20:].unflatten(0, (2, 10))[:, :3].flatten(0, 1))


def test_a_patch_gets_the_position_of_its_time_and_its_frequency() -> None:
    torch.manual_seed(0)
    model = PatchTransformer(n_mels=8, frames=40, patch=(4, 4), width=16, depth=0, heads=2).eval()
    for positions in (model.time_pos_embed, model.freq_pos_embed):
        nn.init.normal_(positions)
    spectrogram = torch.randn(8, 40)
    tokens = model(spectrogram)
    (of_patches,) = model.patch_embed["proj"](spectrogram[None, None] / (1 + 1e-5) ** 0.5)
    for row, column in [(0, 0), (0, 7), (1, 3)]:
        expected = (
            of_patches[:, row, column] + model.time_pos_embed[0, :, 0, column] + model.freq_pos_embed[0, :, row, 0]
        )
        torch.testing.assert_close(tokens[row * 10 + column], model.norm(expected))


def test_ast_is_given_what_its_feature_extractor_makes(clip: Clip, tmp_path: Path) -> None:
    from transformers import ASTFeatureExtractor, ASTModel

    from asdcore.encoder.pretrained.ast import AST
    from tests.asdcore.encoder.pretrained.conftest import write_ast

    folder = write_ast(tmp_path / "ast")
    inputs = ASTFeatureExtractor.from_pretrained(folder)(clip(0.9, 16_000), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        expected = ASTModel.from_pretrained(folder).eval()(**inputs).pooler_output[0].numpy()
    np.testing.assert_allclose(AST(folder).embed(clip(0.9, 16_000), 16_000), expected, atol=1e-5)
