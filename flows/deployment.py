"""Put the flows on a Prefect server: work pool, a deployment per flow, an automation that ends runs of dead workers."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import yaml
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists

from asdcore.errors import AsdError
from asdcore.settings import Settings
from asdcore.storage.files import atomic_write
from asdcore.storage.home import Home, without_userinfo
from asdcore.storage.s3 import s3_address
from flows.left_behind import end_runs_left_behind, worker_name

POOL = "asd"
PREFECT_FILE = Path(__file__).with_name("prefect.yaml")
"""In a checkout a link to the one at the top, in an installed package a copy."""
HEARTBEAT_SECONDS = 30
"""between two heartbeats of a run of this worker; a run from a terminal or a notebook sends one every 180 s"""
DEAD_AFTER = timedelta(minutes=7)
ZOMBIES = "asd: a run whose worker is dead has crashed"


def deploy(
    home: Home, settings: Settings, recordings: Path | None, retrain_after: int, to_score: Path | None = None
) -> list[str]:
    """Create the work pool, deploy every flow of prefect.yaml for this home, and end runs without a heartbeat.

    Args:
        home: of all runs.
        settings: of features, retrain and benchmark.
        recordings: the folder that the scheduled `retrain` ingests; default: everything that was ingested.
        retrain_after: new normal recordings that make a retraining due.
        to_score: the folder that the scheduled `score` scores; default: it gets no schedule.

    Returns:
        The names of the deployments.

    Raises:
        AsdError: there is no server or no prefect.yaml, or `prefect deploy` fails.
    """
    require_server()
    if not PREFECT_FILE.exists():
        raise AsdError(f"{PREFECT_FILE} is missing: install asd again")
    plan = planned(home, settings, recordings, retrain_after, to_score)
    with get_client(sync_client=True) as api, suppress(ObjectAlreadyExists):
        api.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    rendered = home.root / "prefect.yaml"
    with atomic_write(rendered) as temporary:
        temporary.write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
    # Prefect asks about existing triggers and schedules; without a prompt they are replaced.
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(rendered)]
    done = subprocess.run(command, cwd=home.root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AsdError(f"prefect deploy: {(done.stderr or done.stdout).strip()[-2000:]}")
    end_runs_of_dead_workers()
    return [deployment["name"] for deployment in plan["deployments"]]


def planned(
    home: Home, settings: Settings, recordings: Path | None, retrain_after: int, to_score: Path | None
) -> dict[str, Any]:
    """The content of prefect.yaml with the parameters and descriptions of this home; see `deploy`."""
    plan: dict[str, Any] = yaml.safe_load(PREFECT_FILE.read_text(encoding="utf-8"))
    parameters: dict[str, dict[str, Any]] = {
        name: {"settings": settings.model_dump(mode="json")} for name in ("features", "retrain", "benchmark", "ranking")
    }
    parameters["arrivals"] = {"retrain_after": retrain_after}
    parameters["ingest"] = {"settings": settings.recordings.model_dump(mode="json")}
    if recordings is not None:
        address = _address(recordings)
        parameters["retrain"]["recordings"] = parameters["ingest"]["recordings"] = address
    if to_score is not None:
        parameters["score"] = {"recordings": [_address(to_score)]}
    for deployment in plan["deployments"]:
        own = parameters.get(deployment["name"], {})
        deployment["parameters"] = {"home": home.name, **own}
        deployment["description"] = _described(deployment["description"], home, own)
        if deployment["name"] == "score" and to_score is None:
            deployment.pop("schedules")
    return plan


def _address(place: Path) -> str:
    return s3_address(place) or str(place.resolve())


def _described(text: str, home: Home, parameters: dict[str, Any]) -> str:
    """What a deployment does, and with what; Markdown."""
    places = parameters.get("recordings", [])
    given = {
        "home": home.name,
        "recordings": ", ".join([places] if isinstance(places, str) else places),
        "retraining after": f"{after} new normal recordings" if (after := parameters.get("retrain_after")) else "",
    }
    return "\n".join([text.strip(), "", *(f"- {name}: `{value}`" for name, value in given.items() if value)])


def work(home: Home) -> NoReturn:
    """Become a Prefect worker, which runs the deployed flows until Ctrl-C or SIGTERM."""
    require_server()
    environment = os.environ | {
        "ASD_HOME": home.name,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        # A run, and the worker, wait up to eight minutes for a server that restarts; Prefect's default is one.
        "PREFECT_CLIENT_MAX_RETRIES": os.environ.get("PREFECT_CLIENT_MAX_RETRIES", "8"),
    }
    name = worker_name()
    end_runs_left_behind(name)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    # Prefect's worker ends itself with SIGINT after SIGTERM; a script that starts it with & has it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Not a child process: the worker would survive the end of this one.
    os.execve(sys.executable, command, environment)


def require_server() -> None:
    """Raise AsdError if no Prefect server is configured, or if it does not answer."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise AsdError("this needs a Prefect server: start `asd ui`, then set PREFECT_API_URL as it says")
    try:
        urllib.request.urlopen(f"{url}/health", timeout=30).close()
    except urllib.error.HTTPError:
        pass  # It answers; Prefect's client deals with the rest, such as authentication.
    except (OSError, ValueError) as error:
        message = (
            f"no Prefect server answers at {without_userinfo(url)} (PREFECT_API_URL): {error}; `asd ui` starts one"
        )
        raise AsdError(message) from error


def end_runs_of_dead_workers(after: timedelta = DEAD_AFTER) -> None:
    """Let the server set runs without a heartbeat to Crashed; otherwise they would stay Running forever.

    Args:
        after: time without a heartbeat, at least ten seconds.
    """
    ends = {"Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended"}
    automation = Automation(
        name=ZOMBIES,
        description=(
            f"A run that sends no heartbeat for {after.total_seconds() / 60:g} minutes is set to Crashed. Otherwise it "
            "would stay Running forever, and no other run of its flow could start."
        ),
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{state}" for state in ends)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=after,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its worker is dead")],
    )
    with get_client(sync_client=True) as api:
        existing = api.read_automations_by_name(ZOMBIES)
    if existing:
        automation.id = existing[0].id
        automation.update()
    else:
        automation.create()
