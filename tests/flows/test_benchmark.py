"""Systems side by side, with a real Prefect API and a real MLflow store."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from asdcore.errors import AsdError
from asdcore.evaluation.challenges import challenge_of
from asdcore.evaluation.metrics import machine_metrics, summary
from asdcore.settings import Settings
from asdcore.storage.home import Home
from flows.benchmark import benchmark
from tasks.tracking import client

pytestmark = pytest.mark.flow

Asd = Callable[..., "subprocess.CompletedProcess[str]"]

SYSTEMS = ["paper-ml", "baseline-mse", "baseline-mahalanobis", "spectrum", "spectrum-deviation-nearest"]


@pytest.fixture(scope="module")
def settings(small_settings: Settings) -> Settings:
    return small_settings.model_copy(
        update={"autoencoder": small_settings.autoencoder.model_copy(update={"epochs": 3, "batch_size": 64})}
    )


@pytest.fixture(scope="module")
def compared(prefect_api: str, home: Home, small_machines: Path, settings: Settings) -> dict[str, Any]:
    return benchmark(recordings=small_machines, systems=SYSTEMS, settings=settings, home=home.root)


def test_the_table_has_a_column_a_system_with_intervals_and_differences(compared: dict[str, Any], home: Home) -> None:
    table = pd.read_parquet(home.root / compared["table"])
    assert [name for name in table.columns[2:] if not name.endswith((" low", " high"))] == SYSTEMS
    assert table.iloc[-1]["metric"] == "harmonic mean"
    differences = pd.read_parquet(home.root / compared["differences"])
    assert differences["system"].tolist() == SYSTEMS[1:]
    means = table.iloc[-1]
    assert differences["difference"].tolist() == pytest.approx([means[s] - means[SYSTEMS[0]] for s in SYSTEMS[1:]])
    assert "simulated machines" in compared["report"]


def test_every_format_and_figure_is_there_and_in_mlflow(compared: dict[str, Any], home: Home) -> None:
    names = {"results.md", "results.tex", "results.html", "results.parquet", "harmonic_means.png", "distributions.png"}
    assert names <= {path.name for path in (home.root / compared["plots"]).iterdir()}
    store = client(home)
    assert names <= {Path(artifact.path).name for artifact in store.list_artifacts(compared["run"], "evaluation")}
    run = store.get_run(compared["run"])
    assert run.data.metrics["side_by_side/spectrum/harmonic_mean"] == pytest.approx(
        compared["official_scores"]["spectrum"], abs=0.005
    )
    assert run.info.status == "FINISHED"


def test_the_scores_give_the_figures_of_the_table_and_decisions(compared: dict[str, Any], home: Home) -> None:
    scores = pd.read_parquet(home.root / compared["scores"])
    table = pd.read_parquet(home.root / compared["table"])
    own = scores[scores["system"] == "baseline-mse"].drop(columns="decision")
    metrics = machine_metrics(own).set_index("machine")
    row = table[(table["machine"] == "simFan") & (table["metric"] == "AUC source")].iloc[0]
    assert row["baseline-mse"] == pytest.approx(100 * metrics.loc["simFan", "auc_source"])
    assert set(scores["decision"]) <= {0, 1}


def test_comparing_again_computes_nothing(
    compared: dict[str, Any], home: Home, small_machines: Path, settings: Settings
) -> None:
    made = {path: path.stat().st_mtime_ns for folder in (home.runs, home.features) for path in folder.rglob("*.*")}
    again = benchmark(recordings=small_machines, systems=SYSTEMS, settings=settings, home=home.root)
    assert again["run"] == compared["run"]
    assert {p: p.stat().st_mtime_ns for f in (home.runs, home.features) for p in f.rglob("*.*")} == made


def test_a_system_without_an_encoder_trains_none(
    prefect_api: str, small_machines: Path, settings: Settings, tmp_path: Path
) -> None:
    done = benchmark(
        recordings=small_machines, systems=["spectrum-nearest", "spectrum-ml"], settings=settings, home=tmp_path
    )
    assert set(done["official_scores"]) == {"spectrum-nearest", "spectrum-ml"}
    assert not list(tmp_path.glob("runs/encoders/*"))
    assert "ledoit_wolf used" in done["report"]


def test_the_papers_systems_are_of_the_papers_loss_whatever_the_settings_train(
    compared: dict[str, Any], home: Home, small_machines: Path, settings: Settings
) -> None:
    training = settings.training.model_copy(update={"loss": "discriminative"})
    other = settings.model_copy(update={"training": training})
    done = benchmark(recordings=small_machines, systems=["paper-ml", "ml-z"], settings=other, home=home.root)
    assert done["official_scores"]["paper-ml"] == compared["official_scores"]["paper-ml"]
    assert done["official_scores"]["paper-ml"] != done["official_scores"]["ml-z"]
    encoders = client(home).search_runs(["1"], "attributes.run_name = 'encoder of paper-ml'")
    assert [run.info.status for run in encoders] == ["FINISHED"]


def test_an_unknown_system_lists_those_there_are(prefect_api: str, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match=r"no system magic; there are paper-ml, .*spectrum"):
        benchmark(systems=["magic"], home=tmp_path)


def test_the_official_score_is_by_the_rule_of_a_year(
    prefect_api: str, small_machines: Path, settings: Settings, tmp_path: Path
) -> None:
    done = benchmark(recordings=small_machines, systems=["spectrum"], settings=settings, home=tmp_path, year=2021)
    table = pd.read_parquet(tmp_path / done["table"])
    assert {"pAUC source", "pAUC target"} <= set(table["metric"]) and "pAUC" not in set(table["metric"])
    assert "Official score: that of DCASE 2021, harmonic mean of AUC source," in done["report"]
    scores, rule = pd.read_parquet(tmp_path / done["scores"]), challenge_of(2021).rule
    official = summary(machine_metrics(scores.drop(columns="decision"), rule), rule)["official_score"]
    assert done["official_scores"]["spectrum"] == pytest.approx(100 * official)
    logged = client(Home.at(tmp_path)).get_run(done["run"]).data.metrics
    assert logged["side_by_side/spectrum/harmonic_mean"] == pytest.approx(100 * official, abs=0.005)
    with pytest.raises(AsdError, match="published metrics are by the rule of 2023, not by that of 2020"):
        benchmark(systems=["spectrum"], published=True, year=2020, home=tmp_path)


def test_a_submission_of_a_run_is_evaluated_to_the_figures_of_the_run(
    compared: dict[str, Any], home: Home, asd: Asd, tmp_path: Path
) -> None:
    scores = home.root / compared["scores"]
    several = asd("submit", scores, tmp_path / "files")
    assert several.returncode == 1
    assert "name one of paper-ml" in several.stderr
    assert asd("submit", scores, tmp_path / "files", "--system", "baseline-mse").returncode == 0
    own = pd.read_parquet(scores)
    own = own[own["system"] == "baseline-mse"].assign(file=lambda t: t["path"].map(lambda p: Path(p).name))
    truth = tmp_path / "truth"
    for folder, column, one in (("ground_truth_data", "label", "anomaly"), ("ground_truth_domain", "domain", "target")):
        (truth / folder).mkdir(parents=True)
        for machine, rows in own.groupby("machine"):
            lines = [f"{row.file},{int(getattr(row, column) == one)}" for row in rows.itertuples()]
            (truth / folder / f"ground_truth_{machine}_section_00_test.csv").write_text("\n".join(lines) + "\n")
    result = asd("evaluate", "--scores", tmp_path / "files", "--ground-truth", truth, "--json")
    assert result.returncode == 0, result.stderr
    means = json.loads(result.stdout)["means"]
    assert 100 * means["official_score"] == pytest.approx(compared["official_scores"]["baseline-mse"])


def test_a_damaged_autoencoder_is_trained_again(
    compared: dict[str, Any], home: Home, small_machines: Path, settings: Settings
) -> None:
    files = {path: path.read_bytes() for path in home.runs.glob("autoencoders/*.safetensors")}
    next(iter(files)).write_bytes(b"damaged")
    benchmark(recordings=small_machines, systems=SYSTEMS, settings=settings, home=home.root)
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.slow
def test_the_two_branch_network_is_trained_once_for_all_systems_that_embed_by_it(
    prefect_api: str, home: Home, small_machines: Path, settings: Settings
) -> None:
    briefly = settings.model_copy(update={"two_branch": settings.two_branch.model_copy(update={"epochs": 2})})
    systems = ["wilkinghoff-2024", "two_branch:detector", "two_branch:memory_mixup-h"]
    done = benchmark(recordings=small_machines, systems=systems, settings=briefly, home=home.root)
    networks = {path: path.stat().st_mtime_ns for path in home.runs.glob("two_branch/*.safetensors")}
    assert len(networks) == 1
    assert set(done["official_scores"]) == set(systems)
    assert "The encoder, two_branch, was trained on the normal training recordings" in done["report"]
    # The training counts, and the size of the network: about 2 million weights of 4 bytes.
    assert all(cost["fit_seconds"] > 0.1 and cost["megabytes"] > 7 for cost in done["costs"])
    benchmark(recordings=small_machines, systems=[*systems, "wilkinghoff-2025"], settings=briefly, home=home.root)
    assert {path: path.stat().st_mtime_ns for path in home.runs.glob("two_branch/*.safetensors")} == networks
