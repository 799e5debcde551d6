"""The flow `retrain`: from recordings to a registered detector."""

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow

from asdcore.encoder.frozen import training_history
from asdcore.errors import AsdError
from asdcore.evaluation.systems import detector_system, reported_systems
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.clips import clip_lengths, cut, recording_count
from asdcore.recordings.listing import summed_up
from asdcore.recordings.paths import on_disk, printable
from asdcore.recordings.questions import merged
from asdcore.recordings.renamed import renamed
from asdcore.recordings.training import hold_out, large_enough, training_recordings
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.failures import completed, failed
from flows.ingest import ingest
from flows.register import Registered, keep_for_registration, registered
from tasks.carried import STAY_ENROLLED, carried_over, enrolled_machines
from tasks.datasets import log_recordings
from tasks.detector import assemble_detector, champion_thresholds, first_encoder
from tasks.encoder import embeddings_of, encoder_note, trained_encoder, training_key, untrained_encoder
from tasks.evaluation import Evaluation, any_simulated, evaluation, report_text
from tasks.events import ARRIVED, tell
from tasks.explanation import profiles
from tasks.features import complete_features, feature_store, originals_artifact, scorer_statistics
from tasks.normality import Models, fallback_notes, fit_metrics, fit_table, normality_models, stores_of
from tasks.recordings import data_digest
from tasks.registry import lineage
from tasks.reliability import read_reliability, reliability_metrics, reliability_reports, reliability_text
from tasks.run_names import add_to_run_name, counted, run_name
from tasks.screening import training_screened
from tasks.stage import Artifact
from tasks.tracking import failed_if_it_fails, retraining_key, tracked_run
from tasks.waiting_runs import instead_of_waiting_runs
from tasks.warn import warn


