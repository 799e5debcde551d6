from pathlib import Path

import pyarrow.parquet as pq

from asdcore.recordings.catalog import Catalog
from asdcore.recordings.names import find_recordings
from asdcore.settings import RecordingSettings
from tests.asdcore.conftest import Recorder


def test_a_table_of_an_older_version_takes_no_sound_for_another(tmp_path: Path, record: Recorder) -> None:
    place, table = tmp_path / "recordings", tmp_path / "table"
    for seed in range(3):
        record(place / "pump" / f"{seed}.wav", seed)
    Catalog(table).ingest(find_recordings(place), RecordingSettings())
    (part,) = table.glob("part-*.parquet")
    pq.write_table(pq.read_table(part).drop(["sound", "codec"]), part)

    (place / "pump" / "2.wav").rename(place / "pump" / "moved.wav")
    record(place / "pump" / "3.wav", 3)
    done = Catalog(table).ingest(find_recordings(place), RecordingSettings())
    assert (done.added, done.known, done.duplicates, done.quarantined) == (1, 3, 0, {})
    assert len(Catalog(table).recordings) == 4
