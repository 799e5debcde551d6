"""The command line. Every command is one call that a notebook could make; heavy imports wait until needed."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import (
    HomeOption,
    MachinesOption,
    PresetOption,
    RecordingsOption,
    SetOption,
    at_hand,
    err,
    names,
    out,
    say_starting,
    settings_of,
    start,
)
from flows.cli.registry import label, models, promote, register, rollback
from flows.cli.service import deploy, ui, watch, worker

STOPPED = "stopped; the same command goes on where this one was"
CTRL_C = 130
"""what Typer ends with"""

app = typer.Typer(
    help="Anomalous sound detection on machines: learns from normal recordings, tells which machine sounds wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def demo(home: HomeOption = None) -> None:
    """Simulate three machines, train on them and show what comes out, in a home of its own."""
    from asdcore.settings import Settings

    place = start(home, below="demo")
    from asdcore.datasets.simulate import simulate as write_machines
    from flows.retrain import retrain as flow

    folder = place.root / "simulated"
    write_machines(folder)
    out.print(f"Simulated recordings of three machines: {folder}")
    say_starting()
    done = flow(recordings=folder, settings=Settings.preset("demo"), home=place.root)
    from flows.cli.show import show_registered, show_results

    show_results(done, place)
    show_registered(done, place)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where the recordings are written")],
    machines: MachinesOption = None,
    seconds: Annotated[float, typer.Option(help="Length of a recording")] = 4.0,
    strength: Annotated[float, typer.Option(help="How strong the faults are; 0: none")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same recordings")] = 0,
) -> None:
    """Write recordings of simulated machines, in the layout of DCASE 2023 Task 2."""
    from asdcore.datasets.simulate import MACHINES
    from asdcore.datasets.simulate import simulate as write_machines

    chosen = names(machines) or list(MACHINES)
    paths = write_machines(folder, machines=chosen, seconds=seconds, strength=strength, seed=seed)
    out.print(f"{len(paths)} simulated recordings of {', '.join(chosen)} in {folder}")


@app.command()
def ingest(
    recordings: Annotated[Path, typer.Argument(callback=at_hand, help="A folder of recordings, or a manifest CSV")],
    preset: PresetOption = "default",
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Check recordings and add what is new to the table of recordings. The files are only read."""
    settings = settings_of(preset, change)
    place = start(home)
    from flows.ingest import ingest as flow

    say_starting()
    done = flow(recordings=recordings, settings=settings.recordings, home=place.root)
    from flows.cli.show import show_ingest

    show_ingest(done, place, settings)


@app.command()
def features(
    machines: MachinesOption = None, preset: PresetOption = "default", change: SetOption = None, home: HomeOption = None
) -> None:
    """Compute the spectrograms that are missing. `asd retrain` does it, too."""
    settings = settings_of(preset, change)
    place = start(home)
    from flows.features import features as flow

    say_starting()
    count = flow(settings=settings, machines=names(machines), home=place.root)
    out.print(f"{count} recordings have features in {place.features}")


