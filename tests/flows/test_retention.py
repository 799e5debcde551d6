"""What a server keeps of runs: a plant where a recording arrives each minute starts half a million a year."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = [pytest.mark.flow, pytest.mark.slow]

AN_INGEST = """
import sys
from pathlib import Path
from asdcore.storage.home import Home
from flows.environment import prepare
from flows.private_server import prefect_server

home = Home.at(Path(sys.argv[1]))
prepare(home, quiet=True)
with prefect_server(home):
    from flows.ingest import ingest

    ingest(Path(sys.argv[2]), home=home.root)
    print("ingested", flush=True)
    sys.stdin.read()
"""
KEPT = ("flow_run", "flow_run_state", "task_run", "task_run_state", "log", "artifact", "events", "event_resources")


def count(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database, timeout=30)) as file:
        return {table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in KEPT}


def test_the_server_of_a_command_deletes_old_runs_with_all_that_they_left_and_keeps_new_ones(
    small_machines: Path, tmp_path: Path
) -> None:
    database = tmp_path / "prefect" / "prefect.db"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}

    def ingest(least: dict[str, int]) -> dict[str, int]:
        """Ingest, and let the server run until it has no more than this; return what there is then."""
        command = [sys.executable, "-c", AN_INGEST, str(tmp_path), str(small_machines)]
        with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"ingested\n"
            until = time.monotonic() + 60
            while any(n > least[table] for table, n in count(database).items()) and time.monotonic() < until:
                time.sleep(0.5)
            process.communicate()
        return count(database)

    first = ingest(dict.fromkeys(KEPT, 1_000))
    assert all(first.values())
    with closing(sqlite3.connect(database)) as file, file:
        file.execute("UPDATE flow_run SET end_time = datetime('now', '-31 days')")
        for table in ("events", "event_resources"):
            file.execute(f"UPDATE {table} SET occurred = datetime('now', '-3 days')")
    # The second run leaves no more than the first.
    second = ingest(first)
    assert all(0 < n <= first[table] for table, n in second.items()), (first, second)
