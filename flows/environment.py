"""Defaults for Prefect and MLflow, set before either is imported. What the user has set stays."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from asdcore.storage.home import Home

OWNER = "ASD_PROCESS"
"""Environment variable that identifies the parent of a child process, such as Prefect's temporary API server."""


def prepare(home: Home, *, quiet: bool) -> None:
    """Keep Prefect's database and results in the home, give its API time to start, report no usage to anybody."""
    defaults = {
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        # "View run ..." would stand between the JSON of a command.
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    if quiet:
        # The command line shows errors in its own words; the UI still gets every log line.
        defaults |= {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "MLFLOW_LOGGING_LEVEL": "CRITICAL"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    os.environ[OWNER] = str(os.getpid())
    end_orphaned_servers()


def end_orphaned_servers() -> None:
    """End the temporary API servers of commands that were killed with -9: nothing else would, and each holds 230 MB.

    They are known by their environment, which only Linux shows; elsewhere nothing is done.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            lines = (process / "environ").read_bytes().decode(errors="replace").split("\x00")
            variables = dict(line.split("=", 1) for line in lines if "=" in line)
            owner = variables.get(OWNER)
            if owner and "PREFECT__SERVER_EPHEMERAL" in variables and not Path("/proc", owner).exists():
                os.kill(int(process.name), signal.SIGTERM)
