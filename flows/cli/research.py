"""The commands of a study: simulated and published data, single stages, comparisons, challenge files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.checks import check_encoder, check_systems, check_trained
from flows.cli.console import out
from flows.cli.options import (
    HomeOption,
    MachinesOption,
    PresetOption,
    SetOption,
    SettingsOption,
    names,
)
from flows.cli.output import Output, with_output
from flows.cli.settings import settings_of, with_settings
from flows.cli.startup import prefect_server, start

if TYPE_CHECKING:
    from asdcore.settings import Settings

YearOption = Annotated[
    int, typer.Option(min=2020, max=2025, help="Year of DCASE Challenge Task 2: its recordings, score and files")
]


@with_output
def demo(output: Output, home: HomeOption = None) -> None:
    """Simulate three machines, fit a detector to them and show the results, in a home of its own."""
    from asdcore.settings import Settings

    place = start(home, below="demo")
    from asdcore.datasets.simulate import simulate as write_machines
    from flows.retrain import retrain as flow

    folder = place.root / "simulated"
    write_machines(folder)
    out.print(f"Simulated recordings of three machines: {folder}")
    with prefect_server(place):
        done = flow(recordings=folder, settings=Settings.preset("demo"), home=place.root)
    from flows.cli.show import show_registered, show_results, write_results

    show_results(done, place)
    show_registered(done, place)
    write_results(output, done, place)


def simulate(
    folder: Annotated[Path, typer.Argument(help="Where the recordings are written")],
    machines: MachinesOption = None,
    seconds: Annotated[float, typer.Option(help="Length of a recording")] = 4.0,
    strength: Annotated[float, typer.Option(help="How strong the faults are; 0: no faults")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same recordings")] = 0,
    sessions: Annotated[
        int | None,
        typer.Option(help="Training sessions of each machine, other ones for the test", show_default="none"),
    ] = None,
    faults: Annotated[
        str | None,
        typer.Option(help="Only these faults, comma-separated", show_default="the built-in five"),
    ] = None,
) -> None:
    """Write recordings of simulated machines, in the layout of DCASE 2023 Task 2."""
    from asdcore.datasets.machines import BUILT_IN_FAULTS, MACHINES
    from asdcore.datasets.simulate import simulate as write_machines

    chosen = names(machines) or list(MACHINES)
    paths = write_machines(
        folder,
        machines=chosen,
        seconds=seconds,
        strength=strength,
        seed=seed,
        sessions=sessions,
        faults=names(faults) or BUILT_IN_FAULTS,
    )
    out.print(f"{len(paths)} simulated recordings of {', '.join(chosen)} in {folder}")


def download(
    part: Annotated[str, typer.Argument(help="development, additional or evaluation")],
    year: YearOption = 2023,
    folder: Annotated[
        Path | None, typer.Option(help="Where the recordings are written", show_default="dcase and the year")
    ] = None,
    machines: MachinesOption = None,
) -> None:
    """Download the recordings of DCASE Challenge Task 2 from Zenodo. What is already there is skipped."""
    from asdcore.datasets.dcase import RECORDS
    from asdcore.datasets.dcase import download as fetch

    if part not in RECORDS[year]:
        raise typer.BadParameter(f"{part!r} is none of {', '.join(RECORDS[year])}", param_hint="PART")
    for machine in fetch(part, folder or Path(f"dcase{year}"), names(machines), year=year):
        out.print(str(machine))


@with_settings
def features(settings: "Settings", machines: MachinesOption = None, home: HomeOption = None) -> None:
    """Compute missing spectrograms. `asd retrain` does this, too."""
    place = start(home)
    with prefect_server(place):
        from flows.features import features as flow

        count = flow(settings=settings, machines=names(machines), home=place.root)
    out.print(f"{count} recordings have features in {place.features}")


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A pickle of weights (.pt, .pth, .bin)")
    ],
    folder: Annotated[Path, typer.Argument(help="Where the model is written; must not exist yet")],
) -> None:
    """Convert a published model from a pickle to safetensors, to be used as an encoder."""
    from asdcore.encoder.pretrained.checkpoint import convert_checkpoint

    values = convert_checkpoint(checkpoint, folder)
    out.print(f"{values / 1e6:.1f} million weights in {folder}; use them with --set training.source={folder}")


def train(
    machines: MachinesOption = None,
    processes: Annotated[int, typer.Option("--nproc", help="Processes that share each batch: one per GPU")] = 1,
    warm_start: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Start from the weights of this encoder", show_default=False),
    ] = None,
    preset: PresetOption = "default",
    settings_file: SettingsOption = None,
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Train only the encoder, on everything that was ingested. `asd retrain` does this, too."""
    own = [f"training.processes={processes}"] if processes > 1 else []
    settings = settings_of(preset, [*(change or []), *own], settings_file)
    check_trained(settings.training)
    check_encoder(settings.training)
    place = start(home)
    with prefect_server(place):
        from flows.train import train as flow

        done = flow(machines=names(machines), settings=settings, warm_start=warm_start, home=place.root)
    last = done["metrics"]
    out.print(f"epoch {last['epoch']:.0f}: loss {last['loss']:.3g}, chance {last['chance']:.3g}")
    out.print(f"Encoder: {done['encoder']}")


