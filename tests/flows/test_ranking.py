"""Systems on several datasets, with a real Prefect API and a real MLflow store."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from asdcore.datasets.simulate import simulate
from asdcore.errors import AsdError
from asdcore.registry import FAULTS
from asdcore.settings import Settings
from flows.ranking import dataset_names, groups_of_anomalies, with_seed

pytestmark = pytest.mark.flow

Asd = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.slow
def test_two_datasets_and_two_seeds_become_one_table_and_one_page_and_a_second_run_computes_nothing(
    asd: Asd, small_machines: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    simulate(other, machines=["simFan"], source_train=12, target_train=2, test_per_kind=3, seconds=1.0, seed=5)
    command = ["benchmark", "--recordings", small_machines, "--recordings", other, "--seeds", "2", "--json"]
    command += ["--systems", "spectrum,change,spectrum-ml", "--home", tmp_path / "home"]
    done = asd(*command)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {row["system"] for row in result["rows"]} == {"spectrum", "change", "spectrum-ml"}
    assert result["machines"] == 3
    assert {row["same_as"] for row in result["rows"] if row["system"] == "spectrum-ml"} == {"spectrum"}
    assert all(row["score_milliseconds"] > 0 for row in result["rows"])
    scores = pd.read_parquet(result["scores"])
    assert scores.groupby(["dataset", "seed", "system"]).size().tolist() == [12] * 6 + [24] * 6
    page = Path(result["page"]).read_text()
    assert "fault " in page and "no real machine was recorded" in page
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "home" / "rankings").rglob("runs/**/*.npz")}
    assert asd(*command).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "home" / "rankings").rglob("runs/**/*.npz")} == made


def test_datasets_of_the_same_folder_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("one/raw", "two/raw", "three"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "three" / "manifest.csv").write_text("path,machine\n")
    folders = [tmp_path / "one" / "raw", tmp_path / "two" / "raw", tmp_path / "three" / "manifest.csv"]
    names = list(dataset_names(folders))
    assert [name.split("_")[-2:] for name in names] == [
        ["one", "raw"],
        ["two", "raw"],
        [tmp_path.name.split("_")[-1], "three"],
    ]
    with pytest.raises(AsdError, match="a dataset is given twice"):
        dataset_names([folders[0], folders[0]])


def test_a_fault_of_ones_own_is_a_group_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FAULTS, "_of_this_process", {})
    FAULTS.register("quieter")(lambda sound, rate, strength, rng: sound / (1 + strength))
    counts = {"source_train": 0, "target_train": 0, "test_per_kind": 1}
    paths = simulate(tmp_path, machines=["simFan"], seconds=0.5, faults=["quieter"], **counts)  # type: ignore[arg-type]
    rows = [
        {"recording": path.name, "path": str(path), "domain": path.name.split("_")[2], "attributes": '{"spd": "18"}'}
        for path in paths
    ]
    scores = pd.DataFrame(rows).assign(label=["anomaly" if "_anomaly_" in path.name else "normal" for path in paths])
    groups = groups_of_anomalies(scores)
    assert sorted(groups.values()) == [
        [f"domain {domain}", "fault quieter", "spd 18"] for domain in ("source", "target")
    ]


def test_a_seed_changes_every_training() -> None:
    changed = with_seed(Settings(), 2)
    assert changed.two_branch.seed == 2
    assert (changed.training.seed, changed.normality.seed, changed.autoencoder.seed) == (2, 2, 13713)
