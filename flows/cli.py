"""The command line. Every command is one call that a notebook could make; heavy imports wait until needed."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from asdcore.home import Home
    from asdcore.settings import Settings

app = typer.Typer(
    help="Anomalous sound detection on machines: learns from normal recordings, tells which machine sounds wrong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Where everything is kept; default ASD_HOME or .asd", show_default=False)
]
PresetOption = Annotated[str, typer.Option(help="paper, default, or demo (minutes on two CPU cores)")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, for example training.epochs=80; can be repeated", show_default=False),
]
MachinesOption = Annotated[
    str | None, typer.Option(help="Only these machines, with commas between", show_default=False)
]


@app.command()
def demo(home: HomeOption = None) -> None:
    """Simulate three machines, train on them and show what comes out, in a home of its own."""
    from asdcore.settings import Settings

    place = _start(home, below="demo")
    from asdcore.recordings.simulate import simulate as write_machines
    from flows.retrain import retrain as flow

    folder = place.root / "simulated"
    write_machines(folder)
    out.print(f"Simulated recordings of three machines: {folder}")
    _say_starting()
    _show_retraining(flow(recordings=folder, settings=Settings.preset("demo"), home=place.root), place)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where the recordings are written")],
    machines: MachinesOption = None,
    seconds: Annotated[float, typer.Option(help="Length of a recording")] = 4.0,
    strength: Annotated[float, typer.Option(help="How strong the faults are; 0: none")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same recordings")] = 0,
) -> None:
    """Write recordings of simulated machines, in the layout of DCASE 2023 Task 2."""
    from asdcore.recordings.simulate import MACHINES
    from asdcore.recordings.simulate import simulate as write_machines

    chosen = _names(machines) or list(MACHINES)
    paths = write_machines(folder, machines=chosen, seconds=seconds, strength=strength, seed=seed)
    out.print(f"{len(paths)} simulated recordings of {', '.join(chosen)} in {folder}")


@app.command()
def ingest(
    recordings: Annotated[Path, typer.Argument(exists=True, help="A folder of recordings, or a manifest CSV")],
    preset: PresetOption = "default",
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Check recordings and add what is new to the table of recordings. The files are only read."""
    settings = _settings(preset, change)
    place = _start(home)
    from flows.ingest import ingest as flow

    _say_starting()
    done = flow(recordings=recordings, settings=settings.recordings, home=place.root)
    _show_ingest(done, place, settings)


@app.command()
def features(
    machines: MachinesOption = None, preset: PresetOption = "default", change: SetOption = None, home: HomeOption = None
) -> None:
    """Compute the spectrograms that are missing. `asd retrain` does it, too."""
    settings = _settings(preset, change)
    place = _start(home)
    from flows.features import features as flow

    _say_starting()
    count = flow(settings=settings, machines=_names(machines), home=place.root)
    out.print(f"{count} recordings have features in {place.features}")


@app.command()
def retrain(
    recordings: Annotated[
        Path | None,
        typer.Option(
            help="Ingest these first and train on the machines that are there; default: all that was ingested"
        ),
    ] = None,
    machines: MachinesOption = None,
    preset: PresetOption = "default",
    change: SetOption = None,
    home: HomeOption = None,
) -> None:
    """From recordings to a registered detector; what is done already is not done again."""
    settings = _settings(preset, change)
    place = _start(home)
    from flows.retrain import retrain as flow

    _say_starting()
    done = flow(recordings=recordings, machines=_names(machines), settings=settings, home=place.root)
    _show_retraining(done, place)


