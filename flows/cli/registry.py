"""The commands about what is registered."""

from typing import Annotated

import typer

from flows.cli.options import HomeOption, out, say_starting, start


def models(
    machine: Annotated[
        str | None, typer.Option(help="The reliability report of this machine", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Alias or version, with --machine")] = "champion",
    diff: Annotated[
        tuple[str, str] | None, typer.Option(help="Two aliases or versions: what differs", show_default=False)
    ] = None,
    home: HomeOption = None,
) -> None:
    """What is registered: version, alias, score, date, data; the reliability report of one machine; or two compared."""
    place = start(home)
    from flows.cli.show import print_table, show_differences, show_reliability
    from tasks.registry import load_detector, registered_models, version_facts

    with place.synchronised(out.print):
        if machine is not None:
            show_reliability(machine, *load_detector(place, model))
            return
        if diff is not None:
            show_differences(diff, *(version_facts(place, one) for one in diff))
            return
        rows = registered_models(place)
    if not rows:
        out.print(f"Nothing is registered in {place.registry}. `asd retrain` makes a detector.")
        return
    columns = ["version", "alias", "score", "date", "machines", "data"]
    print_table(columns, [[str(row[name] or "") for name in columns] for row in rows])
    out.print(
        "score: harmonic mean of AUC source, AUC target and pAUC over the machines, percent, on the test recordings"
    )


def register(
    run: Annotated[str | None, typer.Argument(help="MLflow run; default: all that wait", show_default=False)] = None,
    home: HomeOption = None,
) -> None:
    """Finish retrainings whose MLflow store did not answer at the end. Nothing is trained again."""
    place = start(home)
    from flows.cli.show import show_registered
    from flows.register import register as flow

    say_starting()
    finished = flow(run=run, home=place.root)
    for done in finished:
        show_registered(done, place)
    if not finished:
        out.print("No retraining waits to be registered.")


def promote(
    version: Annotated[str, typer.Argument(help="A registered version; `asd models` lists them")],
    home: HomeOption = None,
) -> None:
    """Make a version the champion, whatever the gate said."""
    place = start(home)
    from tasks.registry import champion_version, set_champion

    with place.lock(out.print):
        before = champion_version(place)
        set_champion(place, version, f"promoted by {who()}")
    after = "there was none" if not before else f"version {before} before"
    out.print(f"Version {version} is the champion; {after}. `asd rollback` takes that back.")


def rollback(home: HomeOption = None) -> None:
    """Make the version champion again that the champion replaced."""
    place = start(home)
    from tasks.registry import rolled_back

    with place.lock(out.print):
        version, replaced = rolled_back(place, who())
    out.print(f"Version {replaced} is the champion again; it was version {version}.")


def label(
    recordings: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, digests, or a CSV with the columns recording (path or digest) and label; none: list "
            "what waits for a label",
            show_default=False,
        ),
    ] = None,
    as_: Annotated[str | None, typer.Option("--as", help="normal, anomaly or unknown", show_default=False)] = None,
    by: Annotated[str | None, typer.Option(help="Who says so; default: the user", show_default=False)] = None,
    home: HomeOption = None,
) -> None:
    """Say what recordings are. Normal training recordings train from now on; no later ingest changes the label."""
    place = start(home)
    from asdcore.recordings.catalog import Catalog, pending_review
    from asdcore.recordings.labels import labels_of
    from flows.cli.show import print_table

    with place.lock(lambda text: out.print(text)):
        catalog = Catalog(place.recordings)
        if recordings:
            labels = labels_of(catalog, recordings, as_)
            catalog.label(labels, by or who())
            out.print(f"{len(labels)} recordings labelled by {by or who()}.", highlight=False)
            return
    waiting = pending_review(catalog.recordings)
    if waiting.empty:
        out.print("No recording waits for a label.")
        return
    columns = ["machine", "labelled_by", "recording", "path"]
    rows = waiting[columns].fillna("nobody").astype(str).values.tolist()
    print_table(["machine", "judged by", "recording", "path"], [[a, b, c[:12], d] for a, b, c, d in rows])
    out.print("They do not train. `asd label PATH --as normal`, or `--as anomaly`, settles it.")


def who() -> str:
    """The user at the terminal."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # No name for this user id, as in some containers.
        return "an unnamed user"
