"""The challenge's recordings from Zenodo: fetched, verified, extracted, once.

A record of Zenodo says of each of its files the name, the size, the checksum and the address. Only what agrees with
it is kept. In the folder of the recordings stand afterwards ``<machine>/{train,test}/``, the record as
``zenodo-<number>.json``, and in a hidden folder what is still on its way.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import pooch  # type: ignore[import-untyped]
import requests
from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, ValidationError
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from asdcore.datasets.archive import extract, is_extracted
from asdcore.errors import AsdError
from asdcore.progress import say
from asdcore.storage.files import atomic_write, disk_remedies

T = TypeVar("T")

ELSEWHERE = "choose another folder"
Part = Literal["development", "additional", "evaluation"]

RECORDS: dict[int, dict[Part, str]] = {
    2020: {"development": "3678171", "additional": "3727685", "evaluation": "3841772"},
    2021: {"development": "4562016", "additional": "4660992", "evaluation": "4884786"},
    2022: {"development": "6355122", "additional": "6462969", "evaluation": "6586456"},
    2023: {"development": "7882613", "additional": "7830345", "evaluation": "7860847"},
    2024: {"development": "10902294", "additional": "11259435", "evaluation": "11363076"},
    2025: {"development": "15097779", "additional": "15392814", "evaluation": "15519362"},
}
"""Year of DCASE Challenge Task 2: its records. Machines to develop with, then the training and the test recordings of
those that are evaluated.

Source: the official baseline, github.com/nttcslab/dcase2023_task2_baseline_ae: ``datasets/download_path_legacy.yaml``
for 2020 to 2022, README files and ``data_download_*.sh`` for 2023 to 2025.
"""
RECORD_URL = "https://zenodo.org/api/records/{record}"

# 2020: dev_data_fan.zip, eval_data_train_fan.zip; 2021: eval_data_fan_train.zip; since 2022: dev_bearing.zip,
# eval_data_ToyDrone_train.zip; 2024: eval_data_RoboticArm_train_r2.zip, a corrected one
_ZIP_NAME = re.compile(
    r"(?:dev|eval|add)(?:_data)?(?:_(?:train|test))?_(?P<machine>[A-Za-z0-9][\w+-]*?)(?:_(?:train|test)(?:_r\d+)?)?\.zip"
)
_ATTEMPTS = 5
_WAIT_SECONDS = 1.0  # before the second attempt; twice as long before each further one
_LONGEST_WAIT_SECONDS = 60.0  # Zenodo counts requests by the minute
_TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, between two pieces
_TRY_AGAIN = {429, 500, 502, 503, 504}
_PIECE_BYTES = 1 << 16  # what is lost at most when a connection breaks
_USUAL_GROWTH = 2.0  # of recordings, which hardly shrink in a zip


class _Links(BaseModel):
    self: str


class _File(BaseModel):
    key: str
    size: int = Field(ge=0)
    checksum: str = Field(pattern=r"^(md5|sha1|sha256|sha512):[0-9a-fA-F]+$")
    links: _Links


class _Record(BaseModel):
    files: list[_File]


@dataclass(frozen=True)
class _Archive:
    """A zip of a record."""

    name: str
    machine: str
    size: int
    checksum: str
    url: str


@dataclass(frozen=True)
class _Source:
    """Where a record is, and where it goes."""

    url: str
    number: str
    folder: Path

    @property
    def saved(self) -> Path:
        return self.folder / f"zenodo-{self.number}.json"

    @property
    def remedy(self) -> str:
        site = urlsplit(self.url)
        return (
            "Look to the connection and run the same command again: it resumes where it stopped. Or fetch by hand the "
            f"zips of {site.scheme}://{site.netloc}/records/{self.number} and {self.url} (save it as "
            f"{self.saved.name}), put them into {self.folder}, and run the same command again."
        )


class _Again(Exception):
    """An attempt failed in a way that another one may not. ``wait``: the seconds that the server asks for."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


