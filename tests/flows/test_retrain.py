"""The whole road, with a real Prefect API and a real MLflow store."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import soundfile

from asdcore.detector import Detector
from asdcore.encoder.base import WEIGHTS
from asdcore.encoder.network import TrainedEncoder
from asdcore.errors import AsdError
from asdcore.monitoring.comparison import newly_learned
from asdcore.monitoring.reliability import reliability_of
from asdcore.recordings.catalog import Catalog
from asdcore.recordings.training import training_recordings
from asdcore.settings import Settings
from asdcore.storage.files import digest_of_file
from asdcore.storage.home import Home
from flows.ingest import ingest
from flows.retrain import retrain
from flows.score import score
from flows.train import train
from tasks.labels import label_recordings
from tasks.registered import load_detector, registered_models
from tasks.registry import rolled_back, set_champion, version_facts
from tasks.tracking import client

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def retrained(prefect_api: str, home: Home, small_machines: Path, small_settings: Settings) -> dict[str, Any]:
    return retrain(recordings=small_machines, settings=small_settings, home=home.root)


def files_below(folder: Path, pattern: str = "*") -> dict[Path, tuple[int, str]]:
    """What a re-execution would change: time and content of every file."""
    return {p: (p.stat().st_mtime_ns, digest_of_file(p)) for p in sorted(folder.rglob(pattern)) if p.is_file()}


def test_a_retraining_registers_a_champion_with_its_lineage(retrained: dict[str, Any], home: Home) -> None:
    (row,) = registered_models(home)
    assert (row["version"], row["alias"], row["run"]) == ("1", "champion", retrained["run"])
    assert row["machines"] == "simFan, simValve"
    assert "28 normal recordings" in str(row["data"])
    assert "simulated" in str(row["data"])
    assert float(str(row["score"])) == pytest.approx(retrained["official_scores"]["detector"], abs=0.005)


def test_the_run_holds_settings_figures_by_epoch_plots_and_scores(retrained: dict[str, Any], home: Home) -> None:
    store = client(home)
    run = store.get_run(retrained["run"])
    assert run.data.params["training.epochs"] == "4"
    assert run.info.status == "FINISHED"
    assert [m.step for m in store.get_metric_history(run.info.run_id, "training/loss")] == [1, 2, 3, 4]
    assert {"training/effective_rank_z", "side_by_side/ml-h/harmonic_mean", "by_machine/simFan/auc_source"} <= set(
        run.data.metrics
    )
    names = {Path(artifact.path).name for artifact in store.list_artifacts(run.info.run_id, "evaluation")}
    assert {"caught.png", "training.png", "scores.png", "roc.png", "results.parquet", "report.md"} <= names
    assert "scores.parquet" in names


def test_mlflow_shows_the_recordings_the_verdict_the_machines_and_the_links_between_run_model_and_version(
    retrained: dict[str, Any], home: Home
) -> None:
    store = client(home)
    run = store.get_run(retrained["run"])
    inputs = {given.tags[0].value: given.dataset for given in run.inputs.dataset_inputs}
    assert set(inputs) == {"training", "test"}
    profile = json.loads(inputs["training"].profile)
    assert profile["recordings"] == {"simFan": 14, "simValve": 14} and profile["num_rows"] == 28
    assert len(inputs["training"].digest) == 16 and "simulated" in json.loads(inputs["training"].source)["uri"]
    version = store.get_model_version("asd-detector", "1")
    verdict = "Version 1 became the champion without a comparison"
    for description in (version.description, run.data.tags["mlflow.note.content"]):
        assert description.startswith(verdict) and retrained["outcomes"][0] in description
    model = store.get_logged_model(version.source.removeprefix("models:/"))
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "asd-detector", "version": 1}]
    assert model.tags["mlflow.note.content"] == version.description
    machines = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/machines.json"))
    assert machines["columns"][:3] == ["machine", "faulty", "caught"]
    assert [row[0] for row in machines["data"]] == ["simFan", "simValve"]
    caught = run.data.metrics["all/caught"], run.data.metrics["by_machine/simFan/caught"]
    assert all(0 <= percent <= 100 for percent in caught)
    assert not [name for name in run.data.metrics if " " in name]
    example = mlflow.pyfunc.load_model("models:/asd-detector/1").input_example
    assert example["machine"].tolist() == ["simFan"] and Path(example["path"][0]).is_file()


def test_its_page_is_kept_by_the_run_and_compares_the_detector_with_each_scorer(
    retrained: dict[str, Any], home: Home
) -> None:
    page = Path(retrained["page"]).read_text()
    assert Path(retrained["page"]).parent == home.reports
    assert "Version 1 is the champion" in page and "collect more" in page and "faults caught" in page
    assert page.index(">detector</th>") < page.index(">spectrum</th>")
    assert f"asd promote 1 --home {home.root}" not in page and f"asd score FOLDER --home {home.root}" in page
    kept = {artifact.path for artifact in client(home).list_artifacts(retrained["run"])}
    assert Path(retrained["page"]).name in kept


def test_the_report_compares_the_detector_with_its_eyes_estimators_and_the_spectrum(
    retrained: dict[str, Any],
) -> None:
    header = next(line for line in retrained["report"].splitlines() if line.startswith("| machine"))
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        *("machine", "metric", "detector", "spectrum", "change", "tied-h", "ml-h", "elliptic-h")
    ]
    assert "simulated machines" in retrained["report"]


def test_the_report_and_its_page_begin_with_faults_caught_and_false_alarms(
    retrained: dict[str, Any], home: Home
) -> None:
    assert [line.split(":")[0] for line in retrained["outcomes"]] == ["simFan", "simValve"]
    first = retrained["outcomes"][0]
    assert "of 6 faulty recordings (95 % interval" in first
    assert "of 6 normal recordings, sessions unknown" in first and "1 % asked; AUC" in first
    assert retrained["report"].splitlines()[2] == f"- {first}"
    page = (home.root / retrained["plots"] / "results.html").read_text()
    assert page.index(first) < page.index("<table>")


def test_every_machine_has_a_trust_report_in_the_detector_the_run_and_the_report(
    retrained: dict[str, Any], home: Home
) -> None:
    detector = Detector.load(retrained["detector"])
    trust = reliability_of(detector, "simFan")
    assert trust is not None
    # 14 recordings are too few for 1 %: that takes 99.
    assert (trust.rating, trust.collect, trust.n) == ("collect more", 85, 14)
    assert trust.domains == {"source": 12, "target": 2}
    assert trust.left_out["all"].recordings == 14
    assert trust.test["all"].recordings == 6
    assert "- **simFan**: Collect 85 more normal recordings" in retrained["report"]
    store = client(home)
    assert store.get_run(retrained["run"]).data.metrics["reliability/simFan/collect"] == 85
    names = {artifact.path for artifact in store.list_artifacts(retrained["run"], "reliability/simFan")}
    plots = ("reliability-simFan.png", "theory-simFan.png")
    assert names == {f"reliability/simFan/{name}" for name in ("reliability.json", *plots)}


def test_retraining_again_executes_nothing(
    retrained: dict[str, Any], home: Home, small_machines: Path, small_settings: Settings
) -> None:
    made = [home.features, home.runs, home.scores, home.mlartifacts]
    before = [files_below(folder) for folder in made]
    again = retrain(recordings=small_machines, settings=small_settings, home=home.root)
    assert [files_below(folder) for folder in made] == before
    assert (again["version"], again["run"]) == (retrained["version"], retrained["run"])


def test_the_registered_model_scores_paths_and_waveforms_like_the_evaluation(
    retrained: dict[str, Any], home: Home, small_machines: Path
) -> None:
    table = pd.read_parquet(next(home.scores.glob("evaluation-*.parquet")))
    known = table[table["system"] == retrained["system"]].iloc[[0, -1]]
    client(home)  # sets the tracking URI
    model = mlflow.pyfunc.load_model("models:/asd-detector@champion")
    by_path = model.predict(pd.DataFrame({"path": known["path"].tolist()}))
    np.testing.assert_array_equal(by_path["score"], known["score"])
    assert by_path["machine"].tolist() == known["machine"].tolist()
    samples, rate = soundfile.read(known["path"].iloc[0])
    frame = pd.DataFrame({"waveform": [samples], "sample_rate": [rate], "machine": [known["machine"].iloc[0]]})
    assert model.predict(frame)["score"].tolist() == pytest.approx([known["score"].iloc[0]], rel=1e-6)


def test_a_recording_that_can_not_be_scored_gets_a_reason(
    retrained: dict[str, Any], home: Home, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not a sound")
    result = score(recordings=[broken], machine="simFan", home=home.root)
    (row,) = pd.read_parquet(result["table"]).to_dict("records")
    assert (result["scored"], result["failed"]) == (0, 1)
    assert np.isnan(row["score"])
    assert "unreadable" in row["reason"]
    assert row["detector"] == "1"


def test_an_unknown_alias_is_refused(retrained: dict[str, Any], home: Home) -> None:
    with pytest.raises(AsdError, match="no registered detector 'nobody'"):
        load_detector(home, "nobody")


def test_what_is_deleted_or_damaged_is_made_again_with_the_same_content(
    retrained: dict[str, Any], home: Home, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    copy = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    (shard,) = copy.features.glob("*/shard-*.parquet")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (encoder,) = copy.runs.glob("encoders/*.safetensors")
    weights = Detector.load(retrained["detector"]).encoder.encoder.state_dict()
    encoder.unlink()
    again = retrain(recordings=small_machines, settings=small_settings, home=copy.root)
    assert digest_of_file(shard)[:16] in shard.name
    detector = Detector.load(again["detector"])
    assert all((weights[name] == value).all() for name, value in detector.encoder.encoder.state_dict().items())


def test_new_recordings_are_added_without_touching_old_shards_and_a_stray_file_stops_nothing(
    retrained: dict[str, Any],
    home: Home,
    small_machines: Path,
    small_settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    before = files_below(copy.features, "shard-*")
    rng = np.random.default_rng(1)
    new = tmp_path / "new" / "simFan"
    new.mkdir(parents=True)
    for index in range(3):
        soundfile.write(new / f"monday_{index}.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    (tmp_path / "new" / "stray").mkdir()
    soundfile.write(tmp_path / "new" / "stray" / "file.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    machines = ["simFan", "simValve", "stray"]
    again = retrain(recordings=tmp_path / "new", machines=machines, settings=small_settings, home=copy.root)
    left_out = "stray is left out: too few normal training recordings: stray has 1; a machine needs 10"
    assert left_out in capsys.readouterr().err
    after = files_below(copy.features, "shard-*")
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 2  # of originals and of variants
    assert again["version"] == "2"


def test_noise_as_normal_recordings_makes_a_challenger_that_the_gate_refuses_and_a_person_can_promote(
    retrained: dict[str, Any], home: Home, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    copy = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    rng = np.random.default_rng(1)
    noise = tmp_path / "noise" / "simFan"
    noise.mkdir(parents=True)
    for index in range(12):
        soundfile.write(noise / f"{index}.wav", rng.uniform(0.01, 0.3) * rng.standard_normal(16_000), 16_000)
    work: dict[str, Any] = {"machines": ["simFan", "simValve"], "home": copy.root}
    # The champion looks at what is about to be learned, and a person decides, wrongly.
    assert len(ingest(noise.parent, home=copy.root)["pending"]) == 12
    assert (
        training_recordings(Catalog(copy.recordings).of_machines(["simFan"]))["path"].str.contains("noise").sum() == 0
    )
    assert len(label_recordings(copy, [str(noise)], "normal", "anna")) == 12
    assert ingest(noise.parent, home=copy.root)["pending"] == []
    again = retrain(settings=small_settings, **work)
    # Twelve test recordings may find it no worse, by luck; that the champion knows none of it is no luck.
    assert not again["judgement"]["promote"]
    sentence = "simFan: of the 12 recordings newly labelled normal, the champion calls 12 suspect or anomalous."
    assert again["judgement"]["reasons"][0].startswith(sentence)
    page = Path(again["page"]).read_text()
    assert "Version 2 was not promoted: version 1 stays the champion" in page and "asd promote 2" in page
    assert sentence in page
    assert again["judgement"]["by"]["simFan"] == "labelled test recordings: 12 recordings"
    assert [row["alias"] for row in registered_models(copy)] == ["challenger", "champion"]
    set_champion(copy, "2", "promoted by a test")
    assert [row["alias"] for row in registered_models(copy)] == ["champion", ""]
    # What a person has promoted has been learned: nothing of it is new to the next gate.
    clips = Catalog(copy.recordings).of_machines(["simFan"])
    assert newly_learned(load_detector(copy)[0], clips, "simFan", small_settings).recordings == 0
    assert rolled_back(copy, "a test") == ("2", "1")
    # What a person has decided stays decided: neither version comes back by itself.
    assert retrain(settings=small_settings, **work)["champion"] == "1"
    with pytest.raises(AsdError, match="version 1 has replaced no other one"):
        rolled_back(copy, "a test")
    with pytest.raises(AsdError, match="no registered version '9'"):
        set_champion(copy, "9", "promoted by a test")


@pytest.mark.slow
def test_a_warm_start_begins_with_the_champions_encoder_and_is_not_trained_twice(
    retrained: dict[str, Any], home: Home, small_settings: Settings, tmp_path: Path
) -> None:
    copy = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    rng = np.random.default_rng(3)
    new = tmp_path / "new" / "simFan"
    new.mkdir(parents=True)
    soundfile.write(new / "monday.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    work: dict[str, Any] = {"machines": ["simFan", "simValve"], "settings": small_settings, "home": copy.root}
    again = retrain(recordings=new.parent, warm_start=True, **work)
    assert again["version"] == "2"
    first = Detector.load(retrained["detector"]).encoder.encoder.state_dict()
    (kept,) = copy.runs.glob("warm-starts/*.safetensors")
    weights = TrainedEncoder.load(kept).encoder.state_dict()
    assert all((weights[name] == value).all() for name, value in first.items())
    assert Detector.load(again["detector"]).about["warm_start"] == kept.stem
    set_champion(copy, "2", "promoted by a test")
    assert retrain(warm_start=True, **work)["version"] == "2"
    assert len(list(copy.runs.glob("encoders/*.safetensors"))) == 2


def test_two_versions_are_compared_by_what_differs(
    retrained: dict[str, Any], home: Home, small_settings: Settings, tmp_path: Path
) -> None:
    copy = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    rate = small_settings.normality.model_copy(update={"false_alarm_rate": 0.05})
    retrain(settings=small_settings.model_copy(update={"normality": rate}), home=copy.root)
    a, b = (version_facts(copy, version) for version in ("1", "2"))
    assert (a["setting normality.false_alarm_rate"], b["setting normality.false_alarm_rate"]) == ("0.01", "0.05")
    assert a["recordings"] == b["recordings"] and a["settings"] != b["settings"] and b["parent"] == "1"
    assert a["simFan: normal training recordings"] == "12 source, 2 target" and "score harmonic_mean" in a
    assert len(a["prefect_run"]) == 36 and a["prefect_run"] != b["prefect_run"]


def test_a_machine_with_three_recordings_is_a_clear_error(
    prefect_api: str, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    few = tmp_path / "recordings" / "pump"
    few.mkdir(parents=True)
    rng = np.random.default_rng(2)
    for index in range(3):
        soundfile.write(few / f"{index}.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    with pytest.raises(AsdError, match=r"pump has 3; a machine needs 10"):
        retrain(recordings=few.parent, settings=small_settings, home=tmp_path / "home")


def test_a_recording_that_vanishes_after_the_ingest_is_quarantined_and_the_rest_goes_on(
    prefect_api: str, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    from flows.features import features

    recordings = shutil.copytree(small_machines / "simFan", tmp_path / "recordings" / "simFan")
    ingest(recordings=recordings.parent, home=tmp_path / "home")
    gone = next((recordings / "train").iterdir())
    gone.unlink()
    total = len(Catalog(tmp_path / "home" / "recordings").recordings)
    assert features(settings=small_settings, home=tmp_path / "home") == total - 1
    (row,) = Catalog(tmp_path / "home" / "recordings").quarantined.to_dict("records")
    assert row["path"] == str(gone)
    assert "unreadable" in row["reason"]


def test_the_api_lists_flow_runs_and_shows_the_artifacts(
    retrained: dict[str, Any], prefect_api: str, small_machines: Path
) -> None:
    """Newer fastapi versions break read_flow_runs without a word from pip."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun

    async def look() -> tuple[list[FlowRun], list[TaskRun], list[Artifact]]:
        async with get_client() as api:
            return await api.read_flow_runs(), await api.read_task_runs(), await api.read_artifacts()

    flow_runs, task_runs, artifacts = asyncio.run(look())
    assert "Completed" in {run.state_name for run in flow_runs}
    # A person who scans the runs sees what each of them does, and to what.
    assert {f"retrain {small_machines.name}, 2 machines", f"ingest {small_machines.name}"} <= {
        run.name for run in flow_runs
    }
    assert {"fit profile: simFan", "fit normality: simFan, mean"} <= {run.name for run in task_runs}
    described = {artifact.key: artifact.description for artifact in artifacts}
    assert {"retrain-report", "retrain-page", "recordings", "training"} <= described.keys()
    assert "became the champion" in str([one.description for one in artifacts if one.key == "retrain-report"])


