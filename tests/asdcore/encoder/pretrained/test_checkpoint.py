"""Published models on disk: what is refused and why, what identifies them, and the conversion of pickles."""

import hashlib
import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from asdcore.encoder.frozen import build_frozen, load_encoder
from asdcore.encoder.pretrained.checkpoint import convert_checkpoint
from asdcore.errors import AsdError
from asdcore.settings import TrainingSettings
from asdcore.storage.files import digest_of_file
from tests.asdcore.encoder.pretrained.conftest import (
    BEATS_CONFIG,
    CED,
    CED_CONFIG,
    FAMILIES,
    Clip,
    Publish,
    random_weights,
    write_beats_checkpoint,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refusal(family: str, source: Path | None) -> str:
    with pytest.raises(AsdError) as error:
        build_frozen(family, source)
    return str(error.value)


def rewrite(folder: Path, **changed: torch.Tensor | None) -> None:
    """Change, add or (None) leave out weights."""
    weights = load_file(folder / "model.safetensors") | changed
    kept = {name: values for name, values in weights.items() if values is not None}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def configure(folder: Path, **changed: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "BEATs_iter3.pt", "model.pth", "last.ckpt"])
def test_a_pickle_is_refused_with_the_converter(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    torch.save({"model": random_weights(CED)}, file)
    (tmp_path / "config.json").write_text(json.dumps(CED_CONFIG))
    for source in (file, tmp_path):
        assert f"`asd convert {file} FOLDER`" in refusal("ced", source)


def test_a_pickle_beside_safetensors_is_not_touched(publish: Publish, clip: Clip) -> None:
    folder = publish("ced")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert build_frozen("ced", folder).embed(clip(0.5, 16_000), 16_000).size


def test_code_beside_the_weights_is_not_run(publish: Publish, tmp_path: Path) -> None:
    for family in FAMILIES:
        folder = publish(family)
        (folder / "modeling.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
        configure(folder, auto_map={"AutoModel": "modeling.Model"})
        build_frozen(family, folder)
    assert not (tmp_path / "run").exists()


def test_nothing_is_fetched(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def offline(*where: object, **_: object) -> None:
        attempts.append(where)
        raise OSError("offline")

    folders = {family: publish(family) for family in FAMILIES}
    monkeypatch.setattr(socket.socket, "connect", offline)
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for family, folder in folders.items():
        build_frozen(family, folder)
    assert attempts == []


def test_what_is_missing_is_named(publish: Publish, tmp_path: Path) -> None:
    assert "no such folder" in refusal("ced", tmp_path / "none")
    assert "needs source" in refusal("ced", None)
    folder = publish("ced")
    (folder / "config.json").rename(tmp_path / "config.json")
    assert f"{folder / 'config.json'}: no such file" in refusal("ced", folder)
    (tmp_path / "config.json").rename(folder / "config.json")
    (folder / "model.safetensors").unlink()
    assert "has no model.safetensors" in refusal("ced", folder)


def test_ast_needs_its_feature_extractor(publish: Publish) -> None:
    folder = publish("ast")
    (folder / "preprocessor_config.json").unlink()
    assert "has no preprocessor_config.json" in refusal("ast", folder)


def test_ast_needs_all_its_weights(publish: Publish) -> None:
    folder = publish("ast")
    rewrite(folder, **{"audio_spectrogram_transformer.layernorm.weight": None})
    assert "layernorm.weight" in refusal("ast", folder)


def test_ast_needs_transformers(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish("ast")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install 'asd[pretrained]'" in refusal("ast", folder)


def test_a_model_of_another_family_is_refused(publish: Publish) -> None:
    assert "a model of type 'ced', not 'dasheng'" in refusal("dasheng", publish("ced"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder.norm.bias": None}, "without the weights encoder.norm.bias"),
        ({"encoder.cls_token": torch.zeros(1)}, "with the unknown weights encoder.cls_token"),
        ({"encoder.norm.bias": torch.zeros(5)}, "encoder.norm.bias of shape (5,) instead of (32,)"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    publish: Publish, changed: dict[str, torch.Tensor | None], said: str
) -> None:
    folder = publish("ced")
    rewrite(folder, **changed)
    assert said in refusal("ced", folder)


@pytest.mark.parametrize(
    ("family", "changed", "said"),
    [
        ("ced", {"depth": 0}, "depth is 0"),
        ("ced", {"num_heads": 5}, "does not divide the width of 32"),
        ("ced", {"patch_stride": 10}, "patch_stride is 10"),
        ("ced", {"depth": "many"}, "depth is 'many'"),
        ("eat", {"layer_norm_first": True}, "layer_norm_first is True"),
        ("beats", {"gru_rel_pos": False}, "gru_rel_pos is False"),
    ],
)
def test_a_configuration_that_is_wrong_is_named(
    publish: Publish, family: str, changed: dict[str, Any], said: str
) -> None:
    folder = publish(family)
    configure(folder, **changed)
    assert said in refusal(family, folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
        (b"cut off", "get it again"),
        (b"", "get it again"),
    ],
)
@pytest.mark.parametrize("family", ["ced", "ast"])
def test_a_damaged_file_is_named(publish: Publish, content: bytes, said: str, family: str) -> None:
    folder = publish(family)
    (folder / "model.safetensors").write_bytes(content)
    message = refusal(family, folder)
    assert said in message
    assert str(folder) in message


def test_the_digest_is_that_of_what_is_read(publish: Publish) -> None:
    folder = publish("ced")
    names = ("config.json", "model.safetensors")
    printed = "".join(f"{digest_of_file(folder / name)}  {name}\n" for name in names)
    before = build_frozen("ced", folder).digest
    assert before == hashlib.sha256(printed.encode()).hexdigest()
    configure(folder, num_heads=8)
    assert build_frozen("ced", folder).digest != before


def test_a_detectors_encoder_must_not_change(publish: Publish, tmp_path: Path) -> None:
    folder = publish("ced")
    build_frozen("ced", folder).save(tmp_path / "encoder.safetensors")
    rewrite(folder, **{"encoder.norm.bias": torch.ones(32)})
    with pytest.raises(AsdError, match="no longer that of the encoder"):
        load_encoder(tmp_path / "encoder.safetensors")


def test_the_revision_is_found(publish: Publish, tmp_path: Path) -> None:
    folder = publish("ced")
    assert build_frozen("ced", folder).revision == ""
    noted = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    noted.parent.mkdir(parents=True)
    noted.write_text(f"{COMMIT}\netag\n1700000000.0\n")
    assert build_frozen("ced", folder).revision == COMMIT
    cache = tmp_path / "models--mispeech--ced-tiny"
    (cache / "snapshots").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    folder.rename(cache / "snapshots" / COMMIT)
    for source in (cache, cache / "snapshots" / COMMIT, cache / "snapshots" / COMMIT / "model.safetensors"):
        assert build_frozen("ced", source).revision == COMMIT


def test_weights_may_be_in_several_files(publish: Publish, clip: Clip) -> None:
    folder = publish("dasheng")
    whole = build_frozen("dasheng", folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: weights[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    in_parts = build_frozen("dasheng", folder)
    sound = clip(0.5, 16_000)
    np.testing.assert_array_equal(in_parts.embed(sound, 16_000), whole.embed(sound, 16_000))
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "has no model-00002-of-00002.safetensors" in refusal("dasheng", folder)


def test_weights_in_half_precision_are_used_in_single(publish: Publish, clip: Clip) -> None:
    folder = publish("eat")
    single = build_frozen("eat", folder).embed(clip(0.5, 16_000), 16_000)
    rewrite(folder, **{name: values.half() for name, values in load_file(folder / "model.safetensors").items()})
    half = build_frozen("eat", folder).embed(clip(0.5, 16_000), 16_000)
    np.testing.assert_allclose(half, single, atol=0.02)


def test_a_checkpoint_is_converted(tmp_path: Path) -> None:
    source = write_beats_checkpoint(tmp_path / "BEATs_iter3.pt")
    values = convert_checkpoint(source, tmp_path / "beats")
    assert json.loads((tmp_path / "beats" / "config.json").read_text()) == BEATS_CONFIG
    written = load_file(tmp_path / "beats" / "model.safetensors")
    original = torch.load(source, weights_only=True)["model"]
    modes = {path.stat().st_mode for path in (tmp_path / "beats").iterdir()}
    assert len(modes) == 1, "others may read the configuration, but not the weights"
    assert written.keys() == original.keys()
    assert all(torch.equal(written[name], original[name]) for name in written)
    assert values == sum(tensor.numel() for tensor in original.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["BEATs_iter3.pt", "beats"]


def test_the_configuration_beside_a_checkpoint_goes_with_it(tmp_path: Path, clip: Clip, publish: Publish) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    torch.save(random_weights(CED), hub / "pytorch_model.bin")
    (hub / "config.json").write_text(json.dumps(CED_CONFIG))
    convert_checkpoint(hub / "pytorch_model.bin", tmp_path / "converted")
    sound = clip(0.5, 16_000)
    np.testing.assert_array_equal(
        build_frozen("ced", tmp_path / "converted").embed(sound, 16_000),
        build_frozen("ced", publish("ced")).embed(sound, 16_000),
    )


def test_the_converter_runs_no_code_of_the_file(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "run",)

    torch.save({"model": {"weight": torch.ones(2)}, "cfg": {"note": Evil()}}, tmp_path / "evil.pt")
    with pytest.raises(AsdError, match="cannot be read without running code"):
        convert_checkpoint(tmp_path / "evil.pt", tmp_path / "converted")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pt"]


def test_what_cannot_be_converted_is_said(tmp_path: Path, publish: Publish) -> None:
    def refused(source: Path, said: str, folder: Path = tmp_path / "converted") -> None:
        with pytest.raises(AsdError, match=said):
            convert_checkpoint(source, folder)

    refused(tmp_path / "none.pt", "no such file")
    refused(publish("ced") / "model.safetensors", "safetensors already")
    (tmp_path / "text.pt").write_text("no checkpoint")
    refused(tmp_path / "text.pt", "damaged")
    torch.save({"cfg": {}, "model": {}}, tmp_path / "empty.pt")
    refused(tmp_path / "empty.pt", "no tensors")
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    refused(tmp_path / "tensor.pt", "no tensors")
    torch.save({"weight": torch.ones(3)}, tmp_path / "bare.pt")
    refused(tmp_path / "bare.pt", "no configuration")
    source = write_beats_checkpoint(tmp_path / "BEATs_iter3.pt")
    refused(source, "is there already", tmp_path / "ced")
    assert not (tmp_path / "converted").exists()


def test_the_settings_ask_for_the_source() -> None:
    with pytest.raises(ValueError, match="encoder=ced needs source"):
        TrainingSettings(encoder="ced")
    assert not TrainingSettings(encoder="ced", source="ced-tiny").trains
