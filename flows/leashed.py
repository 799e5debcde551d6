"""`python flows/leashed.py MODULE ...`: run a module like `python -m`, but no longer than the process that started it.

Standard input is a pipe that only that process holds. However it ends, kill -9 included, the pipe is closed, and
this process ends with all that it has started. So no process id has to be stored, which could by now be that of another
process, in another container or after a reboot.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

SECONDS_TO_END = 10


def start(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | None) -> "subprocess.Popen[bytes]":
    """Start a Python module, with its arguments, that ends when this process does.

    It gets a session of its own: Ctrl-C in the terminal is for this process, which still needs a server to end well.

    Args:
        command: the module and its arguments.
        environment: all variables.
        log: where its output goes; None: where that of this process goes.
    """
    # Not from the working directory (-P): that of somebody who works with Prefect may well have a folder `flows`, too.
    return subprocess.Popen(
        [sys.executable, "-P", __file__, *command],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def stop(*processes: "subprocess.Popen[bytes]") -> None:
    """End processes that `start` started, and wait for them."""
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
    finally:  # A second Ctrl-C may have ended the wait: without the pipe, they end by themselves.
        for process in processes:
            if process.stdin:
                process.stdin.close()


def _end_with_the_pipe() -> None:
    # Not `sys.stdin`: its lock would be held when the interpreter ends.
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgrp(), signal.SIGTERM)
    time.sleep(SECONDS_TO_END)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
