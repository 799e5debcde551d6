"""The machine that asd runs on: networks, disks, stores, signals."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from threadpoolctl import threadpool_info
from typer.testing import CliRunner

from asdcore.datasets.simulate import SAMPLE_RATE, simulate, waveform
from asdcore.errors import AsdError
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.clips import recording_of
from asdcore.recordings.training import training_recordings
from asdcore.settings import Settings
from asdcore.settings_file import read_settings
from asdcore.storage.home import Home
from asdcore.storage.shares import share_of
from asdcore.threads import one_blas_thread
from flows.arrivals import arrivals
from flows.cli.app import app
from flows.environment import prepare
from flows.ingest import ingest
from flows.prefect_database import URL, check_prefect_database
from flows.retrain import retrain
from tasks.events import ARRIVED
from tasks.labels import forget_recordings, label_recordings
from tasks.registered import load_detector

ROOT = Path(__file__).parents[3]
CTRL_C = {130, -signal.SIGINT}
"""A shell shows 130 for both: the program has ended itself with it, or as its default action."""
ODD_NAMES = ("what?", "50%20", "a#b", "press 3", "Lüfter", "quo'te\"", "$HOME", "semi;colon & co", "[1]", "a:b@c")
PROXIES = dict.fromkeys(("http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
"""nothing listens there: whatever goes through it fails"""
SUBPROCESSES = pytest.mark.skipif(sys.platform != "linux", reason="/proc, setpriv and unshare are Linux's")


def asd(
    *arguments: str | Path,
    before: Sequence[str] = (),
    variables: Mapping[str, str | None] | None = None,
    timeout: float = 120,
) -> "subprocess.CompletedProcess[str]":
    """A command as a user types it, without a server that is named; a variable that is None is not set."""
    command = [*before, sys.executable, "-m", "flows.cli", *map(str, arguments)]
    return subprocess.run(
        command, env=variables_of(variables), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


def variables_of(variables: Mapping[str, str | None] | None = None) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "ASD_", "MLFLOW_"))}
    changed = {"COLUMNS": "300", **own, **(variables or {})}
    return {name: value for name, value in changed.items() if value is not None}


def processes_with(text: str) -> list[int]:
    """The processes that have a text in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def odd_home(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, subprocess.CompletedProcess[str]]":
    """A home with an odd path, and what a command has said that has started a server there, past a proxy."""
    place = tmp_path_factory.mktemp("odd") / "w?at's 50%20 #1 Lüfter"
    done = asd("retrain", "--home", place / "home", variables={**PROXIES, "NO_PROXY": None, "no_proxy": None})
    return place, done


@pytest.mark.flow
@pytest.mark.situation(
    "http_proxy, HTTPS_PROXY or ALL_PROXY is set and NO_PROXY is not",
    before="reported: commands with a flow ended with Timed out after 90 s; `asd ui` did not start within 120 s",
    after="asd, Prefect and MLflow reach the servers on loopback without the proxy",
)
@pytest.mark.slow
def test_a_proxy_is_not_asked_for_a_server_on_loopback(
    odd_home: "tuple[Path, subprocess.CompletedProcess[str]]", environment: None, tmp_path: Path
) -> None:
    _, done = odd_home
    assert "Timed out" not in done.stderr and "did not start" not in done.stderr
    assert "there is no recording in" in done.stderr, done.stderr  # What the flow itself has said.
    for names in ({}, {"no_proxy": "plant.example"}, {"NO_PROXY": "plant.example,localhost"}):
        os.environ.pop("no_proxy", None), os.environ.pop("NO_PROXY", None)
        os.environ.update(names)
        prepare(Home.at(tmp_path), quiet=True)
        for name in ("no_proxy", "NO_PROXY"):
            hosts = os.environ[name].split(",")
            assert {"127.0.0.1", "localhost", "::1"} <= set(hosts) and len(set(hosts)) == len(hosts)
            assert ("plant.example" in hosts) == bool(names)


