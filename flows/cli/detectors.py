"""The commands about detectors: train, register, choose and use them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.checks import check_encoder, check_registered
from flows.cli.console import err, out
from flows.cli.options import HomeOption, MachinesOption, ModelOption, RecordingsOption, existing, names
from flows.cli.output import Output, number, with_output
from flows.cli.settings import with_settings
from flows.cli.startup import imports, prefect_server, start
from flows.cli.user import user_name

if TYPE_CHECKING:
    from asdcore.settings import Settings


@with_settings
@with_output
def retrain(
    output: Output,
    settings: "Settings",
    recordings: RecordingsOption = None,
    machines: MachinesOption = None,
    warm_start: Annotated[bool, typer.Option("--warm-start", help="Start from the champion's encoder")] = False,
    home: HomeOption = None,
) -> None:
    """From recordings to a registered detector. Finished stages are skipped."""
    check_encoder(settings.training)
    place = start(home)
    with prefect_server(place):
        from flows.retrain import retrain as flow

        done = flow(
            recordings=recordings, machines=names(machines), settings=settings, warm_start=warm_start, home=place.root
        )
    from flows.cli.show import show_registered, show_results, write_results

    show_results(done, place)
    show_registered(done, place)
    write_results(output, done, place)


def enroll(
    machine: Annotated[str, typer.Argument(help="Name of the machine")],
    recordings: Annotated[
        Path | None,
        typer.Option(
            callback=existing,
            help="A folder of its normal recordings, or a manifest CSV; default: those that were ingested",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = "champion",
    force: Annotated[bool, typer.Option("--force", help="Enroll it even if an enrolment check fails")] = False,
    home: HomeOption = None,
) -> None:
    """Add a machine to a registered detector, or fit a known machine again: a minute, no encoder training."""
    place = start(home)
    check_registered(place, model)
    with prefect_server(place):
        from flows.enroll import enroll as flow

        done = flow(machine=machine, recordings=recordings, model=model, force=force, home=place.root)
    from flows.cli.show import show_enrolment

    show_enrolment(done, place)


def retire(
    machine: Annotated[str, typer.Argument(help="An enrolled machine")],
    model: ModelOption = "champion",
    home: HomeOption = None,
) -> None:
    """Remove a machine from a registered detector. Its recordings stay; `asd enroll` brings it back."""
    place = start(home)
    with prefect_server(place):
        from flows.enroll import retire as flow

        done = flow(machine=machine, model=model, home=place.root)
    from flows.cli.show import show_enrolment

    show_enrolment(done, place)


@with_output
def score(
    output: Output,
    recordings: Annotated[
        list[Path], typer.Argument(help="Audio files, or folders of them; - alone: one recording on standard input")
    ],
    machine: Annotated[
        str | None, typer.Option(help="Machine of all of them; default: the folder of each file", show_default=False)
    ] = None,
    model: ModelOption = "champion",
    explain: Annotated[
        bool, typer.Option("--explain", help="Say where anomalous recordings differ from normal, and plot it")
    ] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write an HTML report")] = True,
    home: HomeOption = None,
) -> None:
    """Score recordings with a registered detector. Higher is more anomalous.

    Exit code 3: an alarm (one recording is anomalous, or as many as the rule of `asd threshold` asks for); else 4:
    something is suspect or anomalous; else 1: something could not be scored; else 0. Recordings in folders of machines
    that are not enrolled are counted, but do not change the exit code unless there are no others.
    """
    # Typer's own check refuses -, even with allow_dash.
    recordings = [path if path == Path("-") else existing(path) or path for path in recordings]
    place = start(home)
    with imports():
        import pandas as pd

        from asdcore.errors import AsdError
        from asdcore.progress import say
        from flows.cli.published import answered, complaints, published
        from flows.cli.show import print_explanations, print_scores
        from tasks.scoring import score_recordings

    done = None
    try:
        with place.synchronised(say):
            done = score_recordings(place, recordings, machine, model, explain, report)
    except AsdError as error:
        if done is None:
            raise
        err.print(f"scored, but not sent: {error}")  # The next command sends it; the answer must not be lost.
    for name, sentences in done["drift"].items():
        for sentence in sentences:
            say(f"{name}: {sentence}")
    scores = pd.read_parquet(done["table"])

    def draw() -> None:
        print_scores(scores, done["suspicions"])
        print_explanations(done)
        if done["report"]:
            out.print(f"Report: {done['report']}")
        out.print(f"Detector version {done['version']}. Scores: {done['table']}")

    whole = answered(draw)
    for line in complaints(done, scores):
        err.print(line)
    counts = ("scored", "failed", "anomalous", "suspect", "new_alarms")
    facts: dict[str, Any] = {name: value for name, value in done.items() if name not in counts}
    facts["version"] = version = number(done["version"])
    whole &= answered(lambda: output.write(scores.assign(detector=version), **facts))
    published(done, place)
    # An alarm is never hidden by a file that could not be read, or an answer that could not be written.
    strange = done["suspect"] or done["anomalous"]
    raise typer.Exit(3 if done["alarms"] else 4 if strange else 1 if done["failed"] or not whole else 0)


@with_output
def threshold(
    output: Output,
    machine: Annotated[str, typer.Argument(help="An enrolled machine")],
    rate: Annotated[
        float | None, typer.Argument(help="Its new false-alarm rate, for example 0.05; default: show what it is")
    ] = None,
    alarm: Annotated[
        str | None,
        typer.Option(help="k/n: an alarm when k of the last n recordings are anomalous", show_default=False),
    ] = None,
    per_day: Annotated[
        float | None,
        typer.Option(
            min=0, help="Recordings a day: how many false alarms a week to expect, if recordings are independent"
        ),
    ] = None,
    model: ModelOption = "champion",
    home: HomeOption = None,
) -> None:
    """Show or change when a machine raises an alarm. A new version at once: nothing is trained or fitted."""
    place = start(home)
    with imports():
        from flows.cli.show import show_enrolment, show_threshold
        from tasks.registered import load_detector

    if rate is not None or alarm is not None:
        with prefect_server(place):
            from flows.threshold import threshold as flow

            done = flow(machine=machine, false_alarm_rate=rate, alarm=alarm, model=model, home=place.root)
        show_enrolment(done, place)
        model = done["version"]
    with place.synchronised(out.print):
        show_threshold(machine, load_detector(place, model)[0], per_day, output)


@with_output
def models(
    output: Output,
    machine: Annotated[
        str | None, typer.Option(help="Show the reliability report of this machine", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Alias or version, with --machine")] = "champion",
    diff: Annotated[
        tuple[str, str] | None, typer.Option(help="Two aliases or versions: show what differs", show_default=False)
    ] = None,
    home: HomeOption = None,
) -> None:
    """List registered detectors, show a machine's reliability report, or compare two versions."""
    place = start(home)
    from flows.cli.tables import print_table
    from tasks.registered import load_detector, registered_models

    with place.synchronised(out.print):
        if machine is not None:
            with imports():
                from flows.cli.show import show_reliability

            show_reliability(machine, *load_detector(place, model), output)
            return
        if diff is not None:
            from flows.cli.show import show_differences
            from tasks.registry import version_facts

            left, right = (version_facts(place, version) for version in diff)
            show_differences(diff, left, right, output)
            return
        rows = registered_models(place)
    output.write(*_models_as_data(rows))
    if not rows:
        out.print(f"Nothing is registered in {place.registry_name}. `asd retrain` trains and registers a detector.")
        return
    columns = ["version", "alias", "score", "date", "machines", "data"]
    print_table(columns, [[str(row[name] or "") for name in columns] for row in rows])
    out.print(
        "score: harmonic mean of AUC source, AUC target and pAUC over the machines, percent, on the test recordings"
    )


