"""Processes of their own, for tests of what several of them share."""

import signal
import subprocess
import sys

SECONDS = 20.0
"""More than any wait in these tests takes."""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own; its standard output can be read line by line."""
    return subprocess.Popen(
        [sys.executable, "-uc", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(SECONDS)
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()