@flow(name="retrain", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def retrain(
    recordings: Path | None = None,
    machines: list[str] | None = None,
    settings: Settings = Settings(),
    warm_start: bool = False,
    home: Path | None = None,
) -> Registered:
    """Ingest, features, training, normality models, detector, evaluation, registry: only what is not done yet.

    Args:
        recordings: ingest these first, and train on the machines that are there; default: all that was ingested. A
            machine that was enrolled in the champion from elsewhere stays in the detector.
        machines: train on these machines only.
        settings: see `Settings`; `Settings.preset("demo")` is minutes on two CPU cores.
        warm_start: begin the training with the champion's encoder, if there is a champion with one of that size.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.

    Returns:
        The registered version, and where its table, plots and detector are; see `Registered`.
    """
    place = Home.at(home) if home else Home.default()
    with place.lock(warn), instead_of_waiting_runs():
        place.sweep()
        found = ingested_machines(place, recordings, settings) if recordings else machines
        # Read once: what arrives, or is forgotten, from now on is for the next retraining.
        catalog = Catalog(place.recordings)
        clips = usable_clips(catalog, recordings, machines or found, settings)
        clips = trainable(complete_features(clips, settings), settings)
        carried = clips.head(0)
        if recordings and not machines:
            carried = carried_over(set(clips["machine"]), catalog.recordings, settings)
        done = _train_to_register(place, catalog.recordings, clips, carried, settings, warm_start, recordings)
    with suppress(AsdError):  # The detector is registered.
        _tell_of_arrived(place, catalog)
    return done


def _tell_of_arrived(home: Home, before: Catalog) -> None:
    """If recordings have arrived since, start `arrivals`, which has judged them and has postponed the rest."""
    rows = Catalog(home.recordings).recordings
    new = rows[~rows["recording"].isin(before.recordings["recording"])]
    if len(new):
        tell(ARRIVED, home, {"machines": sorted(set(new["machine"])), "added": len(new)})


def ingested_machines(home: Home, place: Path, settings: Settings) -> list[str]:
    """Ingest what is at ``place``; return the machines that are found there."""
    found = ingest(place, settings.recordings, home=home.root)
    for file, reason in list(found["quarantined"].items())[:10]:
        warn(f"quarantined: {file}: {reason}")
    if len(found["quarantined"]) > 10:
        warn(f"quarantined: {len(found['quarantined']) - 10} more; `asd ingest` of the same place lists them")
    for line in summed_up(found["left_out"]):
        warn(f"left out: {line}")
    for line in merged(found["places"]):
        warn(line)
    if found["pending"]:
        warn(f"{len(found['pending'])} new recordings are pending review and do not train: `asd label` lists them")
    return found["machines"]


def usable_clips(
    catalog: Catalog, place: Path | None, machines: list[str] | None, settings: Settings, held_out: float | None = None
) -> pd.DataFrame:
    """The clips to work on: of ``machines``, or of all there are.

    Those that are held out for the gate are marked, see `hold_out`; ``held_out``: fraction, if not the setting.
    ``place``: where the recordings were ingested from last.

    Raises:
        AsdError: none, or only machines with too few normal training clips.
    """
    chosen = catalog.of_machines(machines)
    if chosen.empty:
        home = Home.current().name
        raise AsdError(f"there is no recording in {home}; give --recordings, or `asd ingest` some first")
    if place is not None and on_disk(place).is_dir():
        top = printable(on_disk(place).resolve())
        elsewhere = chosen[~chosen["path"].map(lambda path: Path(path).is_relative_to(top))]
        for machine, own in elsewhere.groupby("machine"):
            warn(f"{machine}: {len(own)} recordings that were ingested from other places are used, too")
    lengths = clip_lengths(chosen, settings.recordings)
    for machine in sorted(name for name, seconds in lengths.items() if seconds < settings.recordings.clip_seconds):
        warn(f"{machine} has few normal recordings: they are cut into clips of {lengths[machine]:g} s")
    clips = cut(hold_out(chosen, settings.gate.held_out_fraction if held_out is None else held_out), lengths)
    return trainable(clips, settings)


def trainable(clips: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The clips of the machines that can be trained on; a warning for each of the others.

    Raises:
        AsdError: no machine has enough normal training clips.
    """
    enough, left_out = large_enough(clips, settings.recordings.minimum_training_recordings)
    for machine, why in left_out.items():
        warn(f"{machine} is left out: {why}")
    return enough


def _train_to_register(
    home: Home,
    known: pd.DataFrame,
    trained: pd.DataFrame,
    carried: pd.DataFrame,
    settings: Settings,
    warm: bool,
    origin: Path | None,
) -> Registered:
    """Train, fit and register.

    Args:
        home: locked.
        known: the table of recordings when the clips were chosen.
        trained: the clips that the encoder learns from.
        carried: those that it does not learn from.
        settings: see `Settings`.
        warm: begin with the champion's encoder.
        origin: where the first ones were found.
    """
    clips = pd.concat([trained, carried], ignore_index=True) if len(carried) else trained
    work = f", {counted(clips['machine'].nunique(), 'machine')}"
    add_to_run_name(work)
    store, data = feature_store(settings), data_digest(clips)
    first = first_encoder(data, settings) if warm else None
    base = untrained_encoder(settings.training)
    encoder_key = training_key(store, trained, settings.training, settings, base, first)
    key = retraining_key(encoder_key, settings.normality, data)
    run = tracked_run(home, "retraining", key, f"{run_name()}{work}, {datetime.now().astimezone():%Y-%m-%d %H:%M}")
    with failed_if_it_fails(home, run):
        log_recordings(home, run, trained, origin)
        if len(carried):
            log_recordings(home, run, carried, None)
        encoder = trained_encoder(store, trained, settings.training, settings, base, run, first)
        embeddings = embeddings_of(store, encoder, clips, settings.training, settings)
        statistics = scorer_statistics(clips, originals_artifact(store), settings)
        stores = stores_of(statistics, embeddings)
        systems = reported_systems(settings.normality, settings.training.trains)
        scorers = detector_system(settings.normality)
        models = normality_models(stores, clips, [*systems, scorers])
        history = training_history(encoder.path)
        thresholds = champion_thresholds(models[scorers.name])
        rates = {machine: own.false_alarm_rate for machine, own in thresholds.items()}
        reliability = reliability_reports(
            stores, clips, scorers, models[scorers.name], settings.normality, history, rates
        )
        about: dict[str, Any] = {
            "data": data,
            "recordings": recording_count(clips),
            "training_recordings": recording_count(training_recordings(clips)),
            "simulated": any_simulated(clips),
            "reliability": {name: read_reliability(folder).to_json() for name, folder in reliability.items()},
        }
        if stay := sorted(set(enrolled_machines()) & models[scorers.name].keys()):
            about |= {STAY_ENROLLED: stay}
        about |= {"warm_start": first.path.stem} if first else {}
        names = renamed(home.recordings)
        about |= {"renamed": names} if names else {}
        usual = profiles(store, clips, settings)
        detector = assemble_detector(settings, encoder, models[scorers.name], usual, about, thresholds)
        rate = settings.normality.false_alarm_rate
        result = evaluation(clips, systems, stores, models, rate, encoder, own_rates=rates)
        fits = fit_metrics(models)
        keep_for_registration(
            home,
            run,
            {
                "encoder": str(encoder.path),
                "detector": str(detector.path),
                "reliability": {machine: str(folder.path) for machine, folder in reliability.items()},
                "evaluation": result,
                "report": _report(result, models, fits, reliability, settings, about["simulated"]),
                "metrics": reliability_metrics(reliability) | fits,
                "stand_out": training_screened(stores, clips, scorers),
                "tags": _tags(result, systems[0].name, about, settings, sorted(models[scorers.name])),
            },
            # Without what turned out to be unreadable when features were computed.
            known[~known["recording"].isin(Catalog(home.recordings).quarantined["recording"])],
        )
        return registered(home, run)


def _report(
    result: Evaluation,
    models: Models,
    fits: dict[str, float],
    reliability: dict[str, Artifact],
    settings: Settings,
    simulated: bool,
) -> str:
    notes = [encoder_note(settings.training), *fallback_notes(models)]
    report = report_text(result, notes, simulated)
    report += f"\n\n### Reliability\n\n{reliability_text(reliability)}"
    return report + f"\n\n### Normality models\n\n{fit_table(fits)}\n"


def _tags(
    result: Evaluation, system: str, about: dict[str, Any], settings: Settings, machines: list[str]
) -> dict[str, str]:
    score = result["official_scores"].get(system)
    simulated = ["simulated"] if about["simulated"] else []
    return {
        "system": system,
        "score": "" if score is None else f"{score:.2f}",
        "data": " ".join([f"{about['training_recordings']} normal recordings", *simulated, about["data"]]),
        "machines": ", ".join(machines),
        **lineage(about["data"], settings),
    }