@pytest.mark.flow
@pytest.mark.situation(
    "the path of the home has a question mark or percent signs",
    before="the database was written beside the home, under half its name; with a percent sign nothing started",
    after="Prefect and MLflow keep their databases and artifacts in the home",
)
@pytest.mark.slow
def test_everything_is_written_into_a_home_with_an_odd_path(
    odd_home: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    place, done = odd_home
    assert "there is no recording in" in done.stderr, done.stderr
    assert (place / "home" / "prefect" / "prefect.db").stat().st_size > 100_000
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert [path.name for path in place.iterdir()] == ["home"]


@pytest.mark.flow
@pytest.mark.situation(
    "the path of the home has a hash, spaces, umlauts, quotes or brackets",
    before="not tried",
    after="runs and artifacts of MLflow are found, and nothing is written elsewhere",
)
def test_mlflow_keeps_runs_and_artifacts_in_a_home_with_an_odd_path(environment: None, tmp_path: Path) -> None:
    from tasks.tracking import client, log_judgement, tracked_run

    os.environ.pop("MLFLOW_TRACKING_URI", None)
    name = "w?at's 50%20 #1 [Lüfter]"
    home = Home.at(tmp_path / name / "home")
    run = tracked_run(home, "retraining", "key", "a run")
    log_judgement(home, run, "it may be promoted")
    (artifact,) = client(home).list_artifacts(run)
    assert Path(client(home).download_artifacts(run, artifact.path)).read_text() == "it may be promoted"
    assert sorted(path.name for path in home.root.iterdir()) == ["mlartifacts", "mlflow.db"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.situation(
    "the path of the home has any other character with a meaning in URLs",
    before="not tried",
    after="the URLs of both databases name the files in the home",
)
def test_the_urls_of_the_databases_name_the_files_of_the_home(name: str, environment: None, tmp_path: Path) -> None:
    from sqlalchemy import make_url

    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_HOME", URL):
        os.environ.pop(variable, None)
    home = Home.at(tmp_path / name)
    prepare(home, quiet=True)
    prefect = os.environ.get(URL, f"sqlite+aiosqlite:///{os.environ['PREFECT_HOME']}/prefect.db")
    assert make_url(home.mlflow_uri).database == str(home.root / "mlflow.db")
    assert make_url(prefect).database == str(home.prefect / "prefect.db")
    assert not make_url(home.mlflow_uri).query and not make_url(prefect).query


@pytest.mark.situation(
    "the path of the home is not UTF-8",
    before="unexpected UnicodeEncodeError: surrogates not allowed",
    after="refused with the path and the option that names another home",
)
def test_a_home_that_is_no_text_is_refused(tmp_path: Path, environment: None) -> None:
    with pytest.raises(AsdError, match=r"not UTF-8.*--home or ASD_HOME"):
        prepare(Home.at(os.fsdecode(os.fsencode(tmp_path) + b"/L\xfcfter")), quiet=True)


@pytest.mark.flow
@pytest.mark.situation(
    "`asd ui` where the installation is read-only, or where root has started it before",
    before="reported: the page was blank, as Prefect copies its pages into the installation",
    after="the pages are copied into the home; each home has its own",
)
@pytest.mark.slow
def test_the_pages_of_prefect_are_kept_in_the_home(prefect_api: str, environment: None, tmp_path: Path) -> None:
    import prefect
    from prefect.server.api.server import create_ui_app
    from prefect.settings import PREFECT_UI_STATIC_DIRECTORY, temporary_settings

    home = Home.at(tmp_path)
    os.environ.pop("PREFECT_SERVER_UI_STATIC_DIRECTORY", None)
    prepare(home, quiet=True)
    installed = Path(prefect.__file__).parent / "server"
    before = {path: path.stat().st_mtime_ns for path in installed.glob("*/*")}
    with temporary_settings({PREFECT_UI_STATIC_DIRECTORY: os.environ["PREFECT_SERVER_UI_STATIC_DIRECTORY"]}):
        create_ui_app(ephemeral=False)
    assert list(home.prefect.glob("pages/*/index.html"))
    assert {path: path.stat().st_mtime_ns for path in installed.glob("*/*")} == before


@SUBPROCESSES
@pytest.mark.situation(
    "a user without a writable home directory, as in services and containers",
    before="`asd score` ended with: cannot cache function, no locator available",
    after="Numba and Matplotlib keep their caches in a temporary folder of this user",
)
def test_librosa_is_imported_by_a_user_without_a_home(tmp_path: Path) -> None:
    code = "import os, asdcore, librosa; print(os.environ['NUMBA_CACHE_DIR'], os.environ['MPLCONFIGDIR'])"
    nobody: list[str] = []
    if os.geteuid() == 0:
        # A user who may read everything, as Python may be installed in root's home, and write nothing of root's.
        caps = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *caps]
        if not works(*nobody, "true"):
            pytest.skip("no process of another user can be started here")
        os.chown(tmp_path, 65534, 65534)
    variables = {"HOME": "/dev/null/none", "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "."}
    command = [*nobody, sys.executable, "-c", code]
    done = subprocess.run(
        command,
        env=variables_of({**variables, "XDG_CACHE_HOME": None}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(Path(folder).is_relative_to(tmp_path) for folder in done.stdout.split())


LIMITED = ["setpriv", "--bounding-set=-dac_override"]
"""root, whom permissions bind"""


@SUBPROCESSES
@pytest.mark.parametrize("command", ["ingest", "retrain"])
@pytest.mark.situation(
    "the home belongs to another user",
    before="not tried; reported for prefect.db: commands with a flow ended with Timed out after 90 s",
    after="one sentence at once: which folder, who owns it and what to do",
)
@pytest.mark.slow
def test_a_home_of_another_user_is_named_with_its_owner(command: str, tmp_path: Path) -> None:
    if os.geteuid() != 0 or not works(*LIMITED, "true"):
        pytest.skip("only root can give a home to another user")
    home = tmp_path / "home"
    (home / "prefect").mkdir(parents=True)
    (home / "prefect" / "prefect.db").touch()
    for path in (home, *home.rglob("*")):
        os.chown(path, 1, 1)
    what = [tmp_path] if command == "ingest" else []
    done = asd(command, *what, "--home", home, before=LIMITED, timeout=60)
    assert done.returncode == 1
    assert f"{home}" in done.stderr and "not writable" in done.stderr and "belongs to daemon" in done.stderr
    assert "unexpected" not in done.stderr


@SUBPROCESSES
@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param("size=8m,ro", "Read-only file system", id="read-only"),
        pytest.param("size=300k", "the disk is full. Nothing partial was kept", id="full"),
    ],
)
@pytest.mark.situation(
    "the disk of the home is read-only or full",
    before="not tried",
    after="one sentence: which folder and what to do",
)
def test_a_disk_that_is_full_or_read_only_is_said_in_a_sentence(options: str, said: str, tmp_path: Path) -> None:
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if not works(*namespace, "mount", "-t", "tmpfs", "none", str(tmp_path)):
        pytest.skip("no disk can be mounted here")
    mounted = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    before = [*namespace, "sh", "-c", mounted, "sh", options, str(tmp_path)]
    done = asd("retrain", "--home", tmp_path, before=before, timeout=100)
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert str(tmp_path) in done.stderr and "ASD_HOME" in done.stderr and "unexpected" not in done.stderr


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Prefect's SQLite file of the home ``tmp_path``, with a revision that no Prefect has."""
    file = Home.at(tmp_path).prefect / "prefect.db"
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as made, made:
        made.execute("CREATE TABLE alembic_version (version_num TEXT)")
        made.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    return file


@pytest.mark.parametrize("state", ["newer", "damaged", "a folder"])
@pytest.mark.situation(
    "prefect.db is damaged, or was written by a newer Prefect",
    before="reported: commands with a flow ended with Timed out after 90 s",
    after="reported at once: which file may be deleted, and that it holds no recording, label, score or detector",
)
def test_a_database_that_prefect_cannot_read_is_named_before_a_server_starts(
    state: str, database: Path, environment: None, tmp_path: Path
) -> None:
    os.environ.pop("PREFECT_HOME", None), os.environ.pop(URL, None)
    if state != "newer":
        database.unlink()
    if state == "damaged":
        database.write_bytes(os.urandom(4096))
    if state == "a folder":
        database.mkdir()
    why = {"newer": "written by a newer Prefect", "damaged": "is damaged", "a folder": "cannot be read"}[state]
    with pytest.raises(AsdError, match=rf"prefect.db .*{why}.*Delete it.*no recording, label, score or detector"):
        check_prefect_database(Home.at(tmp_path))


@pytest.mark.situation(
    "prefect.db was written by an earlier Prefect, is empty or does not exist",
    before="the same, right",
    after="used, and upgraded by the server",
)
def test_a_database_that_prefect_can_read_is_taken(database: Path, environment: None, tmp_path: Path) -> None:
    os.environ.pop("PREFECT_HOME", None), os.environ.pop(URL, None)
    with closing(sqlite3.connect(database)) as made, made:
        made.execute("UPDATE alembic_version SET version_num = '9725c1cbee35'")
    check_prefect_database(Home.at(tmp_path))
    database.write_bytes(b"")
    check_prefect_database(Home.at(tmp_path))
    database.unlink()
    check_prefect_database(Home.at(tmp_path))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings that keep a command busy for longer than it takes to interrupt it."""
    folder = tmp_path_factory.mktemp("many") / "fan"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(150):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(16_000 * 10), 16_000)
    return folder


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of five hours, on a file system that stores no zeros."""
    file = tmp_path_factory.mktemp("long") / "fan" / "a.wav"
    file.parent.mkdir()
    soundfile.write(file, np.zeros((1, 2)), 44_100)
    with file.open("r+b") as written:
        written.seek(40)
        written.write(b"\xff" * 4)  # its length is not stated
        written.truncate(3 << 30)
    return file.parent


def interrupted(command: Sequence[str | Path], seconds: float, ready: str, times: int = 1) -> tuple[int, str, float]:
    """Exit code, output, and how long it took to end a command with Ctrl-C, which a terminal sends to its group.

    Args:
        command: what is typed after ``asd``.
        seconds: to wait after ``ready``.
        ready: what it has said when it is time; or nothing.
        times: how often Ctrl-C is pressed, a second apart.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *map(str, command)],
        env=variables_of(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    while ready and ready not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    time.sleep(seconds)
    begun = time.monotonic()
    for number in range(times):
        if number:
            time.sleep(1)
        try:
            os.killpg(process.pid, signal.SIGINT)
        except ProcessLookupError:
            break
    said += process.communicate(timeout=120)[0]
    return process.returncode, said, time.monotonic() - begun


@SUBPROCESSES
@pytest.mark.parametrize(("command", "recordings"), [("screen", "many"), ("ingest", "long")])
@pytest.mark.situation(
    "Ctrl-C in the middle of a command without a server: ingest, score, screen",
    before="ended within seconds, with exit code 1",
    after="ends within seconds, with exit code 130 and a sentence; no partial file is left",
)
@pytest.mark.slow
def test_ctrl_c_ends_a_command_within_seconds(
    command: str, recordings: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    code, said, took = interrupted([command, request.getfixturevalue(recordings), "--home", tmp_path], 2.5, "")
    assert code in CTRL_C and took < 20, (code, said, took)
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.partial"))
    assert Catalog(Home.at(tmp_path).recordings).recordings.empty


@SUBPROCESSES
@pytest.mark.flow
@pytest.mark.situation(
    "Ctrl-C in the middle of a command with a private server: retrain, enroll, watch",
    before="reported: the server got the signal, too, and the command took up to two and a half minutes to end",
    after="ends within seconds, with exit code 130; the server runs in a session of its own, and ends after the "
    "command",
)
@pytest.mark.slow
def test_ctrl_c_ends_a_command_and_then_its_private_server(tmp_path: Path) -> None:
    (tmp_path / "arriving").mkdir()
    home = tmp_path / "home"
    code, said, took = interrupted(["watch", tmp_path / "arriving", "--home", home], 0.5, "Watching")
    assert code in CTRL_C and took < 30, (code, said, took)
    assert "the same command resumes" in said and "Traceback" not in said
    assert processes_with(f"PREFECT_HOME={home}") == []


@SUBPROCESSES
@pytest.mark.flow
@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.situation(
    "Ctrl-C, once or twice, in the middle of a retraining, or of `asd ui`",
    before="up to 8 s; exit code 1 or 0, and Aborted! after the sentence",
    after="ends within seconds, with exit code 130; no process is left",
)
def test_ctrl_c_ends_a_retraining_and_the_servers(times: int, tmp_path: Path) -> None:
    simulate(tmp_path / "rec", machines=["simFan"], source_train=200, target_train=20, test_per_kind=5, seconds=4.0)
    for command, ready in (
        (["retrain", "--recordings", tmp_path / "rec"], "Starting"),
        (["ui", "--prefect-port", "0", "--mlflow-port", "0"], "Ctrl-C stops"),
    ):
        home = tmp_path / f"home-{command[0]}"
        code, said, took = interrupted([*command, "--home", home], 12 if ready == "Starting" else 1, ready, times)
        assert code in CTRL_C and took < 30, (code, said, took)
        until = time.monotonic() + 15
        while processes_with(f"PREFECT_HOME={home}") and time.monotonic() < until:
            time.sleep(0.2)
        assert processes_with(f"PREFECT_HOME={home}") == []
        assert not [path for path in home.rglob("*.partial") if path.parent.name == "recordings"]


@SUBPROCESSES
@pytest.mark.situation(
    "a command is killed with -9 while its servers run",
    before="the private server was ended by the next command; those of `asd ui`: not tried",
    after="every server that a command has started ends when the command does, however that ends",
)
@pytest.mark.slow
def test_a_server_ends_with_the_command_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, time; from flows import leashed;"
        "print(leashed.start(['http.server', '0', '--bind', '127.0.0.1'], os.environ, None).pid, flush=True);"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=variables_of({"PYTHONPATH": "."}), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    server = int(process.stdout.readline())
    assert os.getsid(server) == server, "Ctrl-C in the terminal must not reach it"
    time.sleep(0.5)
    os.kill(server, 0)
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while time.monotonic() < until and Path(f"/proc/{server}").exists() and "Z" not in state_of(server):
        time.sleep(0.05)
    assert not Path(f"/proc/{server}").exists() or "Z" in state_of(server)


def state_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture
def of_another_container() -> "Iterator[subprocess.Popen[bytes]]":
    """A server whose command has a process id that nobody has here, as one in another container."""
    named = {"ASD_PROCESS": "4194304", "PREFECT__SERVER_EPHEMERAL": "1"}
    process = subprocess.Popen(["sleep", "60"], env=variables_of(named))
    yield process
    process.kill()
    process.wait()


@SUBPROCESSES
@pytest.mark.situation(
    "several containers in which a process has different process ids",
    before="not tried; by the code: each command ended the private servers of the other containers",
    after="no process id is stored, and none is used to end a process",
)
@pytest.mark.slow
def test_a_server_of_another_container_is_left_alone(
    of_another_container: "subprocess.Popen[bytes]", environment: None, tmp_path: Path
) -> None:
    prepare(Home.at(tmp_path), quiet=True)
    time.sleep(0.2)
    assert of_another_container.poll() is None


@pytest.mark.situation(
    "`asd score` of 300 recordings on cores that other programs use, too",
    before="twice to six times as long as with OMP_NUM_THREADS=1",
    after="as long as with OMP_NUM_THREADS=1: linear algebra and the network take one thread per recording",
)
def test_a_single_recording_takes_one_thread() -> None:
    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    before = threads()
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == before


@pytest.mark.situation(
    "a manifest, labels or settings written on Windows: line ends, byte order mark, semicolons in quotes",
    before="not tried",
    after="read as those written on Linux",
)
def test_files_from_windows_are_read(tmp_path: Path, environment: None) -> None:
    folder, home = tmp_path / "rec", tmp_path / "home"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(32_000), 16_000)
    rows = ["path,machine,label,split", "a.wav,pump,normal,train", '"b.wav",pump,normal,train', ""]
    (folder / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    settings = tmp_path / "plant.yaml"
    settings.write_bytes(b"\xef\xbb\xbftraining:\r\n  epochs: 40\r\n")
    assert read_settings(settings).training.epochs == 40
    runner = CliRunner()
    done = runner.invoke(app, ["ingest", str(folder), "--home", str(home)], env={"PREFECT_API_URL": ""})
    assert done.exit_code == 0, done.output
    labels = tmp_path / "labels.csv"
    labels.write_bytes(f"\ufeffrecording,label\r\n{folder / 'a.wav'},anomaly\r\n".encode())
    done = runner.invoke(app, ["label", str(labels), "--by", "anna", "--home", str(home)])
    assert done.exit_code == 0, done.output
    table = Catalog(Home.at(home).recordings).recordings
    assert sorted(table["label"]) == ["anomaly", "normal"] and set(table["machine"]) == {"pump"}


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("/dev/sda1 / ext4 rw 0 0\n//nas/asd /data/plant\\0401 cifs rw 0 0\n", "cifs"),
        ("/dev/sda1 / ext4 rw 0 0\nnas:/asd /data nfs4 rw 0 0\n", "nfs4"),
        ("/dev/sda1 / ext4 rw 0 0\nnas:/asd /data nfs4 rw 0 0\n/dev/sdb1 /data/plant\\0401 xfs rw 0 0\n", None),
        ("/dev/sda1 / ext4 rw 0 0\nanna@nas: /data fuse.sshfs rw 0 0\n", "fuse.sshfs"),
        ("/dev/sda1 / ext4 rw 0 0\nnas:/other /database nfs rw 0 0\n", None),
        ("", None),
    ],
)
@pytest.mark.situation(
    "the home is on a network share: CIFS, NFS, SSHFS",
    before="not tried; by the code: nothing was said",
    after="commands that start a server warn that SQLite and file locks cannot be relied on there",
)
def test_a_home_on_a_network_share_is_known(mounts: str, kind: str | None, tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(mounts)
    assert share_of(Path("/data/plant 1/home"), table) == kind
    assert share_of(Path("/data/plant 1/home"), tmp_path / "none") is None


def paused(process: "subprocess.Popen[str]", store: Path) -> None:
    """Stop a process at a moment when it does not lock a SQLite file."""
    while True:
        process.send_signal(signal.SIGSTOP)
        try:
            with closing(sqlite3.connect(store, timeout=0.2)) as database:
                database.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.05)


@pytest.mark.flow
@pytest.mark.slow
@pytest.mark.situation(
    "recordings arrive, and people label, while a training takes hours",
    before="nothing was ingested, judged or labelled until it was over",
    after="they are ingested, judged and labelled; the new detector knows the recordings that the training began with",
)
def test_recordings_are_judged_and_labelled_during_a_training(
    prefect_api: str, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    home, plant = Home.at(tmp_path / "home"), tmp_path / "plant"
    frozen = small_settings.training.model_copy(update={"encoder": "base"})
    normality = small_settings.normality.model_copy(update={"scorers": ("spectrum",)})
    settings = small_settings.model_copy(update={"training": frozen, "normality": normality})
    retrain(recordings=small_machines, settings=settings, home=home.root)
    began = set(training_recordings(Catalog(home.recordings).recordings)["recording"])

    changes = ("encoder=resnet18", "epochs=4", "crop_frames=16")
    words = [word for change in changes for word in ("--set", f"training.{change}")]
    words += ["--set", "normality.scorers=spectrum"]
    command = [sys.executable, "-m", "flows.cli", "retrain", "--preset", "demo", *words, "--home", str(home.root)]
    training = subprocess.Popen(
        command, env=variables_of({"PREFECT_API_URL": prefect_api}), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        while not list(home.runs.glob("scratch/*/step-*.pt")):
            assert training.poll() is None
            time.sleep(0.02)
        paused(training, home.root / "mlflow.db")

        rng, arrived = np.random.default_rng(5), [plant / "simFan" / f"{number}.wav" for number in range(6)]
        arrived[0].parent.mkdir(parents=True)
        for path in arrived:
            sound = waveform("simFan", domain="source", label="normal", rng=rng, seconds=1.0)
            soundfile.write(path, sound, SAMPLE_RATE)
        assert ingest(plant, settings.recordings, arrived=arrived, home=home.root)["added"] == 6
        during = arrivals(retrain_after=1, home=home.root)
        assert during["machines"]["simFan"]["normal"] > 1 and during["machines"]["simFan"]["not scored"] == 0
        # The training may learn what makes another one due.
        assert during["postponed"] == f"process {training.pid}" and not during["retraining_due"]
        label_recordings(home, [str(arrived[0])], "anomaly", "anna")
        forget_recordings(home, [], "simValve", "anna")
        rows = Catalog(home.recordings).recordings.set_index("path").loc[[*map(str, arrived)]]
        assert rows["labelled_by"].tolist() == ["anna", *5 * [rows["labelled_by"].iloc[1]]]
        assert rows["labelled_by"].iloc[1] == "detector 1"

        training.send_signal(signal.SIGCONT)
        _, said = training.communicate()
        assert training.returncode == 0, said
    finally:
        training.kill()
    detector, version = load_detector(home, "2")
    assert {recording_of(clip) for model in detector.machines.values() for clip in model.clips} == began
    assert version == "2" and sorted(detector.machines) == ["simFan", "simValve"]
    assert not list((home.runs / "registrations").iterdir())
    # It starts another run of `arrivals`, which then does what was postponed.
    found = httpx.post(f"{prefect_api}/events/filter", json={"filter": {"event": {"name": [ARRIVED]}}}).json()
    assert [event["payload"] for event in found["events"] if event["payload"]["home"] == home.name] == [
        {"home": home.name, "machines": ["simFan"], "added": 6}
    ]
    after = arrivals(retrain_after=1, home=home.root)
    assert after["postponed"] == "" and "of simFan" in after["retraining_due"]
