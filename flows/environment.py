"""Variables for Prefect, MLflow and other libraries, set before they are imported. What the user has set stays."""

import os
from pathlib import Path

from asdcore.errors import AsdError
from asdcore.storage.files import disk_remedies
from asdcore.storage.home import Home, quoted_for_sqlite
from flows.prefect_database import URL

DAYS_OF_FLOW_RUNS = 30
"""after which a server deletes a flow run that has ended, with its logs and artifacts"""
DAYS_OF_EVENTS = 2
"""after which a server deletes an event: automations act at once, and only the pages of the UI show older ones"""
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


def prepare(home: Home, *, quiet: bool) -> None:
    """Keep Prefect's database, results and pages in the home, and report no usage to anybody.

    Raises:
        AsdError: the home cannot be made or read.
    """
    _refuse_what_is_no_text(home)
    defaults = {
        "PREFECT_HOME": str(home.prefect),
        # Prefect copies the pages of its UI, by default to where it is installed.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home.prefect / "pages"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        # Each recording that arrives adds flow runs and events. Metrics, lineage and judgements are kept elsewhere.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": f"P{DAYS_OF_FLOW_RUNS}D",
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{DAYS_OF_EVENTS}D",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # "View run ..." would stand between the JSON of a command.
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        # A server that is down is asked for half a minute; MLflow's own seven times take four.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    }
    database = home.prefect / "prefect.db"
    if quoted_for_sqlite(database) != str(database):
        defaults[URL] = f"sqlite+aiosqlite:///{quoted_for_sqlite(database)}"
    if quiet:
        # The command line shows errors in its own words; the UI still gets every log line.
        defaults |= {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "MLFLOW_LOGGING_LEVEL": "CRITICAL"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    loopback_without_proxy()
    place = Path(os.environ["PREFECT_HOME"])
    try:
        with disk_remedies(place):
            place.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise AsdError(f"{place}: a file is in the way of this folder; choose another home with --home") from error


def loopback_without_proxy() -> None:
    """Reach loopback without a proxy, whatever ``http_proxy`` says."""
    given = ",".join(filter(None, (os.environ.get("no_proxy"), os.environ.get("NO_PROXY"))))
    names = dict.fromkeys(name.strip() for name in [*given.split(","), *LOOPBACK_NAMES] if name.strip())
    # Some libraries read one of the two, some the other.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)


def _refuse_what_is_no_text(home: Home) -> None:
    try:
        str(home.root).encode()
    except UnicodeEncodeError:
        raise AsdError(
            f"the path of the home, {str(home.root)!r}, is not UTF-8, so no URL can name the databases in it. "
            "Choose another folder with --home or ASD_HOME"
        ) from None
