"""Against a server on loopback that answers as Zenodo does."""

import errno
import hashlib
import io
import json
import random
import shutil
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
from filelock import FileLock

from asdcore.datasets import archive as archive_module
from asdcore.datasets import dcase as module
from asdcore.datasets.dcase import RECORD_URL, RECORDS, download
from asdcore.errors import AsdError
from asdcore.recordings.names import find_recordings

CONTENT = "/content"


class Asked(NamedTuple):
    path: str
    range: str | None


class Zenodo:
    """One record's files, and how the server misbehaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.sent: dict[str, bytes] = {}
        """What is sent in place of a file, which the record says otherwise of."""
        self.asked: list[Asked] = []
        self.knows_ranges = True
        self.shift = 0
        """By how many bytes a range that is sent starts too late."""
        self.break_after: list[int] = []
        """Bytes of the body after which the next answers with a file break off."""
        self.busy: list[int] = []
        """Statuses of the next answers."""
        self.retry_after = "0"
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.url = self.root + "/api/records/{record}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def record(self, number: str) -> dict[str, Any]:
        return {
            "id": int(number),
            "metadata": {"title": "DCASE 2023 Challenge Task 2", "license": {"id": "cc-by-4.0"}},
            "links": {"self": f"{self.root}/api/records/{number}"},
            "files": [
                {
                    "id": f"0000-{i}",
                    "key": name,
                    "size": len(content),
                    "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                    "links": {"self": f"{self.root}/api/records/{number}/files/{name}{CONTENT}"},
                }
                for i, (name, content) in enumerate(self.files.items())
            ],
        }

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        self.asked.append(Asked(request.path, wanted))
        assert request.headers["Accept-Encoding"] == "identity"
        if self.busy:
            self.send(request, self.busy.pop(0), b"", {"Retry-After": self.retry_after})
        elif request.path.removeprefix("/api/records/") in {
            number for records in RECORDS.values() for number in records.values()
        }:
            text = json.dumps(self.record(request.path.rsplit("/", 1)[-1])).encode()
            self.send(request, 200, text, {"Retry-After": "60"})  # as Zenodo does with good answers too
        elif (name := request.path.removesuffix(CONTENT).rsplit("/", 1)[-1]) in self.files:
            content = self.sent.get(name, self.files[name])
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.knows_ranges else 0
            start += self.shift if start else 0
            if start and start >= len(content):
                self.send(request, 416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            stop = self.break_after.pop(0) if self.break_after else None
            self.send(request, 206 if start else 200, content[start:], headers, stop)
        else:
            self.send(request, 404, b"", {})

    def send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str],
        stop: int | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[:stop])
        request.close_connection = stop is not None

    def asked_for(self, name: str) -> list[str | None]:
        """The Range header of each request for a file."""
        return [asked.range for asked in self.asked if asked.path.endswith(f"/{name}{CONTENT}")]

    def fetched(self) -> list[str]:
        return [asked.path.split("/")[-2] for asked in self.asked if asked.path.endswith(CONTENT)]


def noise(seed: int, n: int = 4000) -> bytes:
    return random.Random(seed).randbytes(n)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return whole.getvalue()


def machine_zip(machine: str, splits: tuple[str, ...] = ("train", "test"), attributes: bytes = b"") -> bytes:
    members = {f"{machine}/{split}/section_00_{i:04d}.wav": noise(i) for split in splits for i in range(3)}
    return zipped(members | ({f"{machine}/attributes_00.csv": attributes} if attributes else {}))


def visible(folder: Path) -> list[str]:
    """Files and folders, without what a download keeps for itself."""
    paths = [path.relative_to(folder) for path in folder.rglob("*")]
    return sorted(str(p) for p in paths if not any(x.startswith((".", "zenodo-")) for x in p.parts))


def on_its_way(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".download").iterdir() if path.name != "lock")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that are waited for, of which none is."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    waited: list[float] = []
    monkeypatch.setattr(module, "sleep", waited.append)
    monkeypatch.setattr(module, "_PIECE_BYTES", 1000)
    return waited


@pytest.fixture
def zenodo(waits: list[float]) -> Iterator[Zenodo]:
    server = Zenodo()
    server.files = {
        "dev_bearing.zip": machine_zip("bearing", attributes=b"file_name,d1p,d1v\nbearing/train/a.wav,vel,6\n"),
        "dev_ToyCar.zip": machine_zip("ToyCar"),
        "readme.pdf": b"%PDF",
    }
    yield server
    server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


def test_machines_are_in_the_layout_that_ingest_reads(zenodo: Zenodo, folder: Path) -> None:
    machines = download("development", folder, record_url=zenodo.url)
    assert machines == [folder / "bearing", folder / "ToyCar"]
    assert (folder / "bearing/train/section_00_0001.wav").read_bytes() == noise(1)
    assert (folder / "bearing/attributes_00.csv").is_file()
    assert {(f.machine, f.split) for f in find_recordings(folder)} == {
        (machine, split) for machine in ("bearing", "ToyCar") for split in ("train", "test")
    }
    assert zenodo.fetched() == ["dev_bearing.zip", "dev_ToyCar.zip"]
    assert on_its_way(folder) == []
    assert not list(folder.rglob("*.zip"))


def test_the_default_is_zenodo() -> None:
    assert RECORD_URL.format(record=RECORDS[2023]["evaluation"]) == "https://zenodo.org/api/records/7860847"


def test_a_second_run_asks_for_nothing(zenodo: Zenodo, folder: Path) -> None:
    first = download("development", folder, record_url=zenodo.url)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}
    zenodo.asked.clear()
    assert download("development", folder, record_url=zenodo.url) == first
    assert download("development", folder, ["bearing"], zenodo.url) == first[:1]
    assert zenodo.asked == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")} == before


def test_only_what_is_missing_is_fetched(zenodo: Zenodo, folder: Path) -> None:
    download("development", folder, ["toycar"], zenodo.url)
    assert zenodo.fetched() == ["dev_ToyCar.zip"]
    download("development", folder, record_url=zenodo.url)
    assert zenodo.fetched() == ["dev_ToyCar.zip", "dev_bearing.zip"]


def test_what_was_deleted_comes_back(zenodo: Zenodo, folder: Path) -> None:
    download("development", folder, ["bearing"], zenodo.url)
    whole = visible(folder)
    for lost in ("bearing", "bearing/train", "bearing/test/section_00_0002.wav"):
        path = folder / lost
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        download("development", folder, ["bearing"], zenodo.url)
        assert visible(folder) == whole


def test_training_and_test_recordings_of_two_records_meet_in_one_folder(zenodo: Zenodo, folder: Path) -> None:
    train, test = b"file_name,d1p,d1v\na,car,A\n", b"file_name,d1p,d1v\nb,car,B\n"
    zenodo.files = {"eval_data_ToyDrone_train.zip": machine_zip("ToyDrone", ("train",), train)}
    download("additional", folder, record_url=zenodo.url)
    zenodo.files = {"eval_data_ToyDrone_test.zip": machine_zip("ToyDrone", ("test",), test)}
    assert download("evaluation", folder, ["ToyDrone"], zenodo.url) == [folder / "ToyDrone"]
    assert {f.split for f in find_recordings(folder)} == {"train", "test"}
    tables = sorted(path.read_bytes() for path in (folder / "ToyDrone").glob("attributes_*.csv"))
    assert tables == [train, test]
    zenodo.asked.clear()
    download("evaluation", folder, record_url=zenodo.url)
    assert zenodo.asked == []


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("dev_bearing.zip", "bearing"),
        ("eval_data_ToyDrone_train.zip", "ToyDrone"),
        ("eval_data_3DPrinter_test.zip", "3DPrinter"),
        ("dev_data_fan.zip", "fan"),
        ("eval_data_train_slide_rail.zip", "slide_rail"),
        ("eval_data_RoboticArm_train_r2.zip", "RoboticArm"),
    ],
)
@pytest.mark.parametrize("top", ["{machine}/", "", "dev_data/"])
def test_machine_comes_from_the_name_of_the_zip(
    zenodo: Zenodo, folder: Path, name: str, machine: str, top: str
) -> None:
    zenodo.files = {name: zipped({f"{top.format(machine=machine)}train/section_00_0000.wav": noise(0)})}
    assert download("development", folder, [machine], zenodo.url) == [folder / machine]
    assert (folder / machine / "train/section_00_0000.wav").is_file()


ZIPS = {
    2020: ("dev_data_{}.zip", "eval_data_train_{}.zip", "eval_data_test_{}.zip"),
    2021: ("dev_data_{}.zip", "eval_data_{}_train.zip", "eval_data_{}_test.zip"),
    2024: ("dev_{}.zip", "eval_data_{}_train_r2.zip", "eval_data_{}_test.zip"),
} | dict.fromkeys((2022, 2023, 2025), ("dev_{}.zip", "eval_data_{}_train.zip", "eval_data_{}_test.zip"))
"""Names of the zips of each year: development, additional training, evaluation."""
EVALUATED = {2020: "fan", 2021: "fan", 2022: "fan", 2023: "bandsaw", 2024: "3DPrinter", 2025: "Polisher"}
RECORDINGS = {
    2020: ("train/normal_id_00_0.wav test/anomaly_id_00_0.wav", "train/normal_id_01_0.wav", "test/id_01_0.wav"),
    2021: (
        "train/section_00_target_train_normal_0_a.wav target_test/section_00_target_test_anomaly_0.wav",
        "train/section_03_source_train_normal_0_a.wav",
        "source_test/section_03_source_test_0.wav",
    ),
    2022: (
        "train/section_00_source_train_normal_0_vel_6.wav test/section_00_target_test_anomaly_0_vel_6.wav",
        "train/section_03_source_train_normal_0_vel_6.wav",
        "test/section_03_test_0.wav",
    ),
}
RECORDINGS |= dict.fromkeys(
    (2023, 2024, 2025),
    (
        "train/section_00_source_train_normal_0_noAttribute.wav test/section_00_target_test_anomaly_0_noAttribute.wav",
        "train/section_00_source_train_normal_0_noAttribute.wav supplemental/section_00_machine_0.wav",
        "test/section_00_0.wav",
    ),
)


@pytest.mark.parametrize("year", RECORDS)
def test_the_three_records_of_a_year_become_machines_with_training_and_test_recordings(
    zenodo: Zenodo, folder: Path, year: int
) -> None:
    for part, name, members in zip(RECORDS[year], ZIPS[year], RECORDINGS[year], strict=True):
        machine = "fan" if part == "development" else EVALUATED[year]
        files = {f"{machine}/{member}": noise(index) for index, member in enumerate(members.split())}
        zenodo.files = {name.format(machine): zipped(files)}
        assert download(part, folder, record_url=zenodo.url, year=year) == [folder / machine]
        assert (folder / f"zenodo-{RECORDS[year][part]}.json").is_file()
    found = [one for one in find_recordings(folder) if not one.problem]
    assert len(found) == 4
    assert {one.machine for one in found} == {"fan", EVALUATED[year]}
    assert {(one.split, one.label) for one in found} == {("train", "normal"), ("test", "anomaly"), ("test", "unknown")}
    # The test recordings of 2021 name their domain; later ones hide it, and 2020 has none.
    domains = {2020: {"source"}, 2021: {"source", "target"}}
    assert {one.domain for one in found} == domains.get(year, {"source", "target", "unknown"})


def test_two_years_in_one_folder_are_refused_before_anything_is_fetched(zenodo: Zenodo, folder: Path) -> None:
    download("development", folder, ["bearing"], zenodo.url)
    zenodo.asked.clear()
    with pytest.raises(AsdError, match=r"holds recordings of 2023 \(zenodo-7882613.json\).*2024.*another folder"):
        download("development", folder, ["bearing"], zenodo.url, year=2024)
    assert zenodo.asked == []


def test_an_unknown_year_is_refused_with_those_there_are(folder: Path) -> None:
    with pytest.raises(AsdError, match="year=2019, must be one of 2020, 2021, 2022, 2023, 2024, 2025"):
        download("development", folder, year=2019)


def test_an_unknown_machine_is_named_with_those_there_are(zenodo: Zenodo, folder: Path) -> None:
    with pytest.raises(AsdError, match=r"pump.*7882613.*ToyCar, bearing"):
        download("development", folder, ["bearing", "pump"], zenodo.url)
    assert zenodo.fetched() == []


def test_an_unknown_part_is_refused(folder: Path) -> None:
    with pytest.raises(AsdError, match="part='training', must be one of development, additional, evaluation"):
        download("training", folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [b"<html>", b"{}", b'{"files": [{"key": "dev_fan.zip"}]}', b'{"files": []}'])
def test_what_is_no_record_is_refused(
    zenodo: Zenodo, folder: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "dumps", lambda _: text.decode())
    with pytest.raises(AsdError, match="record"):
        download("development", folder, record_url=zenodo.url)
    assert visible(folder) == []


def test_a_broken_connection_goes_on_where_it_stopped(zenodo: Zenodo, folder: Path) -> None:
    zenodo.break_after = [5000, 2000]
    download("development", folder, ["bearing"], zenodo.url)
    assert zenodo.asked_for("dev_bearing.zip") == [None, "bytes=5000-", "bytes=7000-"]
    assert (folder / "bearing/train/section_00_0001.wav").read_bytes() == noise(1)


def test_the_next_run_goes_on_where_a_given_up_one_stopped(zenodo: Zenodo, folder: Path, waits: list[float]) -> None:
    zenodo.break_after = [1000] * 5
    with pytest.raises(AsdError, match=r"dev_bearing.zip.*broke the connection, 5 times.*run the same command again"):
        download("development", folder, ["bearing"], zenodo.url)
    assert waits == [1, 2, 4, 8]
    assert visible(folder) == []
    assert on_its_way(folder) == ["dev_bearing.zip.partial"]
    zenodo.asked.clear()
    download("development", folder, ["bearing"], zenodo.url)
    assert zenodo.asked_for("dev_bearing.zip") == ["bytes=5000-"]
    assert (folder / "bearing/train/section_00_0001.wav").read_bytes() == noise(1)


def test_a_server_that_knows_no_ranges_sends_all_again(zenodo: Zenodo, folder: Path) -> None:
    zenodo.knows_ranges = False
    zenodo.break_after = [5000]
    download("development", folder, ["bearing"], zenodo.url)
    assert zenodo.asked_for("dev_bearing.zip") == [None, "bytes=5000-"]
    assert (folder / "bearing/train/section_00_0001.wav").read_bytes() == noise(1)


def test_a_server_that_goes_on_elsewhere_is_asked_for_all_again(zenodo: Zenodo, folder: Path) -> None:
    zenodo.break_after, zenodo.shift = [5000], 100
    download("development", folder, ["bearing"], zenodo.url)
    assert zenodo.asked_for("dev_bearing.zip") == [None, "bytes=5000-", None]


def test_a_busy_server_is_asked_again_when_it_says(zenodo: Zenodo, folder: Path, waits: list[float]) -> None:
    zenodo.busy, zenodo.retry_after = [429, 503], "7"
    download("development", folder, ["bearing"], zenodo.url)
    assert waits == [7, 7]
    zenodo.busy, zenodo.retry_after = [429], "99999"
    download("development", folder, ["ToyCar"], zenodo.url)
    assert waits == [7, 7, 60]


def test_a_record_that_is_not_there_is_not_asked_for_again(zenodo: Zenodo, folder: Path, waits: list[float]) -> None:
    with pytest.raises(AsdError, match="404"):
        download("development", folder, record_url=zenodo.root + "/nothing/{record}")
    assert len(zenodo.asked) == 1
    assert waits == []


def test_a_wrong_checksum_is_named_and_nothing_is_kept(zenodo: Zenodo, folder: Path) -> None:
    right = zenodo.files["dev_bearing.zip"]
    wrong = right[:-1] + b"?"
    zenodo.sent["dev_bearing.zip"] = wrong
    with pytest.raises(AsdError) as refused:
        download("development", folder, ["bearing"], zenodo.url)
    for word in ("dev_bearing.zip", hashlib.md5(right).hexdigest(), hashlib.md5(wrong).hexdigest()):
        assert word in str(refused.value)
    assert visible(folder) == []
    assert on_its_way(folder) == []
    zenodo.sent.clear()
    assert download("development", folder, ["bearing"], zenodo.url) == [folder / "bearing"]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_truncated_file_is_refused(zenodo: Zenodo, folder: Path, knows_ranges: bool) -> None:
    zenodo.sent["dev_bearing.zip"] = zenodo.files["dev_bearing.zip"][:3000]
    zenodo.knows_ranges = knows_ranges
    with pytest.raises(AsdError, match=f"dev_bearing.zip.*{len(zenodo.files['dev_bearing.zip'])} bytes"):
        download("development", folder, ["bearing"], zenodo.url)
    assert len(zenodo.asked_for("dev_bearing.zip")) == 5
    assert visible(folder) == []


def test_a_longer_file_is_refused_before_it_fills_the_disk(zenodo: Zenodo, folder: Path) -> None:
    zenodo.sent["dev_bearing.zip"] = zenodo.files["dev_bearing.zip"] + bytes(100)
    with pytest.raises(AsdError, match="more than"):
        download("development", folder, ["bearing"], zenodo.url)
    assert on_its_way(folder) == []


def test_offline_the_message_says_what_to_do_by_hand(folder: Path, waits: list[float]) -> None:
    closed = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    root = f"http://127.0.0.1:{closed.server_address[1]}"
    closed.server_close()
    with pytest.raises(AsdError) as refused:
        download("development", folder, record_url=root + "/api/records/{record}")
    for word in (
        f"{root[7:]} cannot be reached",
        f"zips of {root}/records/7882613",
        f"{root}/api/records/7882613 (save it as zenodo-7882613.json)",
        str(folder),
    ):
        assert word in str(refused.value)
    assert visible(folder) == []


def test_files_put_there_by_hand_are_used_without_a_connection(zenodo: Zenodo, folder: Path) -> None:
    folder.mkdir()
    (folder / "zenodo-7882613.json").write_text(json.dumps(zenodo.record("7882613")))
    (folder / "dev_bearing.zip").write_bytes(zenodo.files["dev_bearing.zip"])
    zenodo.busy = [503] * 100
    assert download("development", folder, ["bearing"], zenodo.url) == [folder / "bearing"]
    assert (folder / "bearing/train/section_00_0001.wav").is_file()
    assert zenodo.fetched() == []
    assert not (folder / "dev_bearing.zip").exists()


def test_a_damaged_file_put_there_by_hand_is_named_and_left(zenodo: Zenodo, folder: Path) -> None:
    folder.mkdir()
    (folder / "dev_bearing.zip").write_bytes(b"half")
    with pytest.raises(AsdError, match=r"dev_bearing.zip: the checksum is md5:.*, expected md5:.*delete it"):
        download("development", folder, record_url=zenodo.url)
    assert (folder / "dev_bearing.zip").read_bytes() == b"half"


def special(mode: int, content: bytes = b"/etc") -> bytes:
    info = zipfile.ZipInfo("bearing/train/link")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("bearing/train/a.wav", noise(0))
        archive.writestr(info, content)
    return whole.getvalue()


def with_flipped_byte(content: bytes) -> bytes:
    at = content.index(b"PK\x01\x02") // 2
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


GOOD = {"bearing/train/a.wav": noise(0), "bearing/train/b.wav": noise(1)}
MALICIOUS = {
    "parent": (zipped(GOOD | {"bearing/../../escaped.wav": b"x"}), "leads out"),
    "drive": (zipped(GOOD | {"C:/escaped.wav": b"x"}), "leads out"),
    "backslash": (zipped(GOOD | {"bearing\\..\\..\\escaped.wav": b"x"}), "leads out"),
    "link": (special(stat.S_IFLNK), "link"),
    "device": (special(stat.S_IFCHR), "device"),
    "pipe": (special(stat.S_IFIFO), "device"),
    "bomb": (zipped(GOOD | {"bearing/train/zeros.wav": bytes(20_000_000)}), "would become 20"),
    "many": (zipped({f"bearing/train/{i}": b"" for i in range(60)}), "60 files"),
    "unusual": (zipped(GOOD, zipfile.ZIP_LZMA), "unusual"),
    "nothing": (zipped({}), "no file"),
    "same": (zipped(GOOD | {"bearing/./train/a.wav": b"x"}), "one name"),
    "file as folder": (zipped(GOOD | {"bearing/train/a.wav/b.wav": b"x"}), "damaged"),
    "flipped": (with_flipped_byte(zipped(GOOD)), "damaged"),
    "cut": (zipped(GOOD)[:-30], "damaged"),
}


@pytest.mark.parametrize("kind", MALICIOUS)
def test_a_malicious_or_damaged_zip_leaves_nothing(
    zenodo: Zenodo, folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "_MOST_MEMBERS", 50)
    zenodo.files["dev_bearing.zip"], reason = MALICIOUS[kind]
    with pytest.raises(AsdError, match=f"dev_bearing.zip.*{reason}"):
        download("development", folder, ["bearing"], zenodo.url)
    assert visible(folder) == []
    assert not list(folder.parent.rglob("*escaped*"))
    assert "extracting" not in on_its_way(folder)


def test_an_absolute_path_in_a_zip_is_refused(zenodo: Zenodo, folder: Path, tmp_path: Path) -> None:
    zenodo.files["dev_bearing.zip"] = zipped(GOOD | {f"{tmp_path}/escaped.wav": b"x"})
    with pytest.raises(AsdError, match="leads out"):
        download("development", folder, ["bearing"], zenodo.url)
    assert visible(folder) == []
    assert not (tmp_path / "escaped.wav").exists()


def test_what_a_desktop_adds_to_a_zip_is_left_out(zenodo: Zenodo, folder: Path) -> None:
    zenodo.files["dev_bearing.zip"] = zipped(GOOD | {"__MACOSX/bearing/train/._a.wav": b"x"})
    download("development", folder, ["bearing"], zenodo.url)
    assert visible(folder) == ["bearing", "bearing/train", "bearing/train/a.wav", "bearing/train/b.wav"]


def test_a_zip_that_lies_about_its_sizes_is_refused(zenodo: Zenodo, folder: Path) -> None:
    bomb = zipped(GOOD | {"bearing/train/zeros.wav": bytes(5_000_000)})
    true, said = (5_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    assert bomb.count(true) == 2  # in the file's header and in the directory
    zenodo.files["dev_bearing.zip"] = bomb.replace(true, said)
    with pytest.raises(AsdError, match="damaged"):
        download("development", folder, ["bearing"], zenodo.url)
    assert visible(folder) == []


def test_the_modes_of_a_zip_are_not_taken_over(zenodo: Zenodo, folder: Path) -> None:
    zenodo.files["dev_bearing.zip"] = special(stat.S_IFREG | stat.S_ISUID)
    download("development", folder, ["bearing"], zenodo.url)
    assert (folder / "bearing/train/link").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR) == 0


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_stopped_extraction_leaves_no_machine(
    zenodo: Zenodo, folder: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    copied = 0

    def copy(source: IO[bytes], target: IO[bytes], length: int) -> None:
        nonlocal copied
        copied += 1
        target.write(source.read(1000))
        if copied == 3:
            raise stop
        target.write(source.read())

    monkeypatch.setattr(shutil, "copyfileobj", copy)
    with pytest.raises((AsdError, KeyboardInterrupt)) as stopped:
        download("development", folder, ["bearing"], zenodo.url)
    if isinstance(stop, OSError):
        assert "disk is full" in str(stopped.value)
    assert copied == 3
    assert visible(folder) == []
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    download("development", folder, ["bearing"], zenodo.url)
    assert zenodo.fetched() == ["dev_bearing.zip"]
    assert len(find_recordings(folder)) == 6


def test_what_a_killed_run_left_is_cleared(zenodo: Zenodo, folder: Path) -> None:
    work = folder / ".download"
    (work / "extracting/train").mkdir(parents=True)
    (work / "extracting/train/half.wav").write_bytes(b"half")
    (work / "tmpabcdefgh").write_bytes(b"pooch's")
    (folder / "bearing/train").mkdir(parents=True)
    (folder / "bearing/train/section_00_0000.wav").write_bytes(noise(0))  # moved already, the marker not written yet
    download("development", folder, ["bearing"], zenodo.url)
    assert on_its_way(folder) == []
    assert len(find_recordings(folder)) == 6


@pytest.mark.parametrize("mine", ["bearing", "bearing/train", "bearing/train/section_00_0001.wav"])
def test_a_file_in_the_way_is_named_and_never_overwritten(zenodo: Zenodo, folder: Path, mine: str) -> None:
    (folder / mine).parent.mkdir(parents=True)
    (folder / mine).write_bytes(b"mine")
    before = visible(folder)
    with pytest.raises(AsdError, match=r"section_00_000\d.wav: is there already|attributes_00.*is there already"):
        download("development", folder, ["bearing"], zenodo.url)
    assert (folder / mine).read_bytes() == b"mine"
    assert visible(folder) == before


def test_a_recording_that_was_cut_since_is_found_out(zenodo: Zenodo, folder: Path) -> None:
    download("development", folder, ["bearing"], zenodo.url)
    (folder / "bearing/train/section_00_0001.wav").write_bytes(b"cut")
    with pytest.raises(AsdError, match=r"section_00_0001.wav: is there already and is not what dev_bearing.zip holds"):
        download("development", folder, ["bearing"], zenodo.url)


def test_too_little_space_is_said_before_anything_is_fetched(
    zenodo: Zenodo, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 9000))
    with pytest.raises(AsdError, match=r"9.0 kB free.*dev_bearing.zip, dev_ToyCar.zip need about"):
        download("development", folder, record_url=zenodo.url)
    assert zenodo.fetched() == []


def test_a_zip_that_grows_beyond_the_free_space_is_not_extracted(
    zenodo: Zenodo, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zenodo.files["dev_bearing.zip"] = zipped(GOOD | {"bearing/train/zeros.wav": bytes(200_000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 100_000))
    with pytest.raises(AsdError, match=r"needs 208.0 kB extracted.*100.0 kB free"):
        download("development", folder, ["bearing"], zenodo.url)
    assert visible(folder) == []


def test_a_disk_that_fills_up_is_said_and_the_part_is_kept(
    zenodo: Zenodo, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_resume", full)
        with pytest.raises(AsdError, match=r"dev_bearing.zip: the disk is full.*again"):
            download("development", folder, ["bearing"], zenodo.url)
    assert download("development", folder, ["bearing"], zenodo.url) == [folder / "bearing"]


def test_two_downloads_into_one_folder_wait_for_each_other(
    zenodo: Zenodo, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".download").mkdir(parents=True)
    other = FileLock(folder / ".download/lock")
    other.acquire()
    done: list[Path] = []
    second = threading.Thread(target=lambda: done.extend(download("development", folder, ["bearing"], zenodo.url)))
    second.start()
    second.join(0.2)
    assert zenodo.asked == []
    other.release()
    second.join(10)
    assert done == [folder / "bearing"]
    assert "waiting for another process" in capsys.readouterr().err
