"""Whatever is in a file: it is read, or there is a reason why not."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, example, given

from asdcore.recordings.audio import BadRecording, decode, examine
from asdcore.settings import RecordingSettings
from tests.fuzz.odd_files import IN_MEMORY, audio_files, corpus, wav

SETTINGS = RecordingSettings()


@given(audio_files())
@example(b"")
@example(b"RIFF")
@example(wav(0)[:24] + b"\xff\xff\xff\x7f" + wav(0)[28:])  # a sample rate of 2 GHz
@example(wav(0)[:22] + b"\x00\x04" + wav(0)[24:])  # 1024 channels
@example(wav(0)[:40] + b"\x00\x00\xff\x7f" + wav(0)[44:])  # GStreamer
@example(corpus()["WAV GSM610 1"])
@example(corpus()["AIFF PCM_16 1"][:3000])
def test_a_file_is_read_or_refused_with_a_reason(content: bytes) -> None:
    try:
        examined = examine(content, SETTINGS)
    except BadRecording as bad:
        event("refused")
        assert str(bad)
        assert len(str(bad)) < 500
        with pytest.raises(BadRecording):
            decode(content, SETTINGS)
        return
    event("read")
    waveform = decode(content, SETTINGS)
    assert np.isfinite(waveform.samples).all()
    assert waveform.seconds == pytest.approx(examined.seconds)
    assert waveform.sample_rate == examined.sample_rate


@given(audio_files())
@example(corpus()["WAV G721_32 1"])
def test_a_file_on_disk_is_the_same_as_its_content(content: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        path = Path(folder) / "a.wav"
        path.write_bytes(content)
        assert _outcome(path) == _outcome(content)
        assert path.read_bytes() == content


def _outcome(source: Path | bytes) -> object:
    try:
        return examine(source, SETTINGS)
    except BadRecording as bad:
        return str(bad).split(":")[0]
