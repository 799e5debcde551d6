"""Recorders for benchmarks/soak.py: simulated machines whose recordings arrive as they do from real recorders."""

import heapq
import io
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import soundfile

from asdcore.datasets.simulate import SAMPLE_RATE, waveform

SECONDS = 2.0
"""of a recording"""
WHOLE = {"renamed": 0.5, "grows": 0.34, "stalls": 0.02, "copy": 0.04, "replaced": 0.03}
"""How a whole file gets there, and how often: under another name that is then changed; in pieces; in pieces, with a
pause after which it was taken for complete; as a copy of an earlier one; under the name of an earlier one."""
BROKEN = {"cut off": 0.03, "no sound file": 0.02, "empty": 0.02}
OLD = 30.0
"""seconds after which a recording may be copied or replaced"""
FAULT_BEGINS, FAULT_LENGTH, FAULT_STRENGTH = 0.01, 12, 3.0
"""chance that a machine gets a fault with its next recording, how many recordings that lasts on average, how strong"""


@dataclass(frozen=True)
class Written:
    """A file when its last byte had been written."""

    path: Path
    machine: str
    digest: str
    kind: str
    at: float
    """seconds since 1970"""

    @property
    def whole(self) -> bool:
        """Whether it is a recording; the others belong into the quarantine."""
        return self.kind not in BROKEN


class Recorder:
    """Writes recordings of several machines, a folder for each.

    Args:
        folder: that is watched.
        machines: of `asdcore.datasets.machines`. The names of the first one's files tell the time, those of the others
            are numbers.
        per_minute: how many.
        quiet: of the watcher, seconds.
        seed: of everything that is random.
    """

    def __init__(self, folder: Path, machines: list[str], per_minute: float, quiet: float, seed: int) -> None:
        self.folder, self.machines, self.pause, self.quiet = folder, machines, 60 / per_minute, quiet
        self.rng = np.random.default_rng(seed)
        self.written: list[Written] = []
        self.faulty = dict.fromkeys(machines, 0)
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Iterator[float]]] = []
        self._next = time.monotonic()
        for machine in machines:
            (folder / machine).mkdir(parents=True, exist_ok=True)

    def write_until(self, end: float) -> None:
        """Write what is due until ``end`` (`time.monotonic`); what grows then goes on growing at the next call."""
        while time.monotonic() < end:
            self._step()
            due = min([self._next, end, *(at for at, _, _ in self._due[:1])])
            time.sleep(max(0.0, due - time.monotonic()))

    def finish(self) -> None:
        """Write what is being written to its end; begin nothing."""
        while self._due:
            at, _, steps = heapq.heappop(self._due)
            time.sleep(max(0.0, at - time.monotonic()))
            self._go_on(steps)

    def _step(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            self._go_on(heapq.heappop(self._due)[2])
        if self._next <= time.monotonic():
            # Not after a backlog: a recorder does not catch up.
            self._next = max(self._next + self.pause, time.monotonic() - self.pause)
            self._go_on(self._recording())

    def _go_on(self, steps: Iterator[float]) -> None:
        pause = next(steps, None)
        if pause is not None:
            heapq.heappush(self._due, (time.monotonic() + pause, next(self._numbers), steps))

    def _recording(self) -> Iterator[float]:
        """One recording, as steps; each gives the seconds until the next one."""
        number = next(self._numbers)
        machine = self.machines[int(self.rng.integers(len(self.machines)))]
        kinds = WHOLE | BROKEN
        kind = str(self.rng.choice(list(kinds), p=np.array(list(kinds.values())) / sum(kinds.values())))
        name = f"{time.strftime('%Y%m%dT%H%M%S')}_{number}" if machine == self.machines[0] else f"{number:06d}"
        path = self.folder / machine / f"{name}.wav"
        old = [one for one in self.written if one.machine == machine and one.whole and one.at < time.time() - OLD]
        if kind in ("copy", "replaced") and not old:
            kind = "renamed"
        data = self._sound(machine)
        if kind == "copy":
            data = old[int(self.rng.integers(len(old)))].path.read_bytes()
        elif kind == "replaced":
            path = old[int(self.rng.integers(len(old)))].path
        elif kind == "cut off":
            data = data[: len(data) // 2]
        elif kind == "no sound file":
            data = self.rng.bytes(2000)
        elif kind == "empty":
            data = b""
        if kind in ("grows", "stalls"):
            yield from self._grow(path, data, self.quiet + 4 if kind == "stalls" else 0.4)
        else:
            partial = path.with_name(f"{path.name}.part")
            partial.write_bytes(data)
            yield 0.2
            partial.replace(path)
        self.written.append(Written(path, machine, sha256(data).hexdigest(), kind, time.time()))

    @staticmethod
    def _grow(path: Path, data: bytes, pause: float) -> Iterator[float]:
        piece = len(data) // 4 + 1
        with path.open("wb") as file:
            for start in range(0, len(data), piece):
                if start:
                    yield pause if start == 2 * piece else 0.4
                file.write(data[start : start + piece])
                file.flush()

    def _sound(self, machine: str) -> bytes:
        if not self.faulty[machine] and self.rng.random() < FAULT_BEGINS:
            self.faulty[machine] = int(self.rng.geometric(1 / FAULT_LENGTH))
        label = "anomaly" if self.faulty[machine] else "normal"
        self.faulty[machine] -= self.faulty[machine] > 0
        domain = "source" if self.rng.random() < 0.9 else "target"
        samples = waveform(machine, domain=domain, label=label, rng=self.rng, strength=FAULT_STRENGTH, seconds=SECONDS)
        file = io.BytesIO()
        soundfile.write(file, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        return file.getvalue()
