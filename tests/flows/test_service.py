"""The pipeline as a service: a server, a worker, deployments and events, for real and on loopback."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from filelock import FileLock
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from asdcore.datasets.simulate import SAMPLE_RATE, waveform
from asdcore.monitoring.incidents import FAILED_RUN, Incident, open_incidents
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.training import pending_review
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.deployment import end_runs_of_dead_workers
from flows.retrain import retrain

pytestmark = [pytest.mark.flow, pytest.mark.slow]


@pytest.fixture(scope="module")
def home(prefect_api: str, small_machines: Path, small_settings: Settings, tmp_path_factory: Any) -> Home:
    """One with a champion that knows simFan, and judges by a rate that makes few recordings enough."""
    place = Home.at(tmp_path_factory.mktemp("service") / "home")
    normality = small_settings.normality.model_copy(
        update={"false_alarm_rate": 0.1, "scorers": ("spectrum_deviation",)}
    )
    retrain(
        recordings=small_machines / "simFan",
        settings=small_settings.model_copy(update={"normality": normality}),
        home=place.root,
    )
    return place


@pytest.fixture(scope="module")
def service(home: Home, tmp_path_factory: Any) -> Iterator[dict[str, Any]]:
    """A server as `asd ui` starts it, all flows deployed, a worker, and a watched folder; all end with the tests."""
    logs = tmp_path_factory.mktemp("logs")
    folder = tmp_path_factory.mktemp("arriving")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    # The home's own Prefect folder was written to by the tests' server.
    environment |= {"PREFECT_HOME": str(logs / "prefect"), "COLUMNS": "200", "PREFECT_WORKER_QUERY_SECONDS": "1"}
    running: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "flows.cli", *arguments, "--home", str(home.root)]
        with (logs / name).open("wb") as log:
            # A group of its own: what a test kills must not outlive it.
            running[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def kill(name: str) -> None:
        """With -9, and all that it has started."""
        for process in [*psutil.Process(running[name].pid).children(recursive=True), running[name]]:
            process.kill()
        running.pop(name).wait()

    def said(name: str, pattern: str, seconds: float = 120) -> str:
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, (logs / name).read_text())):
            assert time.monotonic() < until, (logs / name).read_text()
            time.sleep(0.2)
        return found[0]

    try:
        start("ui", "ui", "--prefect-port", "0", "--mlflow-port", "0")
        environment["PREFECT_API_URL"] = said("ui", r"http://127.0.0.1:\d+/api")
        deploy = [sys.executable, "-m", "flows.cli", "deploy", "--preset", "demo", "--home", str(home.root)]
        done = subprocess.run(deploy, env=environment, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        start("worker", "worker")
        start("watch", "watch", str(folder), "--quiet", "1")
        said("worker", "started!")
        said("watch", "Watching")
        yield {"api": environment["PREFECT_API_URL"], "folder": folder, "said": said, "start": start, "kill": kill}
    finally:
        for process in reversed(running.values()):
            os.killpg(process.pid, signal.SIGTERM)
        for process in running.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def ask(api: str, question: Callable[[Any], Any]) -> Any:
    async def answer() -> Any:
        async with get_client() as client:
            return await question(client)

    with temporary_settings({PREFECT_API_URL: api}):
        return asyncio.run(answer())


def test_every_flow_is_deployed_with_its_schedule_switched_off_and_dead_workers_runs_end(
    service: dict[str, Any], home: Home
) -> None:
    deployments = {one.name: one for one in ask(service["api"], lambda client: client.read_deployments())}
    flows = "ingest features retrain enroll retire arrivals benchmark ranking score report-crash"
    assert set(deployments) == set(flows.split())
    assert all(one.parameters["home"] == str(home.root) for one in deployments.values())
    assert deployments["retrain"].parameters["settings"]["training"]["epochs"] == 16
    schedules = {name: one.schedules for name, one in deployments.items() if one.schedules}
    assert set(schedules) == {"retrain", "arrivals"}
    assert not any(schedule.active for own in schedules.values() for schedule in own)
    automations = ask(service["api"], lambda client: client.read_automations())
    assert len(automations) == 4  # One for each trigger, and one for runs without a heartbeat.
    assert all(one.name.startswith("asd: ") and one.description for one in automations)


def test_a_recording_that_arrives_is_judged_by_the_worker_and_an_anomalous_one_waits_for_a_label(
    service: dict[str, Any], home: Home, asd: "Callable[..., subprocess.CompletedProcess[str]]"
) -> None:
    rng = np.random.default_rng(5)
    folder = service["folder"] / "simFan"
    folder.mkdir()
    for name, label, fault, strength in (("monday", "normal", None, 0.0), ("tuesday", "anomaly", "broadband", 30.0)):
        samples = waveform("simFan", domain="source", label=label, rng=rng, fault=fault, strength=strength, seconds=1.0)
        soundfile.write(folder / f"{name}.wav", samples, SAMPLE_RATE)
    service["said"]("watch", r"2 files: 2 new recordings, 0 quarantined")

    def settled() -> bool:
        rows = Catalog(home.recordings).recordings
        return int((rows["labelled_by"] == "detector 1").sum()) == 2

    until = time.monotonic() + 120
    while not settled():
        assert time.monotonic() < until, service["said"]("worker", ".*")
        time.sleep(0.5)
    rows = Catalog(home.recordings).recordings
    labels = {Path(row["path"]).stem: row["label"] for row in rows[rows["labelled_by"].notna()].to_dict("records")}
    assert labels == {"monday": "normal", "tuesday": "unknown"}
    listed = asd("label", "--home", home.root)
    assert "tuesday.wav" in listed.stdout and "monday.wav" not in listed.stdout and "detector 1" in listed.stdout
    done = asd("label", folder / "tuesday.wav", "--as", "anomaly", "--by", "anna", "--home", home.root)
    assert "1 recording labelled by anna" in done.stdout, done.stderr
    assert pending_review(Catalog(home.recordings).recordings).empty


def started(api: str, flow: str, home: Home, **parameters: Any) -> Any:
    """A new run of a deployment."""

    async def start(client: Any) -> Any:
        deployment = await client.read_deployment_by_name(f"{flow}/{flow}")
        values = {**parameters, "home": str(home.root)}
        return await client.create_flow_run_from_deployment(deployment.id, parameters=values)

    return ask(api, start)


def wait(found: Callable[[], Any], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until
        time.sleep(0.1)


def ended(api: str, run: Any, as_: StateType, seconds: float = 60) -> Any:
    """The state that a run ends in. One that is cancelled has Crashed for a moment, until its worker says why."""
    until = time.monotonic() + seconds
    while (state := ask(api, lambda client: client.read_flow_run(run.id)).state).type != as_:
        assert time.monotonic() < until, state
        time.sleep(0.3)
    return state


def test_a_run_that_is_cancelled_from_the_ui_ends_within_ten_seconds_and_goes_on_from_its_checkpoint(
    service: dict[str, Any], home: Home, small_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def checkpoints() -> list[Path]:
        return sorted(home.runs.glob("scratch/*/step-*.pt"))

    longer = small_settings.training.model_copy(update={"epochs": 120})
    settings = small_settings.model_copy(update={"training": longer})
    run = started(service["api"], "retrain", home, machines=["simFan"], settings=settings.model_dump(mode="json"))
    wait(checkpoints)
    # What the button of the UI does.
    ask(service["api"], lambda client: client.set_flow_run_state(run.id, Cancelling()))
    asked = time.monotonic()
    free = FileLock(home.root / "lock")
    free.acquire(timeout=30)
    free.release()
    assert time.monotonic() - asked < 10
    assert checkpoints() and not list(home.runs.glob("*/encoder.safetensors.partial"))
    ended(service["api"], run, StateType.CANCELLED)
    retrain(machines=["simFan"], settings=settings, home=home.root)
    assert "resuming from the checkpoint" in capsys.readouterr().err
    assert not checkpoints()


def test_the_prefect_server_is_killed_and_starts_again_under_a_run_which_goes_on_and_completes(
    service: dict[str, Any], home: Home, small_settings: Settings
) -> None:
    api, prefect = service["api"], service["api"].removesuffix("/api").rpartition(":")[2]
    mlflow = service["said"]("ui", r"mlflow +http://127.0.0.1:(\d+)").rpartition(":")[2]
    with home.lock():
        # The run is under way, and has all its work still to do.
        run = started(api, "retrain", home, machines=["simFan"], settings=small_settings.model_dump(mode="json"))
        wait(lambda: "waiting for process" in logged(api, run))
        service["kill"]("ui")
        service["start"]("ui", "ui", "--prefect-port", prefect, "--mlflow-port", mlflow)
        service["said"]("ui", "export PREFECT_API_URL")
        # A server that had forgotten who holds the slot would end the run when it asks to keep it.
        lease = ask(
            api, lambda client: client.read_flow_run(run.id)
        ).state.state_details.deployment_concurrency_lease_id
        ask(api, lambda client: client.renew_concurrency_lease(lease_id=lease, lease_duration=300))
    ended(api, run, StateType.COMPLETED, 120)
    assert ask(api, lambda client: client.read_flow_run(run.id)).run_count == 1
    assert slots_taken(api, "retrain") == 0


def failed_runs(home: Home) -> list[Incident]:
    return [one for one in open_incidents(home) if one.kind == FAILED_RUN]


def test_the_run_of_a_worker_that_is_killed_does_not_stay_running_and_makes_room_for_the_next(
    service: dict[str, Any], home: Home, small_settings: Settings
) -> None:
    api = service["api"]
    with temporary_settings({PREFECT_API_URL: api}):
        end_runs_of_dead_workers(timedelta(seconds=10))  # The least that Prefect allows.
    with home.lock():
        run = started(api, "features", home, settings=small_settings.model_dump(mode="json"))
        wait(lambda: "waiting for process" in logged(api, run))
        service["kill"]("worker")
    assert slots_taken(api, "features") == 1
    assert ended(api, run, StateType.CRASHED).message == "no heartbeat: its worker is dead"
    assert slots_taken(api, "features") == 0
    # That of the dead workers' runs was changed, not added.
    assert len(ask(api, lambda client: client.read_automations())) == 4
    # The next worker tells of it.
    service["start"]("worker", "worker")
    wait(lambda: failed_runs(home))
    (incident,) = failed_runs(home)
    assert incident.subject == "features" and "crashed: no heartbeat: its worker is dead" in incident.sentence


def logged(api: str, run: Any) -> str:
    """What a run has said."""
    this = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    return "\n".join(line.message for line in ask(api, lambda client: client.read_logs(this)))


def slots_taken(api: str, flow: str) -> int:
    """How many runs of a deployment count as under way."""
    deployment = ask(api, lambda client: client.read_deployment_by_name(f"{flow}/{flow}"))
    return int(deployment.global_concurrency_limit.active_slots)