def download(
    part: Part,
    folder: Path,
    machines: Sequence[str] | None = None,
    record_url: str = RECORD_URL,
    year: int = 2023,
) -> list[Path]:
    """Fetch recordings of DCASE Challenge Task 2 from Zenodo into ``folder/<machine>/{train,test}/``.

    What is there already is neither fetched nor extracted again, and a download that broke off resumes where it
    stopped. A zip is deleted once it is extracted. A file that is there with another content is never overwritten.

    Args:
        part: ``development``, ``additional`` (training recordings of the new machines) or ``evaluation`` (their test
            recordings, without labels).
        folder: made if need be. A zip that was put there by hand is used, if its checksum is right.
        machines: in any case of letters; all of the record if None.
        record_url: address of the record's JSON, with ``{record}`` for its number.
        year: of the challenge, see `RECORDS`. Since years share names of machines, each needs a folder of its own.

    Returns:
        The folder of each machine, in the order of the record.

    Raises:
        AsdError: an unknown year, part or machine, a folder that holds another year, no connection, a wrong size or
            checksum, a zip that is damaged or would write outside its folder, a file in the way, too little space.
            Nothing partial has a machine's name then.
    """
    if year not in RECORDS:
        raise AsdError(f"year={year}, must be one of {', '.join(map(str, RECORDS))}")
    records = RECORDS[year]
    if part not in records:
        raise AsdError(f"part={part!r}, must be one of {', '.join(records)}")
    folder = folder.expanduser().resolve()
    _refuse_other_years(folder, year)
    source = _Source(record_url.format(record=records[part]), records[part], folder)
    if source.saved.is_file():
        chosen = _choose(_read_record(source.saved.read_bytes(), str(source.saved)), machines, source)
        if not _pending(chosen, folder):
            return _machine_folders(chosen, folder)
    with disk_remedies(folder, ELSEWHERE), _only_one_in(folder) as work:
        chosen = _choose(_fetch_record(source), machines, source)
        pending = _pending(chosen, folder)
        _require_space(pending, folder, work)
        for archive in pending:
            zip_path = _fetch(archive, source, work)
            with disk_remedies(zip_path, ELSEWHERE):
                extract(zip_path, archive.checksum, folder / archive.machine, work / "extracting")
                zip_path.unlink()
    return _machine_folders(chosen, folder)


def _refuse_other_years(folder: Path, year: int) -> None:
    """A fan of 2023 and a fan of 2024 in one folder would be taken for one machine."""
    for other, records in RECORDS.items():
        numbers = [number for number in records.values() if (folder / f"zenodo-{number}.json").exists()]
        if other != year and numbers:
            raise AsdError(
                f"{folder}: holds recordings of {other} (zenodo-{numbers[0]}.json), and machines of {year} may have "
                "the same names: choose another folder"
            )


def _machine_folders(archives: Sequence[_Archive], folder: Path) -> list[Path]:
    return list(dict.fromkeys(folder / archive.machine for archive in archives))


def _pending(archives: Sequence[_Archive], folder: Path) -> list[_Archive]:
    """Those that are not extracted yet."""
    return [one for one in archives if not is_extracted(one.name, one.checksum, folder / one.machine)]


def _fetch_record(source: _Source) -> list[_Archive]:
    """The zips that the record lists; from the record that an earlier run saved if the host cannot be reached."""

    def attempt() -> bytes:
        with _open(source.url, source) as response:
            return response.content

    try:
        text = _persistently(attempt, source.url, source)
    except AsdError:
        if not source.saved.is_file():
            raise
        say(f"{source.url} gives no record; going on with {source.saved}")
        return _read_record(source.saved.read_bytes(), str(source.saved))
    archives = _read_record(text, source.url)
    with atomic_write(source.saved) as temporary:
        temporary.write_bytes(text)
    return archives


def _read_record(text: bytes, place: str) -> list[_Archive]:
    try:
        files = _Record.model_validate_json(text).files
    except ValidationError as error:
        raise AsdError(
            f"{place}: not a record of Zenodo with its files ({error.errors()[0]['msg']}). If it is a file, delete it "
            "and run the same command again"
        ) from error
    named = [(file, _ZIP_NAME.fullmatch(file.key)) for file in files]
    archives = [_Archive(f.key, m["machine"], f.size, f.checksum.lower(), f.links.self) for f, m in named if m]
    if not archives:
        raise AsdError(f"{place}: the record has no zip of a machine, only {[file.key for file in files]}")
    return archives


def _choose(archives: list[_Archive], machines: Sequence[str] | None, source: _Source) -> list[_Archive]:
    if machines is None:
        return archives
    there = {archive.machine.lower(): archive.machine for archive in archives}
    unknown = sorted(machine for machine in machines if machine.lower() not in there)
    if unknown:
        raise AsdError(
            f"no recordings of {', '.join(unknown)} in the record {source.number}; there are recordings of "
            f"{', '.join(sorted(there.values()))}"
        )
    asked = {machine.lower() for machine in machines}
    return [archive for archive in archives if archive.machine.lower() in asked]


