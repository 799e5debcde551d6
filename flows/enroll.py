"""The flows `enroll` and `retire`: one machine more, one less, everything else as it is."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.evaluation.systems import detector_system
from asdcore.recordings.catalog import Catalog, require_training, training_recordings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from tasks.baselines import spectra
from tasks.detector import changed_detector
from tasks.encoder import embeddings_of
from tasks.evaluation import any_simulated, publish
from tasks.features import complete_features, feature_store
from tasks.normality import failed_enrolment_checks, normality_models, profiles, read_reliability, reliability_reports
from tasks.recordings import data_digest, ingest_recordings
from tasks.registry import (
    CHAMPION,
    champion_version,
    registered_folder,
    registered_version,
    set_champion,
    was_champion,
)
from tasks.tracking import failed_if_it_fails, log_reliability, tracked_run
from tasks.warn import warn


@flow(name="enroll")
def enroll(
    machine: str, recordings: Path, model: str = CHAMPION, force: bool = False, home: Path | None = None
) -> dict[str, Any]:
    """Fit, calibrate and register one machine more, with the encoder as it is.

    Args:
        machine: its name. An enrolled one is fitted anew, on all its normal training recordings.
        recordings: a folder or manifest of its normal recordings; test recordings there are ingested, too.
        model: alias or version of the detector that gets the machine.
        force: enroll it whatever speaks against its recordings.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        version, champion, machine, training_recordings, and where the detector is.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock(warn), registered_folder(place, model) as (base, parent):
        place.sweep()
        detector = Detector.load(base)
        settings = detector.settings
        found = ingest_recordings(Path(recordings), place, settings.recordings, machine)
        for file, reason in list(found["quarantined"].items())[:10]:
            warn(f"quarantined: {file}: {reason}")
        if machine not in found["machines"]:
            raise AsdError(f"{recordings}: no usable recording of {machine} there")
        complete_features(place, _training_of(place, machine), settings, variants=False)
        # Recordings that could not be read any more have left the table.
        require_training(_of(place, machine), settings.recordings.minimum_training_recordings)
        chosen = _training_of(place, machine)
        store = feature_store(place, settings, variants=False)
        averages = spectra(place, store, chosen)
        failed_checks = failed_enrolment_checks(averages, chosen, settings)
        for failed_check in failed_checks:
            warn(f"{machine}: of its recordings, {failed_check}")
        if failed_checks and not force:
            raise AsdError(
                f"{machine} is not enrolled: of its recordings, {failed_checks[0]} --force enrolls it all the same."
            )
        encoder = _encoder_file(place, detector, base)
        embeddings = embeddings_of(place, store, encoder, chosen, settings.training.device)
        system = detector_system(settings.normality)
        stores = {"h": embeddings, "z": embeddings, **dict.fromkeys(("mean", "mean_and_deviation", "change"), averages)}
        models = normality_models(place, stores, chosen, [system])
        history = detector.encoder.history
        reliability = reliability_reports(
            place, stores, chosen, system, models[system.name], settings.normality, history
        )
        about: dict[str, Any] = {
            "data": data_digest(chosen),
            "training_recordings": len(chosen),
            "simulated": any_simulated(chosen),
            "encoder_of_version": parent,
            "failed_checks": failed_checks,
            "reliability": read_reliability(reliability[machine]).to_json(),
        }
        files = (models[system.name][machine], profiles(place, store, chosen, settings)[machine])
        folder = changed_detector(place, base, machine, files, about)
        text = f"enrolled {machine} ({about['training_recordings']} normal recordings)"
        made = _registered(place, folder, parent, model, machine, text)
        log_reliability(place, made["run"], reliability)
        return made | about


@flow(name="retire")
def retire(machine: str, model: str = CHAMPION, home: Path | None = None) -> dict[str, Any]:
    """Register the detector without a machine. Its recordings stay, and `enroll` brings it back.

    Args:
        machine: an enrolled one.
        model: alias or version of the detector that loses it.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        version, champion, machine, and where the detector is.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock(warn), registered_folder(place, model) as (base, parent):
        folder = changed_detector(place, base, machine, None, {})
        return _registered(place, folder, parent, model, machine, f"retired {machine}")


def _of(home: Home, machine: str) -> pd.DataFrame:
    return Catalog(home.recordings).of_machines([machine])


def _training_of(home: Home, machine: str) -> pd.DataFrame:
    return training_recordings(_of(home, machine))


def _encoder_file(home: Home, detector: Detector, base: Path) -> Path:
    """The detector's encoder in a folder of its own, where its embeddings are kept from one enrolment to the next."""
    path = home.runs / "encoders" / digest_of_file(base / "encoder.safetensors")[:16] / "encoder.safetensors"
    if not path.exists():
        detector.encoder.save(path)
    return path


def _registered(home: Home, folder: Path, parent: str, model: str, machine: str, text: str) -> dict[str, Any]:
    run = tracked_run(home, "enrolment", folder.name, f"{text} {datetime.now(UTC).astimezone():%Y-%m-%d %H:%M}")
    with failed_if_it_fails(home, run):
        detector = Detector.load(folder)
        tags = {"data": f"version {parent}, {text}", "machines": ", ".join(sorted(detector.machines)), "parent": parent}
        version = registered_version(home, run, folder, tags)
        if model == CHAMPION and not was_champion(home, version):
            set_champion(home, version, text)
    champion = champion_version(home)
    publish("enrolment", f"Version {version} is version {parent}, {text}. The champion is version {champion}.")
    made = {
        "run": run,
        "version": version,
        "champion": champion,
        "machine": machine,
        "parent": parent,
        "detector": str(folder),
    }
    return made | {"machines": sorted(detector.machines)}