@app.command()
def train(
    machines: MachinesOption = None,
    processes: Annotated[int, typer.Option("--nproc", help="Processes that share each batch: one for each GPU")] = 1,
    warm_start: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Begin with the weights of this encoder")
    ] = None,
    preset: PresetOption = "default",
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Train the encoder alone, on what is ingested. `asd retrain` does it, too."""
    settings = settings_of(preset, [*(change or []), f"training.processes={processes}"] if processes > 1 else change)
    place = start(home)
    from flows.train import train as flow

    say_starting()
    done = flow(machines=names(machines), settings=settings, warm_start=warm_start, home=place.root)
    figures = done["figures"]
    out.print(f"epoch {figures['epoch']:.0f}: loss {figures['loss']:.3g}, chance {figures['chance']:.3g}")
    out.print(f"Encoder: {done['encoder']}", highlight=False)


@app.command()
def retrain(
    recordings: RecordingsOption = None,
    machines: MachinesOption = None,
    warm_start: Annotated[bool, typer.Option("--warm-start", help="Begin with the champion's encoder")] = False,
    preset: PresetOption = "default",
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """From recordings to a registered detector; what is done already is not done again."""
    settings = settings_of(preset, change)
    place = start(home)
    from flows.retrain import retrain as flow

    say_starting()
    done = flow(
        recordings=recordings, machines=names(machines), settings=settings, warm_start=warm_start, home=place.root
    )
    from flows.cli.show import show_registered, show_results

    show_results(done, place)
    show_registered(done, place)


@app.command()
def score(
    recordings: Annotated[
        list[Path], typer.Argument(help="Audio files, or folders of them; - alone: one recording on standard input")
    ],
    machine: Annotated[
        str | None, typer.Option(help="Default: each file's folder names it", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Alias or version of the registered detector")] = "champion",
    explain: Annotated[bool, typer.Option("--explain", help="Say where anomalous ones differ, and draw it")] = False,
    home: HomeOption = None,
) -> None:
    """Score recordings with a registered detector. Higher is more anomalous.

    Exit code 3: something is anomalous; else 1: something could not be scored; else 0.
    """
    for path in recordings:
        # Typer's own check refuses -, even with allow_dash.
        if path != Path("-"):
            at_hand(path)
    place = start(home)
    import pandas as pd

    from flows.cli.show import print_explanations, print_scores
    from flows.score import score as flow

    say_starting()
    done = flow(recordings=recordings, machine=machine, model=model, explain=explain, home=place.root)
    scores = pd.read_parquet(done["table"])
    print_scores(scores)
    print_explanations(done)
    out.print(f"Detector version {done['version']}. Scores: {done['table']}")
    if done["failed"]:
        for row in scores[scores["score"].isna()].to_dict("records"):
            err.print(f"not scored: {row['path']}: {row['reason']}", markup=False)
    # An alarm is never hidden by a file that could not be read.
    raise typer.Exit(3 if done["anomalous"] else 1 if done["failed"] else 0)


@app.command()
def enroll(
    machine: Annotated[str, typer.Argument(help="Its name")],
    recordings: Annotated[
        Path, typer.Option(callback=at_hand, help="A folder of its normal recordings, or a manifest CSV")
    ],
    model: Annotated[str, typer.Option(help="Alias or version of the registered detector")] = "champion",
    force: Annotated[bool, typer.Option("--force", help="Whatever speaks against these recordings")] = False,
    home: HomeOption = None,
) -> None:
    """Add a machine to a registered detector, or fit a known one anew: a minute, no encoder training."""
    place = start(home)
    from flows.enroll import enroll as flow

    say_starting()
    done = flow(machine=machine, recordings=recordings, model=model, force=force, home=place.root)
    from flows.cli.show import show_enrolment

    show_enrolment(done, place)


@app.command()
def retire(
    machine: Annotated[str, typer.Argument(help="An enrolled machine")],
    model: Annotated[str, typer.Option(help="Alias or version of the registered detector")] = "champion",
    home: HomeOption = None,
) -> None:
    """Take a machine out of a registered detector. Its recordings stay; `asd enroll` brings it back."""
    place = start(home)
    from flows.enroll import retire as flow

    say_starting()
    done = flow(machine=machine, model=model, home=place.root)
    from flows.cli.show import show_enrolment

    show_enrolment(done, place)


@app.command()
def benchmark(
    recordings: RecordingsOption = None,
    systems: Annotated[str, typer.Option(help="Names with commas between; the others are compared with the first")] = (
        "paper-ml,paper-elliptic,baseline-mse,baseline-mahalanobis,spectrum"
    ),
    machines: MachinesOption = None,
    published: Annotated[bool, typer.Option("--published", help="Add the paper's own figures")] = False,
    preset: PresetOption = "default",
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Any systems on the same recordings, side by side, with intervals: the layout of the paper's Table 1."""
    settings = settings_of(preset, change)
    place = start(home)
    from flows.benchmark import benchmark as flow
    from flows.cli.show import show_results

    say_starting()
    done = flow(
        recordings=recordings,
        systems=names(systems) or [],
        machines=names(machines),
        settings=settings,
        published=published,
        home=place.root,
    )
    show_results(done, place)


