"""The program `asd`: its commands in groups, and what it says and returns when one of them fails."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import err
from flows.cli.detectors import enroll, models, promote, register, retire, retrain, rollback, score, threshold
from flows.cli.housekeeping import clean, settings
from flows.cli.incidents import incidents, notify
from flows.cli.recordings import forget, ingest, label, rename
from flows.cli.report import report
from flows.cli.research import benchmark, convert, demo, download, evaluate, features, pretrain, simulate, submit, train
from flows.cli.results import results
from flows.cli.screen import screen
from flows.cli.service import board, deploy, ui, watch, worker

STOPPED = "stopped; the same command resumes where it stopped"
CTRL_C = 130
"""Exit code after Ctrl-C, as in shells and Typer."""
FULL = 2**20
"""A disk with fewer bytes is full."""
PATIENCE = 3
"""Seconds for which Ctrl-C waits for threads: one that decodes a recording of hours takes minutes."""

GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Recordings": (screen, ingest, label, forget, rename),
    "Detectors": (retrain, score, results, report, enroll, retire, threshold, models, promote, rollback, register),
    "Research": (demo, simulate, download, features, pretrain, train, convert, benchmark, evaluate, submit),
    "Service": (board, ui, deploy, worker, watch),
    "Housekeeping": (settings, clean),
}

app = typer.Typer(
    help="Anomalous sound detection on machines: learns from normal recordings and tells which machine sounds wrong. "
    "`asd demo` shows it on simulated machines in about a minute.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for _group, _commands in GROUPS.items():
    for _command in _commands:
        app.command(rich_help_panel=_group)(_command)
app.add_typer(incidents, name="incidents", rich_help_panel="Detectors")
app.add_typer(notify, name="notify", rich_help_panel="Service")


def _print_version(wanted: bool) -> None:
    if wanted:
        from asdcore import __version__

        typer.echo(f"asd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the whole stack trace of an error; works after a command, too.")
    ] = False,
) -> None:
    """What stands before a command; `main` has dealt with ``--debug`` before Typer sees it."""


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 `asd score` raised an alarm,
    4 it found something suspect, or `asd screen` something that stands out, 130 Ctrl-C.
    """
    from asdcore.errors import AsdError

    any_text()
    debug = bool(os.environ.get("ASD_DEBUG")) or "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if debug:
        os.environ["ASD_DEBUG"] = "1"
    try:
        app(prog_name="asd")
    except AsdError as error:
        _fail(str(error), debug)
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as end:
        if end.code == CTRL_C:
            _stopped()
        raise
    except Exception as error:
        if by_ctrl_c(error):
            _stopped()
        from asdcore.storage.home import without_userinfo

        # SQLAlchemy adds the statement and a link, below.
        said = f"unexpected {type(error).__name__}: {without_userinfo(error)}".partition("\n[SQL:")[0]
        _fail(f"{said}\n{_full_disk() or 'Run it again with --debug for the stack trace.'}", debug)


def by_ctrl_c(error: BaseException | None) -> bool:
    """Whether Ctrl-C has caused an error: libraries raise one of their own while they end, or while they are imported;
    Pydantic's only says so in its text.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or KeyboardInterrupt.__name__ in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _full_disk() -> str:
    """A sentence about a full disk, which makes libraries and servers fail in many ways; empty if there is none."""
    from asdcore.storage.files import is_full

    # Where the home and temporary files are.
    for variable, default in (("PREFECT_HOME", "."), ("TMPDIR", "/tmp")):  # nosec B108
        place = os.environ.get(variable, default)
        with suppress(OSError):
            if is_full(Path(place), FULL):
                return f"The disk of {place} is full: free some space, or set ASD_HOME or TMPDIR to a folder elsewhere."
    return ""


def any_text() -> None:
    """Write characters that the encoding of the output lacks as escapes, and nothing where it is closed (``>&-``)."""
    for name in ("stdin", "stdout", "stderr"):  # In this order, each gets its own number back.
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stopped() -> None:
    """End after Ctrl-C, within `PATIENCE` seconds. A second one ends the program at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    err.print(f"asd: {STOPPED}")
    end = time.monotonic() + PATIENCE
    others = [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    for thread in others:
        thread.join(max(end - time.monotonic(), 0))
    if any(thread.is_alive() for thread in others):
        os._exit(CTRL_C)  # Python itself would wait for them.
    sys.exit(CTRL_C)


def _fail(message: str, debug: bool) -> None:
    if debug:
        raise
    err.print(f"asd: {message}")
    sys.exit(1)
