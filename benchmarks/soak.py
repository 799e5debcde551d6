"""Hours of a plant in which everything is killed now and then: what is lost, doubled, or grows.

    python benchmarks/soak.py [--minutes 120] [--per-minute 60] [--quick] [--json]

`asd ui` (Prefect and MLflow), `asd worker` with the deployments of `asd deploy`, and `asd watch` run on loopback, on
free ports, in a home of their own with a detector of three simulated machines. Recordings of 2 s arrive as they do from
real recorders: renamed when complete, or growing, with pauses; copies of earlier ones, files under the names of earlier
ones, broken ones; machines get faults and are repaired. Each part gets ``kill -9`` at random times, and is restarted
ten seconds later, as systemd does. In the end every whole file has to be in the table of recordings and to be judged
once, every broken one to be in the quarantine with its reason, and the incidents have to be those that the same
verdicts give in an undisturbed home, each told once to a webhook. It ends all that it has started, on Ctrl-C, too. Exit
code 1: a violation.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from soak_checks import Audit, Scores, Webhook, audit, check_incidents
from soak_parts import MEASURED, VICTIMS, Parts
from soak_plot import draw
from soak_recorder import Recorder

from asdcore.datasets.simulate import simulate
from asdcore.recordings.catalog import Catalog
from asdcore.storage.home import Home

MACHINES = ["simFan", "simValve", "simGearbox"]
TRAINED_ON = 60
"""recordings of each machine"""
SETTINGS = ["--preset", "demo", "--set", "training.epochs=4", "--set", "normality.false_alarm_rate=0.05"]
QUIET = 3.0
"""seconds without a change after which a file has arrived"""
SAMPLE_SECONDS = 5.0
PATIENCE = 900.0
"""Seconds that verdicts may take in the end: a run of a killed worker holds its place for seven minutes."""
MOST_NAMED = 20


@dataclass
class Soak:
    """What was measured."""

    began: float
    memory: dict[str, list[tuple[float, int, float]]] = field(default_factory=dict)
    """part: seconds since the beginning, process id, MiB"""
    sizes: list[dict[str, float]] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)


def sizes(home: Home) -> dict[str, float]:
    """MiB of the databases with their journals, number of files in the home, and of parts of the table."""
    found: dict[str, float] = {}
    for file in (home.prefect / "prefect.db", home.root / "mlflow.db", home.root / "scores.db", home.incidents):
        beside = [path for path in file.parent.glob(f"{file.name}*") if path.is_file()]
        found[file.name] = round(sum(path.stat().st_size for path in beside) / 2**20, 1)
    found["files"] = sum(path.is_file() for path in home.root.rglob("*"))
    found["parts of the table"] = len(list(home.recordings.glob("part-*.parquet")))
    return found


def prepare(parts: Parts, home: Home, sounds: Path, arriving: Path, retrain_after: int) -> set[str]:
    """Start everything, with a detector; the recordings (digests) it was trained on."""
    count = {"source_train": TRAINED_ON - 6, "target_train": 6, "test_per_kind": 6}
    simulate(sounds, machines=MACHINES, seconds=2.0, **count)
    ports = ["--prefect-port", str(parts.prefect), "--mlflow-port", str(parts.mlflow)]
    parts.start("ui", "ui", *ports)
    parts.wait_for_servers()
    parts.run("deploy", *SETTINGS, "--retrain-after", str(retrain_after))
    parts.run("retrain", "--recordings", str(sounds), *SETTINGS)
    before = set(Catalog(home.recordings).recordings["recording"])
    parts.start("worker", "worker")
    parts.start("watch", "watch", str(arriving), "--quiet", str(QUIET))
    return before


def look_after(parts: Parts, soak: Soak, stop: threading.Event) -> None:
    """Restart what has ended and measure memory, until ``stop``."""
    measured = 0.0
    while not stop.wait(0.5):
        parts.look_after()
        if time.monotonic() - measured >= SAMPLE_SECONDS:
            measured = time.monotonic()
            for name, (process, mib) in parts.memory().items():
                soak.memory.setdefault(name, []).append((time.time() - soak.began, process, mib))


def disturb(parts: Parts, every: float, seed: int, stop: threading.Event) -> None:
    """``kill -9``, on average each ``every`` seconds, of each part equally often, until ``stop``."""
    rng = np.random.default_rng(seed)
    while every:
        for victim in rng.permutation(VICTIMS):
            if stop.wait(float(rng.uniform(0.5, 1.5) * every)):
                return
            parts.kill(str(victim))


def window_row(parts: Parts, soak: Soak, recorder: Recorder, found: Audit, begin: float, end: float) -> dict[str, Any]:
    """What happened between two times (seconds since the beginning)."""
    begin_at, end_at = soak.began + begin, soak.began + end
    own = [one for one in recorder.written if begin_at <= one.at < end_at]
    late = [found.latencies[one.digest] for one in own if one.kind != "copy" and one.digest in found.latencies]
    ends = [why for part in parts.parts.values() for at, why in part.ends if begin_at <= at < end_at]
    memory = {
        name: max([mib for at, _, mib in samples if begin <= at < end], default=None)
        for name, samples in soak.memory.items()
    }
    return {
        "from_minute": round(begin / 60, 1),
        "to_minute": round(end / 60, 1),
        "recorded": len(own),
        "judged": len(late),
        "waiting": len(found.waiting),
        "latency_median": round(float(np.median(late)), 1) if late else None,
        "latency_95": round(float(np.quantile(late, 0.95)), 1) if late else None,
        "killed": sum(begin_at <= at < end_at for at, _ in parts.killed),
        "ended_by_itself": sum("by itself" in why for why in ends),
        "memory": memory,
        **soak.sizes[-1],
    }


def growth(soak: Soak) -> dict[str, dict[str, float]]:
    """Of the longest life of each part, without its first two minutes: MiB at both ends, hours, and MiB per hour."""
    found = {}
    for name in MEASURED:
        lives: dict[int, list[tuple[float, float]]] = {}
        for at, process, mib in soak.memory.get(name, []):
            lives.setdefault(process, []).append((at, mib))
        grown = [[one for one in life if one[0] >= life[0][0] + 120] for life in lives.values()]
        longest = max(grown, key=len, default=[])
        if len(longest) < 10:
            continue
        times, values = np.array(longest).T
        tenth = max(1, len(values) // 10)
        found[name] = {
            "minutes": round((times[-1] - times[0]) / 60, 1),
            "from_mib": round(float(np.median(values[:tenth])), 1),
            "to_mib": round(float(np.median(values[-tenth:])), 1),
            "mib_per_hour": round(float(np.polyfit(times / 3600, values, 1)[0]), 1),
        }
    return found


def columns(row: dict[str, Any]) -> list[str]:
    """A row of the table, as text."""

    def text(value: float | None) -> str:
        return "" if value is None else f"{value:g}"

    memory = [text(value and round(value)) for value in (row["memory"].get(name) for name in MEASURED)]
    databases = [f"{row[name]:g}" for name in ("prefect.db", "mlflow.db", "scores.db", "incidents.db")]
    return [
        f"{row['from_minute']:g}-{row['to_minute']:g}",
        *(text(row[name]) for name in ("recorded", "judged", "waiting", "latency_median", "latency_95")),
        *(text(row[name]) for name in ("killed", "ended_by_itself")),
        " / ".join(memory),
        " / ".join(databases),
        f"{row['files']:g}",
    ]


HEADER = ["minutes", "recorded", "judged", "waiting", "median s", "95 % s", "killed", "ended by itself"]
HEADER += ["MiB: watch / worker / ui / Prefect / MLflow", "MiB: prefect / mlflow / scores / incidents .db", "files"]


def run(arguments: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The soak itself, in a new folder."""
    home, arriving, logs = Home.at(folder / "home"), folder / "arriving", folder / "logs"
    for place in (home.root, arriving, logs):
        place.mkdir(parents=True)
    stop, quiet_down = threading.Event(), threading.Event()
    with ExitStack() as stack:
        webhook = Webhook()
        stack.callback(webhook.end)
        (home.root / "notify.yaml").write_text(webhook.configuration)
        parts = Parts(home.root, logs)
        stack.callback(parts.end)
        soak = Soak(time.time())
        keeper = threading.Thread(target=look_after, args=(parts, soak, stop))
        keeper.start()
        stack.callback(keeper.join)
        stack.callback(stop.set)
        stack.callback(quiet_down.set)
        before = prepare(parts, home, folder / "plant", arriving, arguments.retrain_after)
        soak.began = time.time()
        soak.memory.clear()
        scores = Scores(home)
        recorder = Recorder(arriving, MACHINES, arguments.per_minute, QUIET, arguments.seed)
        disturber = threading.Thread(target=disturb, args=(parts, arguments.kill_every, arguments.seed, quiet_down))
        disturber.start()
        say(f"{datetime.now():%H:%M} the soak begins; logs are in {logs}")
        say(_line(HEADER) + "\n" + _line(["---:"] * len(HEADER)))
        started, length, begin = time.monotonic(), 60 * arguments.minutes, 0.0
        bounds: list[tuple[float, float]] = []
        while begin < length:
            end = min(begin + 600, length)
            recorder.write_until(started + end)
            bounds.append((begin, end))
            soak.sizes.append(sizes(home))
            found = audit(home, scores, before, recorder.written)
            soak.windows.append(window_row(parts, soak, recorder, found, begin, end))
            say(_line(columns(soak.windows[-1])))
            begin = end
        quiet_down.set()
        disturber.join()
        recorder.finish()
        found = _last(home, scores, before, recorder, started + length)
        waited = time.monotonic() - started - length
        # With the verdicts that came after the end of a window.
        for row, (begin, end) in zip(soak.windows, bounds, strict=True):
            late = window_row(parts, soak, recorder, found, begin, end)
            row |= {name: late[name] for name in ("judged", "latency_median", "latency_95")}
        count, wrong = _incidents(home, scores, webhook)
        soak.sizes.append(sizes(home))
    lost = [f"lost: {name}" for name in found.waiting]
    return {
        "benchmark": "soak",
        "data": "simulated",
        "minutes": arguments.minutes,
        "per_minute": arguments.per_minute,
        "seed": arguments.seed,
        "files": len(recorder.written),
        "kinds": {kind: sum(one.kind == kind for one in recorder.written) for kind in sorted(_kinds(recorder))},
        "quarantined": found.quarantined,
        "waited_seconds": round(waited),
        "incidents": count,
        "messages": len(webhook.received),
        "killed": [[round(at - soak.began), victim] for at, victim in parts.killed],
        "ends": {part.name: [[round(at - soak.began), why] for at, why in part.ends] for part in parts.parts.values()},
        "windows": soak.windows,
        "sizes_at_the_end": soak.sizes[-1],
        "growth": growth(soak),
        "memory": soak.memory,
        "latencies": sorted(
            [round(one.at - soak.began, 1), round(found.latencies[one.digest], 1)]
            for one in recorder.written
            if one.kind != "copy" and one.digest in found.latencies
        ),
        "violations": lost + found.violations + wrong,
    }


