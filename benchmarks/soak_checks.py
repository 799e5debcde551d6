"""What benchmarks/soak.py checks: nothing lost, nothing doubled, told from the files of the home alone."""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
from soak_recorder import Written

from asdcore.monitoring.following import Rule, begin_following, follow
from asdcore.monitoring.incidents import ANOMALY, DRIFT, SUSPECT_STREAK, Incident, incidents
from asdcore.recordings.catalog import Catalog
from asdcore.storage.home import Home
from tasks.registered import load_detector

SETTLED = "detector "


@dataclass
class Scores:
    """The score tables of a home, each read once."""

    home: Home
    verdicts: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    """recording (digest): when its verdict was written, seconds since 1970, and into which file"""
    versions: dict[str, str] = field(default_factory=dict)
    """file: version of the detector"""

    def read(self) -> None:
        """Read what is new."""
        for path in sorted(self.home.scores.glob("score-*.parquet")):
            if path.name in self.versions:
                continue
            table = pd.read_parquet(path, columns=["recording", "decision", "detector"])
            self.versions[path.name] = str(table["detector"].iloc[0]) if len(table) else ""
            for recording in table.loc[table["decision"].notna(), "recording"]:
                self.verdicts[recording].append((path.stat().st_mtime, path.name))


@dataclass
class Audit:
    """The files that were written, and what became of them."""

    latencies: dict[str, float]
    """digest: seconds from its last byte to its verdict"""
    quarantined: int
    waiting: list[str]
    """names of files that have no verdict and no reason yet"""
    violations: list[str]


def audit(home: Home, scores: Scores, before: set[str], written: Sequence[Written]) -> Audit:
    """Check what was written so far. ``before``: recordings (digests) that the table had at the beginning."""
    scores.read()
    table = Catalog(home.recordings)
    rows = table.recordings.set_index("recording")
    reasons = dict(zip(table.quarantined["path"], table.quarantined["reason"], strict=True))
    there = {str(one.path): one for one in written}  # Of a name that was used twice the last content.
    first: dict[str, Written] = {}
    for one in written:
        first.setdefault(one.digest, one)
    waiting, wrong = [], []
    for path, one in there.items():
        name = f"{one.machine}/{one.path.name} ({one.kind})"
        if not one.whole:
            if one.digest in rows.index:
                wrong.append(f"{name}: not whole, but in the table of recordings")
            elif not reasons.get(path):
                waiting.append(name)
            continue
        if path in reasons:
            wrong.append(f"{name}: whole, but in the quarantine: {reasons[path]}")
        elif one.digest not in rows.index or not scores.verdicts.get(one.digest):
            waiting.append(name)
        elif not str(rows.loc[one.digest, "labelled_by"]).startswith(SETTLED):
            waiting.append(f"{name}, scored, but not settled")
    known = {one.digest: one for one in written}
    for digest, verdicts in scores.verdicts.items():
        files = ", ".join(file for _, file in verdicts)
        if digest not in known and digest not in before:
            wrong.append(f"a content that was never written was judged: {files}")
        elif len(verdicts) > 1:
            wrong.append(f"{known[digest].path.name if digest in known else digest}: judged twice: {files}")
    strangers = rows[~rows.index.isin([*known, *before])]
    wrong += [f"{path}: in the table with a content that was never written" for path in strangers["path"]]
    if not rows.index.is_unique:
        wrong.append("a recording has two rows in the table")
    latencies = {
        digest: verdicts[0][0] - first[digest].at for digest, verdicts in scores.verdicts.items() if digest in first
    }
    bad = sum(not one.whole and str(one.path) in reasons for one in there.values())
    return Audit(latencies, bad, waiting, wrong)


def check_incidents(home: Home, scores: Scores, received: Sequence[dict[str, Any]]) -> tuple[int, list[str]]:
    """How many incidents there were, and what is wrong with them.

    They are compared with those that the same score tables give, one after the other, in an undisturbed home; and the
    messages that the webhook has received with both.
    """
    real = incidents(home)
    wrong = []
    expected, found = Counter(map(_about, _replayed(home, scores))), Counter(map(_about, real))
    for what, count in (expected - found).items():
        wrong.append(f"incident lost, {count} times: {what}")
    for what, count in (found - expected).items():
        if what[0] in (ANOMALY, SUSPECT_STREAK, DRIFT):
            wrong.append(f"incident doubled or invented, {count} times: {what}")
    # A message whose sender was killed comes again with the same id, for the receiver to know it.
    told = Counter(incident for _, incident in {(one["id"], one["incidents"][0]["id"]) for one in received})
    for incident in real:
        needed = 1 if incident.is_open else 2
        if told[incident.id] != needed:
            about = f"incident {incident.id} ({incident.kind})"
            wrong.append(f"{about}: {told[incident.id]} different messages received, not {needed}")
    return len(real), wrong


def _about(incident: Incident) -> tuple[str, str, int, str]:
    return incident.kind, incident.machine, incident.recordings, Path(incident.worst).name


def _replayed(home: Home, scores: Scores) -> list[Incident]:
    rules: dict[tuple[str, str], Rule] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Home.at(folder)
        place.scores.mkdir()
        begin_following(place)
        scores.read()
        stored = sorted(home.scores.glob("*.parquet"), key=lambda path: path.stat().st_mtime)
        for path in stored:
            (place.scores / path.name).symlink_to(path)
            version = scores.versions.get(path.name, "")

            def rule_of(machine: str, version: str = version) -> Rule:
                if (version, machine) not in rules:
                    detector, _ = load_detector(home, version)
                    model = detector.machines[machine]
                    rules[version, machine] = Rule.of(detector.threshold_of(machine), model.calibration)
                return rules[version, machine]

            follow(place, rule_of)
        return incidents(place)


class Webhook:
    """A server on loopback that takes the messages of the channel ``soak``."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.append(body)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def configuration(self) -> str:
        """The content of ``notify.yaml``."""
        return f"soak:\n  type: webhook\n  url: http://127.0.0.1:{self.server.server_port}/\n"

    def end(self) -> None:
        """Stop it."""
        with suppress(OSError):
            self.server.shutdown()
