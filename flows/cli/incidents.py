"""The commands for incidents, and for the notifications about them."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import err, out
from flows.cli.options import HomeOption
from flows.cli.output import Output, with_output
from flows.cli.startup import start
from flows.cli.user import user_name

if TYPE_CHECKING:
    from datetime import datetime

    from asdcore.notification.outbox import Subscription
    from asdcore.storage.home import Home

incidents = typer.Typer(
    help="List what is wrong now: anomalies, suspect streaks, drift, failed runs, refused challengers.",
    invoke_without_command=True,
)
notify = typer.Typer(help="Messages about incidents, to the channels of notify.yaml.", no_args_is_help=True)


@incidents.callback()
@with_output
def listed(
    output: Output,
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Closed ones, too")] = False,
    machine: Annotated[str | None, typer.Option(help="Only those of this machine", show_default=False)] = None,
    home: HomeOption = None,
) -> None:
    """List what is wrong now: anomalies, suspect streaks, drift, failed runs, refused challengers.

    An incident lasts until it is closed, however many recordings belong to it.
    """
    if context.invoked_subcommand is not None:
        return
    place = start(home)
    from dataclasses import asdict

    from asdcore.monitoring.incidents import incidents as known
    from asdcore.notification.message import one_line
    from asdcore.recordings.paths import nfc
    from flows.cli.tables import print_table

    found = [one for one in known(place, machine=machine and nfc(machine)) if every or one.is_open]
    output.write([asdict(one) for one in found])
    if not found:
        out.print("No incident is open." if not every else "There are no incidents.")
        return
    header = ["id", "about", "kind", "since", "last seen", "count", *(["closed"] if every else []), ""]
    rows = [
        [
            one.id,
            one.subject,
            one.kind,
            _time(one.opened),
            _time(one.last_seen),
            str(one.recordings),
            *([f"{_time(one.closed)} by {one.closed_by}" if one.closed else ""] if every else []),
            one_line(one.sentence),
        ]
        for one in found
    ]
    print_table(header, rows, right=[5])
    if any(one.is_open for one in found):
        out.print("`asd incidents close ID` closes one that has been dealt with.")


@incidents.command()
def close(
    incident: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the first digits of its id")],
    by: Annotated[str | None, typer.Option(help="Who closes it; default: your user name", show_default=False)] = None,
    home: HomeOption = None,
) -> None:
    """Close an incident that has been dealt with. Later recordings can open a new one."""
    place = start(home)
    from asdcore.monitoring.incidents import close_incident
    from tasks.notification import notified

    done = close_incident(place, incident, by or user_name())
    out.print(f"Closed {done.id}, {done.subject}: {done.kind}.")
    notified(place)


@notify.command()
def test(home: HomeOption = None) -> None:
    """Send a test message to each channel, and report the result. Exit code 1 if a channel fails."""
    place = start(home)
    from tasks.notification import sent_tests

    failed = False
    for name, error in sent_tests(_channels(place)[0], place).items():
        failed |= bool(error)
        (err if error else out).print(f"{name}: {error or 'sent'}")
    raise typer.Exit(int(failed))


@notify.command()
def send(home: HomeOption = None) -> None:
    """Send the messages that wait, for use with cron. `asd ui` and `asd watch` do this by themselves."""
    place = start(home)
    from asdcore.notification.outbox import deliver

    failures = deliver(place, *_channels(place), at_once=True)
    for name, error in failures.items():
        err.print(f"{name}: {error}")
    raise typer.Exit(int(bool(failures)))


@notify.command()
@with_output
def status(output: Output, home: HomeOption = None) -> None:
    """Show how many messages wait for each channel, and why."""
    place = start(home)
    from asdcore.notification.outbox import waiting
    from flows.cli.tables import print_table

    rows = []
    for name, channel in _channels(place)[0].items():
        count, failure = waiting(place, name)
        quiet = ", ".join(channel.quiet.ranges)
        rows.append([name, str(count), quiet, _time(failure[0]) if failure else "", failure[1] if failure else ""])
    header = ["channel", "waiting", "quiet hours", "next attempt", "last error"]
    print_table(header, rows, right=[1])
    output.write([dict(zip([name.replace(" ", "_") for name in header], row, strict=True)) for row in rows])


def _channels(home: "Home") -> "tuple[dict[str, Subscription], datetime]":
    from asdcore.errors import AsdError
    from asdcore.notification.configuration import configuration_file, subscriptions

    file = configuration_file(home)
    if not file.exists():
        raise AsdError(
            f"{file} does not exist: it lists the channels that get messages; see Notifications in the documentation"
        )
    channels, changed = subscriptions(file)
    if not channels:
        raise AsdError(f"{file} lists no channel")
    return channels, changed


def _time(time: "datetime") -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"