def test_the_flow_forms_know_every_setting() -> None:
    """The Prefect UI draws its form from this schema."""
    from prefect.utilities.callables import parameter_schema

    text = json.dumps(parameter_schema(retrain).model_dump())
    assert all(name in text for name in ("temperature", "minimum_training_recordings", "pitch_method", "machines"))


def test_two_homes_in_one_process_have_a_store_each(retrained: dict[str, Any], home: Home, tmp_path: Path) -> None:
    assert len(registered_models(home)) >= 1
    assert registered_models(Home.at(tmp_path)) == []
    assert len(registered_models(home)) >= 1


def test_recordings_that_could_not_be_read_once_are_computed_when_they_are_back(
    prefect_api: str, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    from flows.features import features
    from flows.ingest import ingest

    drive = shutil.copytree(small_machines, tmp_path / "drive")
    total = ingest(recordings=drive, home=tmp_path / "home")["added"]
    drive.rename(tmp_path / "unplugged")
    assert features(settings=small_settings, home=tmp_path / "home") == 0
    (tmp_path / "unplugged").rename(drive)
    ingest(recordings=drive, home=tmp_path / "home")
    assert features(settings=small_settings, home=tmp_path / "home") == total


def test_a_home_that_was_moved_goes_on_where_it_is_now(
    retrained: dict[str, Any], home: Home, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    moved = Home.at(shutil.copytree(home.root, tmp_path / "moved", symlinks=True))
    shutil.rmtree(moved.mlartifacts)
    before = files_below(home.mlartifacts)
    again = retrain(recordings=small_machines, settings=small_settings, home=moved.root)
    assert files_below(home.mlartifacts) == before
    detector, version = load_detector(moved)
    assert version == again["version"]
    assert sorted(detector.machines) == ["simFan", "simValve"]
    assert list(moved.mlartifacts.rglob("detector.json"))


def test_machines_whose_names_differ_in_one_letter_keep_their_figures_apart() -> None:
    from tasks.tracking import metric_name

    names = ["ml-z/Pümpe/pAUC", "ml-z/P$mpe/pAUC", "ml-z/P&mpe/pAUC"]
    assert len({metric_name(name) for name in names}) == 3
    assert metric_name("by_machine/pump 7/caught") == "by_machine/pump 7/caught"


def test_a_champion_of_an_older_format_is_refused_and_replaced_by_the_next_retraining(
    retrained: dict[str, Any], home: Home, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    copy = Home.at(shutil.copytree(home.root, tmp_path / "home"))
    # The registry of the copy still names the artifacts of the original.
    stored = {file: file.read_text() for file in home.root.glob("mlartifacts/**/detector.json")}
    assert stored
    for file, description in stored.items():
        file.write_text(json.dumps(json.loads(description) | {"format": 1, "asd": "0.1.0"}))
    try:
        with pytest.raises(AsdError, match=r"made by asd 0\.1\.0.*`asd retrain`"):
            score(recordings=[small_machines / "simValve"], machine="simValve", home=copy.root)
        normality = small_settings.normality.model_copy(update={"false_alarm_rate": 0.2})
        again = retrain(settings=small_settings.model_copy(update={"normality": normality}), home=copy.root)
    finally:
        for file, description in stored.items():
            file.write_text(description)
    assert again["champion"] == again["version"] and again["judgement"] is None
    assert score(recordings=[small_machines / "simValve"], machine="simValve", home=copy.root)


def test_with_the_base_encoder_nothing_is_trained_and_no_variants_are_computed(
    prefect_api: str, small_machines: Path, small_settings: Settings, tmp_path: Path
) -> None:
    settings = small_settings.model_copy(update={"training": Settings().training, "normality": Settings().normality})
    home = Home.at(tmp_path / "home")
    done = retrain(recordings=small_machines, settings=settings, home=home.root)
    assert "the base encoder of the package: it was not trained on these recordings" in done["report"]
    assert "elliptic-h" not in done["report"]
    assert digest_of_file(Path(done["detector"]) / "encoder.safetensors") == digest_of_file(WEIGHTS)
    assert (
        not list(home.features.rglob("variants*")) and not (Path(home.root) / done["plots"] / "training.png").exists()
    )
    with pytest.raises(AsdError, match="the encoder base is not trained"):
        train(settings=settings, home=home.root)
