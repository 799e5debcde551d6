"""The flows `enroll` and `retire`: one machine more, one less, everything else as it is."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact

from asdcore.detector import Detector
from asdcore.errors import AsdError
from asdcore.evaluation.systems import detector_system
from asdcore.monitoring.incidents import machine_retired
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.clips import clip_lengths, cut, recording_count
from asdcore.recordings.paths import nfc
from asdcore.recordings.training import hold_out, require_training, training_recordings
from asdcore.settings import Settings
from asdcore.storage.files import digest_of, digest_of_file
from asdcore.storage.home import Home
from flows.failures import completed, failed
from tasks.datasets import log_recordings
from tasks.detector import change_machine
from tasks.encoder import embeddings_of, kept_encoder
from tasks.evaluation import any_simulated
from tasks.explanation import profiles
from tasks.features import complete_features, feature_store, scorer_statistics
from tasks.fit_reports import enrolment_report
from tasks.incidents import unfailing
from tasks.monitoring import failed_enrolment_checks
from tasks.normality import fit_metrics, normality_models, stores_of
from tasks.publishing import ingest_and_publish, publish_report
from tasks.recordings import data_digest
from tasks.registered import CHAMPION, registered_folder
from tasks.registry import champion_version, describe_version, registered_version, set_champion, was_champion
from tasks.reliability import read_reliability, reliability_metrics, reliability_reports
from tasks.run_names import run_name
from tasks.screening import listen_first, training_screened
from tasks.tracking import failed_if_it_fails, log_metrics, log_parameters, log_reliability, tracked_run
from tasks.warn import warn


class Retired(TypedDict):
    """A registered detector with one machine less, or one more."""

    run: str
    """of MLflow"""
    version: str
    champion: str
    """the version that is the champion now"""
    machine: str
    parent: str
    """the version that it was made from"""
    detector: str
    """its folder"""
    machines: list[str]


class Enrolled(Retired):
    """A registered detector with one machine more."""

    training_recordings: int
    data: str
    """digest of the recordings"""
    failed_checks: list[str]
    reliability: list[str]
    """sentences of its reliability report"""
    listen_first: list[str]
    """lines about its training recordings that stand out, see `tasks.screening`"""
    page: str
    """HTML file; empty: none was asked for, or it could not be written"""


@flow(name="enroll", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def enroll(
    machine: str,
    recordings: Path | None = None,
    model: str = CHAMPION,
    force: bool = False,
    report: bool = True,
    home: Path | None = None,
) -> Enrolled:
    """Fit, calibrate and register one machine more, with the encoder as it is.

    Args:
        machine: its name. An enrolled one is fitted again, on all its normal training recordings.
        recordings: a folder or manifest of its normal recordings; test recordings there are ingested, too. Default:
            those that are known already.
        model: alias or version of the detector that gets the machine.
        force: enroll it even if the enrolment checks fail.
        report: write an HTML file about it.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        version, champion, machine, training_recordings, and where the detector is.
    """
    machine = nfc(machine)
    place = Home.at(home) if home else Home.default()
    with place.lock(warn), registered_folder(place, model) as (base, parent):
        place.sweep()
        detector = Detector.load(base)
        settings = detector.settings
        if recordings is not None:
            _ingest(place, Path(recordings), machine, settings)
        chosen = _training_clips(place, machine, settings)
        store = feature_store(settings, variants=False)
        statistics = scorer_statistics(chosen, store, settings)
        failed_checks = failed_enrolment_checks(statistics, chosen, settings)
        for failed_check in failed_checks:
            warn(f"{machine}: of its recordings, {failed_check}")
        if failed_checks and not force:
            raise AsdError(
                f"{machine} is not enrolled: of its recordings, {failed_checks[0]} --force enrolls it all the same."
            )
        encoder = kept_encoder(base / "encoder.safetensors", place.runs / "warm-starts")
        embeddings = embeddings_of(store, encoder, chosen, settings.training, settings)
        system = detector_system(settings.normality)
        stores = stores_of(statistics, embeddings)
        parts = normality_models(stores, chosen, [system])
        models = parts[system.name]
        rates = {name: own.false_alarm_rate for name, own in detector.thresholds.items()}
        history = detector.encoder.history
        reliability = reliability_reports(stores, chosen, system, models, settings.normality, history, rates)
        reliable = read_reliability(reliability[machine])
        about: dict[str, Any] = {
            "data": data_digest(chosen),
            "training_recordings": recording_count(chosen),
            "simulated": any_simulated(chosen),
            "encoder_of_version": parent,
            "at_last_training": _at_last_training(detector, machine),
            "failed_checks": failed_checks,
            "reliability": reliable.to_json(),
        }
        profile = profiles(store, chosen, settings)[machine]
        folder = change_machine(str(base), digest_of_folder(base), machine, models[machine], profile, about).path
        text = f"enrolled {machine} ({about['training_recordings']} normal recordings)"
        enrolled = registered_change(place, folder, parent, model, machine, text)
        run = enrolled["run"]
        log_recordings(place, run, chosen, recordings)
        log_parameters(place, run, settings.model_dump(mode="json"))
        log_metrics(place, run, reliability_metrics(reliability) | fit_metrics(parts))
        log_reliability(place, run, {name: report.path for name, report in reliability.items()})
        stand_out, page = training_screened(stores, chosen, system), ""
        if report:
            page = enrolment_report(place, folder, machine, enrolled["version"], enrolled["champion"], stand_out)
            publish_report(place, run, "enrolment-page", page)
        return {
            **enrolled,
            "training_recordings": about["training_recordings"],
            "data": about["data"],
            "failed_checks": failed_checks,
            "reliability": reliable.sentences,
            "listen_first": listen_first(stand_out),
            "page": page,
        }


def _ingest(home: Home, place: Path, machine: str, settings: Settings) -> None:
    """Add the recordings of a machine that are at ``place``.

    Raises:
        AsdError: there is no usable one.
    """
    with home.lock_table(warn):
        found = ingest_and_publish(place, home, settings.recordings, machine)
    for file, reason in list(found["quarantined"].items())[:10]:
        warn(f"quarantined: {file}: {reason}")
    if machine not in found["machines"]:
        raise AsdError(f"{place}: no recording there can be used for {machine}")


def _training_clips(home: Home, machine: str, settings: Settings) -> pd.DataFrame:
    """The normal training clips of a machine, with features.

    Raises:
        AsdError: too few.
    """
    known = Catalog(home.recordings).of_machines([machine])
    training = training_recordings(hold_out(known, settings.gate.held_out_fraction))
    clips = cut(training, clip_lengths(training, settings.recordings))
    # Before features are computed, and after: some may turn out to be unreadable.
    require_training(clips, settings.recordings.minimum_training_recordings)
    usable = complete_features(clips, settings, variants=False)
    require_training(usable, settings.recordings.minimum_training_recordings)
    return usable


def _at_last_training(detector: Detector, machine: str) -> int:
    """The number of clips that a machine had when the encoder was trained; 0 for one that was not there."""
    before = detector.about.get("enrolled", {}).get(machine)
    if before:
        return int(before.get("at_last_training", 0))
    return len(detector.machines[machine].clips) if machine in detector.machines else 0


@flow(name="retire", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def retire(machine: str, model: str = CHAMPION, home: Path | None = None) -> Retired:
    """Register the detector without a machine. Its recordings stay, and `enroll` brings it back.

    Args:
        machine: an enrolled one.
        model: alias or version of the detector that loses it.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        version, champion, machine, and where the detector is.
    """
    machine = nfc(machine)
    place = Home.at(home) if home else Home.default()
    with place.lock(warn), registered_folder(place, model) as (base, parent):
        folder = change_machine(str(base), digest_of_folder(base), machine, None, None, {}).path
        done = registered_change(place, folder, parent, model, machine, f"retired {machine}")
        if done["champion"] == done["version"]:
            unfailing(lambda: machine_retired(place, machine))
        return done


def digest_of_folder(folder: Path) -> str:
    """16 hexadecimal digits that identify the content of its files."""
    return digest_of(*(digest_of_file(file) for file in sorted(folder.iterdir())))


def registered_change(home: Home, folder: Path, parent: str, model: str, machine: str, text: str) -> Retired:
    """Register the detector in ``folder``, version ``parent`` with a change; the champion's is the champion then."""
    run = tracked_run(home, "enrolment", folder.name, f"{text}, {datetime.now(UTC).astimezone():%Y-%m-%d %H:%M}")
    with failed_if_it_fails(home, run):
        detector = Detector.load(folder)
        tags = {"data": f"version {parent}, {text}", "machines": ", ".join(sorted(detector.machines)), "parent": parent}
        version = registered_version(home, run, folder, tags)
        if model == CHAMPION and not was_champion(home, version):
            set_champion(home, version, text)
        log_parameters(home, run, {"machine": machine, "parent": parent})
        champion = champion_version(home)
        stays = "It became the champion." if champion == version else f"Version {champion} stays the champion."
        said = f"Version {version} is version {parent}, {text}; everything else is the same. {stays}"
        describe_version(home, version, said)
    create_markdown_artifact(key="enrolment", markdown=said, description=said)
    return {
        "run": run,
        "version": version,
        "champion": champion,
        "machine": machine,
        "parent": parent,
        "detector": str(folder),
        "machines": sorted(detector.machines),
    }
