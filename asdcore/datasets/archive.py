"""The zip of a machine, extracted whole or not at all, and never beyond the machine's folder."""

import json
import re
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from os import fsync
from pathlib import Path, PurePosixPath

from rich.filesize import decimal

from asdcore.errors import AsdError
from asdcore.progress import progress
from asdcore.recordings.folders import SPLIT_FOLDERS
from asdcore.storage.files import atomic_write

_COPY_BYTES = 1 << 20
# Recordings hardly shrink in a zip: what grows more than this on extraction is no archive of recordings.
_LARGEST_GROWTH = 50.0
_LARGEST_BYTES = 64 * 10**9
_MOST_MEMBERS = 100_000
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, FileExistsError, NotADirectoryError)


@dataclass(frozen=True)
class _Member:
    """A file of a zip, and where it goes below the machine's folder."""

    info: zipfile.ZipInfo
    target: PurePosixPath


def extract(zip_path: Path, checksum: str, machine_folder: Path, staging: Path) -> None:
    """Extract all of a zip, or nothing, and keep a hidden note of it in the machine's folder, for `is_extracted`.

    Args:
        zip_path: a zip whose checksum has been verified.
        checksum: of the zip, for the note.
        machine_folder: where the files go; what is there already with the same content stays.
        staging: a folder on the same disk, where they are until all are there; deleted before and afterwards.

    Raises:
        AsdError: the zip is damaged, has a file that leads out of the folder, is no plain file or is packed in an
            unusual way, would become far larger than recordings do, or another file is in the way.
    """
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with zipfile.ZipFile(zip_path) as archive:
            members = _placed(_checked(archive, zip_path), machine_folder, zip_path)
            needed = sum(member.info.file_size for member in members)
            free = shutil.disk_usage(machine_folder.parent).free
            if needed > free:
                raise AsdError(
                    f"{zip_path}: needs {decimal(needed)} extracted, but {machine_folder.parent} has {decimal(free)} "
                    "free. Free some space and run the same command again: the zip is not fetched again"
                )
            for member in progress(members, f"extracting {zip_path.name}"):
                _extract_one(archive, member.info, staging / member.target)
        _move(staging, machine_folder)
    except _DAMAGED as error:
        raise AsdError(f"{zip_path}: a damaged zip ({error}). Nothing of it is kept in {machine_folder}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sizes = {str(member.target): member.info.file_size for member in members}
    with atomic_write(_note(zip_path.name, machine_folder)) as temporary:
        temporary.write_text(json.dumps({"checksum": checksum, "files": sizes}))


def is_extracted(name: str, checksum: str, machine_folder: Path) -> bool:
    """Whether every file of a zip is in the machine's folder, whole.

    Args:
        name: file name of the zip.
        checksum: the zip's; one of another checksum was another zip.
        machine_folder: where `extract` put its files.

    Returns:
        False, too, if the note that `extract` wrote is missing or damaged.
    """
    try:
        said = json.loads(_note(name, machine_folder).read_bytes())
        return said["checksum"] == checksum and all(
            (machine_folder / file).stat().st_size == size for file, size in said["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _note(name: str, machine_folder: Path) -> Path:
    return machine_folder / f".{name}.json"


def _checked(archive: zipfile.ZipFile, zip_path: Path) -> list[zipfile.ZipInfo]:
    """The files of the zip, if it cannot do harm."""
    infos = archive.infolist()
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        parts = PurePosixPath(info.filename).parts
        if info.filename.startswith("/") or re.match(r"[A-Za-z]:|.*\\", info.filename) or ".." in parts:
            raise _refusal(zip_path, f"{info.filename!r} leads out of its folder")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refusal(zip_path, f"{info.filename!r} is a link or a device, not a file")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refusal(zip_path, f"{info.filename!r} is encrypted or packed in an unusual way")
    # What the headers say binds: zipfile reads no more of a file than that.
    total, largest = sum(info.file_size for info in infos), _LARGEST_GROWTH * zip_path.stat().st_size
    if total > min(largest, _LARGEST_BYTES) or len(infos) > _MOST_MEMBERS:
        raise _refusal(
            zip_path,
            f"it has {decimal(zip_path.stat().st_size)} and would become {decimal(total)} in {len(infos)} files",
        )
    files = [info for info in infos if not info.is_dir() and PurePosixPath(info.filename).parts[:1] != ("__MACOSX",)]
    if not files or len({PurePosixPath(info.filename) for info in files}) < len(files):
        raise _refusal(zip_path, "two of its files have one name" if files else "it holds no file")
    return files


def _refusal(zip_path: Path, reason: str) -> AsdError:
    return AsdError(f"{zip_path}: not extracted: {reason}. No archive of recordings is like that; nothing was written")


def _placed(infos: list[zipfile.ZipInfo], machine_folder: Path, zip_path: Path) -> list[_Member]:
    """Where each file goes. The folder that the zip holds all in, if it does, becomes the machine's folder."""
    paths = {info: PurePosixPath(info.filename) for info in infos}
    tops = {path.parts[0] if len(path.parts) > 1 else "" for path in paths.values()}
    if len(tops) == 1 and not tops & {"", *SPLIT_FOLDERS}:
        paths = {info: path.relative_to(path.parts[0]) for info, path in paths.items()}
    members = []
    for info, path in paths.items():
        if _differs(info, machine_folder / path) and path.match("attributes_*.csv"):
            # A machine's training and test recordings come in two zips, either of which may have a table of its own.
            path = path.with_name(f"{path.stem}_{zip_path.stem}.csv")
        if _differs(info, machine_folder / path):
            raise AsdError(
                f"{machine_folder / path}: is there already and is not what {zip_path.name} holds. Nothing was "
                "extracted; move it away, or choose another folder, and run the same command again"
            )
        members.append(_Member(info, path))
    return members


def _differs(info: zipfile.ZipInfo, there: Path) -> bool:
    """Whether something else than the zip's file is there, or in the way to it."""
    if not there.exists():
        return not next(above for above in there.parents if above.exists()).is_dir()
    return not there.is_file() or there.stat().st_size != info.file_size or zlib.crc32(there.read_bytes()) != info.CRC


def _extract_one(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No mode, owner or time of the zip is taken over; reading to the end verifies the zip's own checksum.
    with archive.open(info) as packed, path.open("xb") as file:
        shutil.copyfileobj(packed, file, _COPY_BYTES)
        file.flush()
        fsync(file.fileno())


def _move(source: Path, target: Path) -> None:
    """Move a file or folder where it is missing: a whole machine or split in one step."""
    if not target.exists():
        source.rename(target)
    elif source.is_dir():
        for path in sorted(source.iterdir()):
            _move(path, target / path.name)