@app.command()
def evaluate(
    scores: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of anomaly_score_*.csv files")],
    ground_truth: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of ground truth files")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables")] = False,
) -> None:
    """The challenge's figures of official score and decision files, paired by file name."""
    from asdcore.evaluation.metrics import machine_metrics, summary
    from asdcore.evaluation.submission import read_submission

    metrics = machine_metrics(read_submission(scores, ground_truth))
    means = summary(metrics)
    if as_json:
        import json
        import math

        # pandas' own JSON would round; a figure that is undefined (NaN) becomes null.
        rows = metrics.astype(object).where(metrics.notna(), None).to_dict("records")
        defined = {name: None if math.isnan(value) else value for name, value in means.items()}
        typer.echo(json.dumps({"machines": rows, "means": defined}, indent=2, allow_nan=False))
        return
    from flows.cli.show import show_metrics

    show_metrics(metrics, means)


@app.command()
def submit(
    scores: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Scores of a run, a Parquet file")],
    folder: Annotated[Path, typer.Argument(help="Where the official files are written")],
    system: Annotated[str | None, typer.Option(help="Which system's, if there are several", show_default=False)] = None,
) -> None:
    """Write the challenge's official files from the scores of a run."""
    import pandas as pd

    from asdcore.evaluation.submission import submission_table, write_submission

    paths = write_submission(submission_table(pd.read_parquet(scores), system), folder)
    for path in paths:
        out.print(str(path), highlight=False)


@app.command()
def download(
    part: Annotated[str, typer.Argument(help="development, additional or evaluation")],
    folder: Annotated[Path, typer.Option(help="Where the recordings go")] = Path("dcase2023"),
    machines: MachinesOption = None,
) -> None:
    """Fetch the recordings of DCASE 2023 Task 2 from Zenodo; what is there already is not fetched again."""
    from asdcore.datasets.dcase import RECORDS
    from asdcore.datasets.dcase import download as fetch

    if part not in RECORDS:
        raise typer.BadParameter(f"{part!r} is none of {', '.join(RECORDS)}", param_hint="PART")
    for machine in fetch(part, folder, names(machines)):
        out.print(str(machine), highlight=False)


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it they are only listed")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every shard to find what decayed on the disk")] = False,
    preset: PresetOption = "default",
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """List the features that neither these settings nor a registered detector needs. They can be made again."""
    settings = settings_of(preset, change)
    place = start(home)
    from flows.clean import clean as find
    from flows.clean import told

    for line in told(find(place, settings, delete=yes, verify=verify), place, deleted=yes):
        out.print(line, highlight=False, markup=False)


for command in (models, register, promote, rollback, label, watch, ui, deploy, worker):
    app.command()(command)


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 `asd score` found something anomalous."""
    from asdcore.errors import AsdError

    debug = bool(os.environ.get("ASD_DEBUG")) or "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if debug:
        os.environ["ASD_DEBUG"] = "1"
    try:
        app()
    except AsdError as error:
        _fail(str(error), debug)
    except KeyboardInterrupt:
        _fail(STOPPED, debug=False)
    except SystemExit as end:
        if end.code == CTRL_C:
            _fail(STOPPED, debug=False)
        raise
    except Exception as error:
        _fail(f"unexpected {type(error).__name__}: {error}\nRun it again with --debug for the whole story.", debug)


def _fail(message: str, debug: bool) -> None:
    if debug:
        raise
    err.print(f"asd: {message}", markup=False, highlight=False)
    sys.exit(1)


if __name__ == "__main__":
    main()