def pretrain(
    file: Annotated[Path, typer.Option("--out", dir_okay=False, help="Where the encoder is written")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps")] = 1500,
    machines: Annotated[int, typer.Option(min=1, help="Random machines to learn from")] = 400,
    seed: Annotated[int, typer.Option(help="The same seed gives the same encoder on the same processor")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "cpu",
    home: HomeOption = None,
) -> None:
    """Make the base encoder that comes with the package, from random machines alone. It takes 20 minutes or more.

    With ASD_DASK, it runs on the workers of a Dask cluster. Only then is a home used.
    """
    if os.environ.get("ASD_DASK"):
        place = start(home)
        from flows.pretrain import pretrain as flow

        with prefect_server(place):
            flow(file, steps, seed, machines, device, place.root)
    else:
        from asdcore.encoder.network import choose_device
        from asdcore.encoder.pretrain import pretrain as make

        make(steps, seed, machines, choose_device(device)).save(file)
    out.print(f"Encoder: {file}")


@with_settings
@with_output
def benchmark(
    output: Output,
    settings: "Settings",
    recordings: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help="Ingest these recordings first and use only their machines; default: everything that was ingested. "
            "With several, systems are ranked on the machines of all of them",
            show_default=False,
        ),
    ] = None,
    systems: Annotated[
        str,
        typer.Option(
            help="Comma-separated; the others are compared with the first. ENCODER:SYSTEM is one with another encoder"
        ),
    ] = "paper-ml,paper-elliptic,baseline-mse,baseline-mahalanobis,spectrum",
    machines: MachinesOption = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Trainings of each system, with a seed each; with several, systems are ranked"),
    ] = 1,
    published: Annotated[bool, typer.Option("--published", help="Add the metrics that the paper reports")] = False,
    year: YearOption = 2023,
    home: HomeOption = None,
) -> None:
    """Compare systems on the same recordings, with intervals, in the layout of the paper's Table 1.

    With several --recordings or --seeds, systems are ranked on the machines of all of them: average ranks, significant
    differences, thresholds, costs, AUC by fault; in an HTML report and a Parquet file.
    """
    several = len(recordings or ()) > 1 or seeds > 1
    if several and (published or machines or not recordings):
        raise typer.BadParameter("a ranking needs --recordings, and takes neither --published nor --machines")
    check_systems(names(systems) or [], settings)
    place = start(home)
    if several:
        from flows.cli.show_ranking import show_ranking
        from flows.ranking import rank_systems

        with prefect_server(place):
            ranked = rank_systems(recordings or [], names(systems) or [], seeds, settings, place.root, year)
        show_ranking(ranked, output)
        return
    from flows.benchmark import benchmark as flow
    from flows.cli.show import show_results, write_results

    with prefect_server(place):
        done = flow(
            recordings=recordings[0] if recordings else None,
            systems=names(systems) or [],
            machines=names(machines),
            settings=settings,
            published=published,
            home=place.root,
            year=year,
        )
    show_results(done, place)
    write_results(output, done, place)


@with_output
def evaluate(
    output: Output,
    scores: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of anomaly_score_*.csv files")],
    ground_truth: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of ground truth files")],
    year: YearOption = 2023,
) -> None:
    """Compute the challenge's metrics from official score and decision files, paired by file name."""
    from asdcore.evaluation.challenges import challenge_of
    from asdcore.evaluation.metrics import machine_metrics, summary
    from asdcore.evaluation.submission import read_submission

    rule = challenge_of(year).rule
    metrics = machine_metrics(read_submission(scores, ground_truth, year), rule)
    means = summary(metrics, rule)
    from flows.cli.show import show_metrics

    show_metrics(metrics, means)
    output.write(metrics, means=means)


def submit(
    scores: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Scores of a run, a Parquet file")],
    folder: Annotated[Path, typer.Argument(help="Where the official files are written")],
    system: Annotated[str | None, typer.Option(help="Which system, if there are several", show_default=False)] = None,
    year: YearOption = 2023,
) -> None:
    """Write the challenge's official files from the scores of a run."""
    import pandas as pd

    from asdcore.evaluation.submission import submission_table, write_submission

    for path in write_submission(submission_table(pd.read_parquet(scores), system), folder, year):
        out.print(str(path))