@contextmanager
def _open(url: str, source: _Source, start: int = 0) -> Iterator[requests.Response]:
    """The answer to one request, from byte ``start`` on if the server can: its status is 200, 206 or 416."""
    # Compressed on the way, a body would have other bytes than the file.
    headers = {"User-Agent": "asd (anomalous sound detection)", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Again("cannot be reached") from error
    except requests.RequestException as error:
        raise AsdError(f"{url}: {error}. {source.remedy}") from error
    with response:
        if response.status_code in _TRY_AGAIN:
            # Zenodo sends Retry-After with good answers too: it counts with these only.
            asked = response.headers.get("Retry-After", "")
            wait = float(asked) if asked.isdecimal() else None
            raise _Again(f"answers {response.status_code} {response.reason}", wait)
        if response.status_code not in (200, 206, 416):
            raise AsdError(f"{url}: the server answers {response.status_code} {response.reason}. {source.remedy}")
        try:
            yield response
        except requests.RequestException as error:
            raise _Again("broke the connection") from error


def _persistently(attempt: Callable[[], T], url: str, source: _Source) -> T:
    """What ``attempt`` returns, after a bounded number of attempts that raise `_Again`."""
    host = urlsplit(url).netloc
    for count in range(1, _ATTEMPTS + 1):
        try:
            return attempt()
        except _Again as problem:
            if count == _ATTEMPTS:
                raise AsdError(f"{url}: {host} {problem}, {count} times. {source.remedy}") from problem
            wait = _WAIT_SECONDS * 2 ** (count - 1) if problem.wait is None else problem.wait
            wait = min(wait, _LONGEST_WAIT_SECONDS)
            say(f"{host} {problem}; trying again in {wait:g} s")
            sleep(wait)
    raise AssertionError("unreachable")


def _fetch(archive: _Archive, source: _Source, work: Path) -> Path:
    """The path of the verified zip: the one that was put into the folder by hand, or a fetched one in ``work``."""
    by_hand = source.folder / archive.name
    if by_hand.is_file():
        algorithm = archive.checksum.split(":")[0]
        got = f"{algorithm}:{pooch.file_hash(str(by_hand), alg=algorithm)}"
        if got != archive.checksum:
            raise AsdError(
                f"{by_hand}: the checksum is {got}, expected {archive.checksum}. It is damaged or not complete: "
                "delete it, or wait until its download has ended, and run the same command again"
            )
        return by_hand
    fetched = work / archive.name

    def resume(url: str, output_file: str, _pooch: object, check_only: bool = False) -> None:
        partial = work / f"{archive.name}.partial"
        with _byte_bar(archive) as at:
            _persistently(lambda: _resume(archive, partial, source, at), url, source)
        partial.replace(output_file)

    pooch.get_logger().setLevel("WARNING")
    with disk_remedies(fetched, ELSEWHERE):
        try:
            pooch.retrieve(archive.url, archive.checksum, fname=archive.name, path=work, downloader=resume)
        except ValueError as error:  # pooch names the file, the expected and the actual checksum, and has deleted it
            raise AsdError(f"{archive.url}: {error} Run the same command again to fetch it again") from error
    return fetched


def _resume(archive: _Archive, partial: Path, source: _Source, at: Callable[[int], None]) -> None:
    """Bring ``partial`` to the whole size; ``at`` hears how many bytes there are."""
    start = partial.stat().st_size if partial.exists() else 0
    if start == archive.size and partial.exists():
        return
    if start > archive.size:
        partial.unlink()
        start = 0
    with _open(archive.url, source, start) as response:
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if response.status_code == 416 or (response.status_code == 206 and not goes_on):
            partial.unlink(missing_ok=True)
            raise _Again(f"has nothing to send from byte {start} on, though {archive.name} has {archive.size} bytes")
        # A server that does not know ranges sends the whole file.
        with partial.open("ab" if response.status_code == 206 else "wb") as file:
            for piece in response.iter_content(_PIECE_BYTES):
                file.write(piece)
                at(file.tell())
                if file.tell() > archive.size:
                    partial.unlink()
                    raise AsdError(f"{archive.url}: sends more than the {archive.size} bytes that the record says")
            written = file.tell()
    if written < archive.size:
        raise _Again(f"ended {archive.name} at {written} of {archive.size} bytes")


@contextmanager
def _byte_bar(archive: _Archive) -> Iterator[Callable[[int], None]]:
    """Yield what is told how many bytes there are."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(archive.name, total=archive.size)
        yield lambda n_bytes: bar.update(task, completed=n_bytes)


@contextmanager
def _only_one_in(folder: Path) -> Iterator[Path]:
    """Yield the hidden folder for what is on its way, as the only process that downloads into ``folder``."""
    work = folder / ".download"
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process, which downloads into {folder}")
        lock.acquire()
    try:
        for left in work.glob("tmp*"):  # pooch's, of a killed process
            left.unlink()
        yield work
    finally:
        lock.release()


def _require_space(pending: Sequence[_Archive], folder: Path, work: Path) -> None:
    """One zip is on the disk at a time, next to all that is extracted."""
    if not pending:
        return
    there = sum(path.stat().st_size for path in work.glob("*.zip*"))
    zipped = max((archive.size for archive in pending if not (folder / archive.name).is_file()), default=0)
    extracted = round(_USUAL_GROWTH * sum(archive.size for archive in pending))
    free = shutil.disk_usage(folder).free
    if zipped + extracted - there > free:
        raise AsdError(
            f"{folder}: has {decimal(free)} free, but {', '.join(archive.name for archive in pending)} need about "
            f"{decimal(zipped + extracted - there)} ({decimal(zipped)} for the largest zip, {decimal(extracted)} "
            "extracted). Free some space, choose another folder, or name fewer machines"
        )
