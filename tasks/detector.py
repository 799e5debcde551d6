"""The detector stage: put encoder and normality models together, and take the champion out of the registry."""

import shutil
from pathlib import Path
from typing import Any

from prefect import task

from asdcore.detector import Detector
from asdcore.encoder.network import TrainedEncoder
from asdcore.settings import Settings
from asdcore.storage.files import atomic_write, digest_of, digest_of_file
from asdcore.storage.home import Home
from tasks.normality import read_machine
from tasks.registry import CHAMPION, champion_version, registered_folder
from tasks.stage import CACHED, Result, claim, code_version, run_cached
from tasks.warn import warn


@task(name="assemble detector", **CACHED)
def assemble_detector(
    key: str,
    home: Home,
    settings: Settings,
    encoder: Path,
    machines: dict[str, Path],
    profiles: dict[str, Path],
    about: dict[str, Any],
) -> Result:
    """Write the detector's folder."""
    folder = home.runs / "detectors" / key
    fitted = {machine: read_machine(path, profiles[machine]) for machine, path in machines.items()}
    Detector(settings, TrainedEncoder.load(encoder), fitted, about).save(folder)
    return {"files": claim(home, *sorted(folder.iterdir())), "values": {"machines": sorted(machines)}}


def detector_folder(
    home: Home,
    settings: Settings,
    encoder: Path,
    machines: dict[str, Path],
    profiles: dict[str, Path],
    about: dict[str, Any],
) -> Path:
    """The folder of the detector with this encoder, these machines and their profiles (name: npz file)."""
    code = code_version("detector.py", "normality/machine.py", "explanation/profile.py")
    names = [f"{machine}={path.stem} {profiles[machine].stem}" for machine, path in sorted(machines.items())]
    key = digest_of(settings.digest(), code, encoder.parent.name, repr(sorted(about.items())), *names)
    work: dict[str, Any] = {"settings": settings, "encoder": encoder, "machines": machines, "about": about}
    run_cached(assemble_detector, key=key, home=home, profiles=profiles, **work)
    return home.runs / "detectors" / key


@task(name="change machines", **CACHED)
def change_machines(
    key: str, home: Home, base: Path, machine: str, files: tuple[Path, Path] | None, about: dict[str, Any]
) -> Result:
    """Write the detector of the folder ``base`` with this machine's model and profile, or without the machine."""
    folder = home.runs / "detectors" / key
    detector = Detector.load(base)
    if files:
        changed = detector.with_machine(machine, read_machine(*files), about)
    else:
        changed = detector.without_machine(machine)
    changed.save(folder)
    return {"files": claim(home, *sorted(folder.iterdir())), "values": {"machines": sorted(changed.machines)}}


def changed_detector(
    home: Home, base: Path, machine: str, files: tuple[Path, Path] | None, about: dict[str, Any]
) -> Path:
    """The folder of the detector in ``base`` with one machine enrolled (its model and profile), or retired (None)."""
    code = code_version("detector.py", "normality/machine.py", "explanation/profile.py")
    digests = [digest_of_file(file) for file in sorted(base.iterdir())]
    key = digest_of(code, *digests, machine, *(file.stem for file in files or ()), repr(sorted(about.items())))
    run_cached(change_machines, key=key, home=home, base=base, machine=machine, files=files, about=about)
    return home.runs / "detectors" / key


def first_encoder(home: Home, data: str, settings: Settings) -> Path | None:
    """The file of the encoder that a warm start begins with: the champion's.

    A champion that was trained on this data (a digest) with these settings gives the one that it began with itself:
    what was trained once is not trained again. None: from random weights.
    """
    if not champion_version(home):
        return None
    with registered_folder(home, CHAMPION) as (folder, version):
        champion = Detector.load(folder)
        if (champion.about["data"], champion.settings.training.digest()) == (data, settings.training.digest()):
            first = champion.about.get("warm_start")
            return home.runs / "warm-starts" / f"{first}.safetensors" if first else None
        encoder, asked = champion.encoder.encoder, settings.training
        if (encoder.architecture, encoder.z_size) != (asked.encoder, asked.z_size):
            warn(f"no warm start: the encoder of version {version} is {encoder.architecture}, z_size={encoder.z_size}")
            return None
        source = folder / "encoder.safetensors"
        kept = home.runs / "warm-starts" / f"{digest_of_file(source)[:16]}.safetensors"
        with atomic_write(kept) as temporary:
            shutil.copyfile(source, temporary)
        return kept
