"""The parts of `asd` in a plant for benchmarks/soak.py: started, watched, killed, and restarted as systemd would."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RESTART_SECONDS = 10.0
"""``RestartSec`` of the units in docs/how-to/operations.md"""
MEASURED = ("watch", "worker", "ui", "prefect server", "mlflow server")
VICTIMS = ("watch", "worker", "prefect server", "mlflow server")
TOKEN = "ASD_SOAK"
"""environment variable of all that a part has started, as a control group is for systemd"""


@dataclass
class Part:
    """A service."""

    name: str
    arguments: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None
    restart_at: float | None = None
    ends: list[tuple[float, str]] = field(default_factory=list)
    """when (seconds since 1970) and why it has ended"""


class Parts:
    """`asd ui`, `asd worker` and `asd watch` of one home on loopback, each with a log.

    Args:
        home: ASD_HOME.
        logs: folder of the logs.
    """

    def __init__(self, home: Path, logs: Path) -> None:
        self.logs, self.token = logs, uuid.uuid4().hex
        self.prefect, self.mlflow = free_ports(2)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        api = f"http://127.0.0.1:{self.prefect}/api"
        self.environment = kept | {"ASD_HOME": str(home), "PREFECT_API_URL": api, "COLUMNS": "200"}
        self.parts: dict[str, Part] = {}
        self.killed: list[tuple[float, str]] = []
        self._said: dict[str, str] = {}
        self._lock = threading.Lock()

    def start(self, name: str, *arguments: str) -> None:
        """Start a service and keep it running."""
        self.parts[name] = Part(name, arguments)
        self._start(self.parts[name])

    def run(self, *arguments: str) -> None:
        """Run a command to its end; RuntimeError with what it said if it fails."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        environment = self.environment | {TOKEN: f"{self.token} command"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"asd {' '.join(arguments)}: {done.stdout}{done.stderr}")

    def wait_for_servers(self, seconds: float = 180) -> None:
        """Wait until both answer."""
        until = time.monotonic() + seconds
        for port, path in ((self.prefect, "/api/health"), (self.mlflow, "/health")):
            while time.monotonic() < until:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                    break
                time.sleep(0.5)
            else:
                raise RuntimeError(f"no server on port {port}; its log is in {self.logs}")

    def look_after(self) -> None:
        """Restart what has ended `RESTART_SECONDS` ago; note what has ended now. Call it about once a second."""
        with self._lock:
            for part in self.parts.values():
                if part.process is None or part.process.poll() is None:
                    continue
                if part.restart_at is None:
                    why, code = self._said.pop(part.name, ""), part.process.returncode
                    # `asd ui` ends itself when one of its servers is killed.
                    was_killed = why and (code == -signal.SIGKILL or part.name == "ui")
                    part.ends.append((time.time(), why if was_killed else f"ended by itself with {code}"))
                    self._end_group(part.name)
                    part.restart_at = time.monotonic() + RESTART_SECONDS
                elif time.monotonic() >= part.restart_at:
                    self._start(part)

    def kill(self, victim: str) -> None:
        """``kill -9`` of a part. Of a server, of all its processes; `asd ui` then ends by itself."""
        with self._lock:
            processes = self.processes(victim)
            if not processes:
                return
            self.killed.append((time.time(), victim))
            self._said["ui" if "server" in victim else victim] = f"kill -9 of {victim}"
            for process in processes if "server" in victim else processes[:1]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def processes(self, name: str) -> list[psutil.Process]:
        """The processes of a part: the first is its own. Those that a worker has started for flow runs are its, too."""
        part = self.parts.get("ui" if "server" in name else name)
        if part is None or part.process is None or part.process.poll() is not None:
            return []
        with suppress(psutil.Error):
            own = psutil.Process(part.process.pid)
            if name == "ui":
                return [own]
            if "server" not in name:
                return [own, *own.children(recursive=True)]
            module = name.partition(" ")[0]
            for child in own.children():
                if module in child.cmdline()[:4]:
                    return [child, *child.children(recursive=True)]
        return []

    def memory(self) -> dict[str, tuple[int, float]]:
        """part: process id and resident memory, MiB. Of a worker without its flow runs, which are ``runs``."""
        found = {}
        for name in MEASURED:
            processes = self.processes(name)
            own, others = (processes, []) if "server" in name else (processes[:1], processes[1:])
            if own:
                found[name] = (own[0].pid, _resident(own))
            if name == "worker" and others:
                found["runs"] = (0, _resident(others))
        return found

    def end(self) -> None:
        """End all, the last one first, and whatever they have left."""
        with self._lock:
            for part in reversed(self.parts.values()):
                if part.process is not None and part.process.poll() is None:
                    part.process.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        part.process.wait(timeout=30)
            self._end_group("")

    def _start(self, part: Part) -> None:
        command = [sys.executable, "-m", "flows.cli", *part.arguments]
        environment = self.environment | {TOKEN: f"{self.token} {part.name}"}
        with (self.logs / f"{part.name}.log").open("ab") as log:
            # A session of its own: Ctrl-C at the terminal is for this program, which then ends its parts.
            part.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        part.restart_at = None

    def _end_group(self, name: str) -> None:
        """``kill -9`` of all that a part has started; of all parts without a name."""
        mine = f"{self.token} {name}".strip()
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(TOKEN, "").startswith(mine):
                    process.kill()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _resident(processes: Sequence[psutil.Process]) -> float:
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return round(total / 2**20, 1)