@app.command()
def score(
    recordings: Annotated[list[Path], typer.Argument(exists=True, help="Audio files, or folders of them")],
    machine: Annotated[
        str | None, typer.Option(help="Default: each file's folder names it", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Alias or version of the registered detector")] = "champion",
    home: HomeOption = None,
) -> None:
    """Score recordings with a registered detector. Higher is more anomalous."""
    place = _start(home)
    import pandas as pd

    from flows.score import score as flow

    _say_starting()
    done = flow(recordings=recordings, machine=machine, model=model, home=place.root)
    scores = pd.read_parquet(done["table"])
    shown = scores.sort_values("score", ascending=False, na_position="last")
    rows = [
        [r["machine"], "-" if pd.isna(r["score"]) else f"{r['score']:.1f}", r["path"]] for r in shown.to_dict("records")
    ]
    out.print(_table(["machine", "score", "recording"], rows, right=[1]))
    out.print(f"Detector version {done['version']}. Scores: {done['table']}")
    if done["failed"]:
        for row in scores[scores["score"].isna()].to_dict("records"):
            err.print(f"not scored: {row['path']}: {row['reason']}", markup=False)
        raise typer.Exit(1)


@app.command()
def models(home: HomeOption = None) -> None:
    """What is registered: version, alias, score, date, data."""
    place = _start(home)
    from tasks.registry import registered_models

    rows = registered_models(place)
    if not rows:
        out.print(f"Nothing is registered in {place.mlflow_uri}. `asd retrain` makes a detector.")
        return
    columns = ["version", "alias", "score", "date", "machines", "data"]
    out.print(_table(columns, [[str(row[name] or "") for name in columns] for row in rows]))
    out.print(
        "score: harmonic mean of AUC source, AUC target and pAUC over the machines, percent, on the test recordings"
    )


@app.command()
def ui(
    home: HomeOption = None,
    prefect_port: Annotated[int, typer.Option(help="0: any free one")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="0: any free one")] = 5000,
) -> None:
    """Start the Prefect and MLflow servers of this home on loopback, until Ctrl-C."""
    place = _start(home)
    from flows.servers import serve

    serve(place, prefect_port, mlflow_port, out.print)


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 the work failed, 2 wrong usage."""
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
        _fail("stopped; the same command goes on where this one was", debug=False)
    except Exception as error:
        _fail(f"unexpected {type(error).__name__}: {error}\nRun it again with --debug for the whole story.", debug)


def _fail(message: str, debug: bool) -> None:
    if debug:
        raise
    err.print(f"asd: {message}", markup=False, highlight=False)
    sys.exit(1)


def _start(home: Path | None, below: str = "") -> "Home":
    """The home, after Prefect and MLflow have been told about it. Call it before importing a flow."""
    from asdcore.home import Home
    from flows.environment import prepare

    place = Home.at(home) if home else Home.default()
    if below:
        place = Home(place.root / below)
    prepare(place, quiet=not os.environ.get("ASD_DEBUG"))
    return place


def _say_starting() -> None:
    if not os.environ.get("PREFECT_API_URL"):
        err.print("Starting Prefect's API for this run ...", style="dim")


def _settings(preset: str, changes: list[str] | None) -> "Settings":
    from pydantic import ValidationError

    from asdcore.settings import PRESETS, Settings

    if preset not in PRESETS:
        raise typer.BadParameter(f"{preset!r} is none of {', '.join(PRESETS)}", param_hint="--preset")
    values = Settings.preset(preset).model_dump()
    for change in changes or []:
        name, separator, value = change.partition("=")
        stage, _, knob = name.partition(".")
        if not separator or knob not in values.get(stage, {}):
            raise typer.BadParameter(
                f"{change!r}: write stage.name=value, for example training.epochs=80", param_hint="--set"
            )
        values[stage][knob] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        given = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        raise typer.BadParameter(f"{where}: {first['msg']}{given}", param_hint="--set") from error


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _show_ingest(done: dict[str, Any], place: "Home", settings: "Settings") -> None:
    from asdcore.recordings.catalog import Catalog
    from tasks.recordings import machine_table

    catalog = Catalog(place.recordings)
    rows = [row for row in machine_table(catalog) if row["machine"] in done["machines"]]
    if rows:
        out.print(_table(list(rows[0]), [[str(value) for value in row.values()] for row in rows], right=range(1, 8)))
    own = catalog.recordings[catalog.recordings["machine"].isin(done["machines"])]
    treated = own[own["treatment"] != ""]
    for treatment, n in treated["treatment"].value_counts().items():
        out.print(f"{n} x {treatment}", highlight=False)
    total = sum(row["total"] for row in rows)
    out.print(
        f"{total} recordings of {len(rows)} machine(s): {done['added']} added, {done['known']} known already, "
        f"{done['duplicates']} the same content under another name, {len(done['quarantined'])} quarantined."
    )
    for file, reason in sorted(done["quarantined"].items())[:20]:
        err.print(f"quarantined: {file}: {reason}", markup=False, highlight=False)
    if len(done["quarantined"]) > 20:
        err.print(f"... and {len(done['quarantined']) - 20} more in {place.recordings}")
    minimum = settings.recordings.minimum_training_recordings
    few = [row["machine"] for row in rows if row["train source"] + row["train target"] < minimum]
    if few:
        err.print(f"too few normal training recordings for a detector (a machine needs {minimum}): {', '.join(few)}")


def _show_retraining(done: dict[str, Any], place: "Home") -> None:
    import pandas as pd

    from asdcore.evaluation.table import cells

    if done["table"]:
        tables = [pd.read_parquet(place.root / done[name]) for name in ("table", "differences")]
        header, *rows = cells(*tables)
        title = next(line for line in done["report"].splitlines() if line.startswith("## ")).removeprefix("## ")
        out.print(_table(header, rows, right=range(2, len(header)), title=f"{title}, percent; 50 is chance"))
    for line in done["report"].splitlines():
        if line.startswith("- "):
            out.print(line, highlight=False, markup=False)
    if not done["table"]:
        out.print("There are no labelled test recordings: no figures can be given.")
    shown = place.root if place.root != place.default().root else None
    option = f" --home {_short(place.root)}" if shown else ""
    out.print(f"figures    {_short(place.root / done['figures'])}", highlight=False)
    out.print(f"detector   {_short(Path(done['detector']))}", highlight=False)
    out.print(
        f"registry   asd-detector version {done['version']}, the champion; see asd models{option}", highlight=False
    )
    out.print(f"UI         asd ui{option}", highlight=False)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _table(header: list[str], rows: list[list[str]], right: Iterable[int] = (), title: str | None = None) -> Table:
    """A table in which a first cell that repeats the one above is left empty."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index in right else "left", overflow="fold")
    above = None
    for first, *rest in rows:
        table.add_row("" if first == above else first, *rest)
        above = first
    return table


if __name__ == "__main__":
    main()