def _models_as_data(rows: list[dict[str, str]]) -> tuple[list[dict[str, object]], list[str]]:
    """The registered versions with their numbers as numbers, and the names of the columns."""
    names = ["version", "alias", "score", "created", "machines", "data", "run"]
    typed: list[dict[str, object]] = [
        {name: row[name] or None for name in names}
        | {
            "version": number(row["version"]),
            "score": float(row["score"]) if row["score"] else None,
            "machines": row["machines"].split(", ") if row["machines"] else [],
        }
        for row in rows
    ]
    return typed, names


def promote(
    version: Annotated[str, typer.Argument(help="A registered version; `asd models` lists them")],
    home: HomeOption = None,
) -> None:
    """Make a version the champion, regardless of the gate."""
    place = start(home)
    from asdcore.monitoring.incidents import challenger_promoted
    from tasks.incidents import unfailing
    from tasks.notification import notified
    from tasks.registry import champion_version, set_champion

    with place.lock(out.print):
        before = champion_version(place)
        set_champion(place, version, f"promoted by {user_name()}")
        unfailing(lambda: challenger_promoted(place, f"{user_name()}, who promoted version {version}"))
    notified(place)
    after = "there was none" if not before else f"it was version {before}"
    out.print(f"Version {version} is the champion; {after}. `asd rollback` undoes this.")


def rollback(home: HomeOption = None) -> None:
    """Make the previous champion the champion again."""
    place = start(home)
    from tasks.registry import rolled_back

    with place.lock(out.print):
        version, replaced = rolled_back(place, user_name())
    out.print(f"Version {replaced} is the champion again; it was version {version}.")


def register(
    run: Annotated[
        str | None, typer.Argument(help="MLflow run; default: all unregistered retrainings", show_default=False)
    ] = None,
    home: HomeOption = None,
) -> None:
    """Finish retrainings whose MLflow store did not answer at the end. Nothing is trained again."""
    place = start(home)
    from flows.cli.show import show_registered

    with prefect_server(place):
        from flows.register import register as flow

        finished = flow(run=run, home=place.root)
    for done in finished:
        show_registered(done, place)
    if not finished:
        out.print("No retraining waits to be registered.")