def _kinds(recorder: Recorder) -> set[str]:
    return {one.kind for one in recorder.written}


def _last(home: Home, scores: Scores, before: set[str], recorder: Recorder, since: float) -> Audit:
    """Wait until everything has its verdict or its reason, at most `PATIENCE`."""
    while True:
        found = audit(home, scores, before, recorder.written)
        if not found.waiting or time.monotonic() - since > PATIENCE:
            return found
        time.sleep(5)


def _incidents(home: Home, scores: Scores, webhook: Webhook) -> tuple[int, list[str]]:
    """See `check_incidents`; the last messages are given two minutes."""
    until = time.monotonic() + 120
    while True:
        count, wrong = check_incidents(home, scores, webhook.received)
        if not wrong or time.monotonic() > until:
            return count, wrong
        time.sleep(5)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def show(results: dict[str, Any]) -> None:
    """Print what `run` has found."""
    print("\n".join(map(_line, [HEADER, ["---:"] * len(HEADER), *map(columns, results["windows"])])))
    kinds = ", ".join(f"{count} {kind}" for kind, count in results["kinds"].items())
    print(f"\n{results['files']} files: {kinds}. In the quarantine: {results['quarantined']}.")
    print(f"The last verdict came {results['waited_seconds']} s after the end.")
    print(f"{results['incidents']} incidents, {results['messages']} messages.")
    for name, ends in results["ends"].items():
        print(f"{name}: restarted {len(ends)} times: {', '.join(f'{at} s {why}' for at, why in ends)}")
    for name, life in results["growth"].items():
        print(
            f"{name}: {life['from_mib']:g} to {life['to_mib']:g} MiB in the {life['minutes']:g} minutes of its longest "
            f"life, {life['mib_per_hour']:+g} MiB per hour"
        )
    violations = results["violations"]
    print(f"{len(violations)} violations" + "".join(f"\n  {one}" for one in violations))


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120, help="of recording")
    parser.add_argument("--per-minute", type=float, default=60, help="recordings of all machines together")
    parser.add_argument("--kill-every", type=float, default=180, help="seconds on average; 0: nothing is killed")
    parser.add_argument("--retrain-after", type=int, default=1_000_000, help="see asd deploy; default: no retraining")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="new, keeps home and logs; default: a temporary one")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw latency and memory over time")
    parser.add_argument("--quick", action="store_true", help="three quarters of a minute, with a kill every 15 s")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.minutes, arguments.per_minute, arguments.kill_every = 0.75, 30, 15
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        results = run(arguments, folder.resolve(), lambda text: print(text, file=sys.stderr, flush=True))
    if arguments.plot:
        draw(results, arguments.plot)
    if arguments.json:
        print(json.dumps(results))
    else:
        show(results)
    return 1 if results["violations"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
