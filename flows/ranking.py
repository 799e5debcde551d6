"""The flow `ranking`: any systems on any datasets with several seeds, ranked."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from prefect import flow
from prefect.artifacts import create_markdown_artifact

from asdcore.datasets.simulate import fault_of
from asdcore.errors import AsdError
from asdcore.evaluation.challenges import YEAR, Rule, challenge_of
from asdcore.evaluation.ranking import by_group, comparisons, quality, ranking, twins
from asdcore.evaluation.systems import systems_named
from asdcore.evaluation.table import labelled
from asdcore.reports.page import NO_REAL_MACHINE
from asdcore.reports.ranking import Ranked, ranking_report, system_rows
from asdcore.settings import Settings
from asdcore.storage.files import atomic_write, digest_of
from asdcore.storage.home import Home
from flows.benchmark import benchmark, comparable_clips, comparison
from flows.failures import completed, failed
from tasks.cluster import cluster_address, on_cluster
from tasks.comparison import fitted_systems
from tasks.publishing import link_report
from tasks.run_names import add_to_run_name, counted, run_name
from tasks.stage import each_of
from tasks.tracking import client, describe, log_parameters, tracked_run
from tasks.warn import warn

SCORES, REPORT = "ranking.parquet", "ranking.html"


class RankedSystems(TypedDict):
    """Systems by average rank."""

    run: str
    """of MLflow"""
    systems: list[dict[str, Any]]
    """one row per system, the best average rank first; see `asdcore.reports.ranking.system_rows`"""
    first: str
    """that the others are compared with"""
    machines: int
    official: str
    """the score by which they are ranked on each machine"""
    critical_difference: float
    scores: str
    """Parquet file: one row per test recording, system, seed and dataset"""
    page: str
    """HTML file"""


@flow(name="ranking", flow_run_name=run_name, on_failure=[failed], on_completion=[completed])
def rank_systems(
    datasets: list[Path],
    systems: list[str],
    seeds: int = 3,
    settings: Settings = Settings(),
    home: Path | None = None,
    year: int = YEAR,
) -> RankedSystems:
    """Run the flow `benchmark` for each dataset and seed, and rank the systems on all machines.

    Finished stages are not repeated: a run that was killed resumes. Each dataset has a home of its
    own in the folder ``rankings`` of the home, so that machines of the same name stay apart.

    Args:
        datasets: folders or manifests of recordings, with labelled test recordings.
        systems: names, see `asdcore.evaluation.systems`; the first is the one that the others are compared with.
        seeds: how many: 0, 1, ... They change the trainings of encoders, autoencoders and two-branch networks, and
            robust covariances.
        settings: see `Settings`.
        home: where everything is kept; default ``ASD_HOME`` or ``.asd``.
        year: of the challenge by whose rule systems are ranked.

    Returns:
        run, systems, and where scores and report are.
    """
    rule = challenge_of(year).rule
    place = Home.at(home) if home else Home.default()
    names = dataset_names(datasets)
    add_to_run_name(f", {counted(len(systems), 'system')} on {counted(len(datasets), 'dataset')}")
    if address := cluster_address():
        _fit_on_cluster(address, place, names, systems, seeds, settings, rule)
    tables, costs, simulated = [], dict[str, list[pd.DataFrame]](), list[str]()
    for name, dataset in names.items():
        own = _home_of(place, name).root
        for seed in range(seeds):
            seeded = with_seed(settings, seed)
            done = benchmark(recordings=dataset, systems=systems, settings=seeded, home=own, year=year)
            tables.append(pd.read_parquet(own / done["scores"]).assign(dataset=name, seed=seed))
            costs.setdefault(name, []).append(pd.DataFrame(done["costs"]))
        simulated += [name] if "simulated machines" in done["report"] else []
    scores = labelled(pd.concat(tables, ignore_index=True))
    if scores.empty:
        raise AsdError("no test recording of these datasets has a label: nothing can be compared")
    table = quality(scores, rule)
    ranked = Ranked(
        table,
        ranking(table),
        comparisons(scores, table, systems[0], rule),
        by_group(scores, groups_of_anomalies(scores)),
        _total(list(costs.values())),
        twins(scores),
        scores.groupby("dataset")["recording"].nunique().sum(),
        rule,
    )
    return _published(place, ranked, scores, systems, names, seeds, settings, simulated)


def dataset_names(datasets: Sequence[Path]) -> dict[str, Path]:
    """A short name of each: its folder, or the folder of a manifest; with more of the path where that is the same.

    Raises:
        AsdError: the same dataset twice.
    """
    folders = [path.resolve().parent if path.is_file() else path.resolve() for path in datasets]
    if len(set(folders)) < len(folders):
        raise AsdError(f"a dataset is given twice: {', '.join(map(str, datasets))}")
    for parts in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["_".join(part for part in folder.parts[-parts:] if part != "/") for folder in folders]
        if len(set(names)) == len(names):
            return dict(zip(names, datasets, strict=True))
    raise AssertionError("folders that differ have names that differ")


def with_seed(settings: Settings, seed: int) -> Settings:
    """These settings with another seed of every training."""
    return settings.model_copy(
        update={
            "training": settings.training.model_copy(update={"seed": settings.training.seed + seed}),
            "normality": settings.normality.model_copy(update={"seed": settings.normality.seed + seed}),
            "two_branch": settings.two_branch.model_copy(update={"seed": settings.two_branch.seed + seed}),
            "autoencoder": settings.autoencoder.model_copy(update={"seed": settings.autoencoder.seed + seed}),
        }
    )


def _home_of(home: Home, name: str) -> Home:
    return Home.at(home.root / "rankings" / name)


def _fit_on_cluster(
    address: str, place: Home, names: dict[str, Path], systems: list[str], seeds: int, settings: Settings, rule: Rule
) -> None:
    """Fit and evaluate the systems on all datasets and with all seeds at once; the flow `benchmark` finds it done.

    Not that flow in many threads: MLflow knows only one store per process, and each dataset has its own.
    """
    clips: dict[str, pd.DataFrame] = {}
    with ExitStack() as held:
        # In one order: two rankings that each wait for a home of the other would wait for ever.
        for name in sorted(names):
            home = _home_of(place, name)
            held.enter_context(home.lock(warn))
            home.sweep()
            chosen = systems_named(systems, settings.normality)
            clips[name] = comparable_clips(home, names[name], None, chosen, settings)

        def compare(dataset_and_seed: tuple[str, int]) -> None:
            name, seed = dataset_and_seed
            own = with_seed(settings, seed)
            chosen, home = systems_named(systems, own.normality), _home_of(place, name)
            with home.at_work():
                comparison(clips[name], chosen, fitted_systems(home, clips[name], chosen, own, "", ""), own, rule=rule)

        with on_cluster(address):
            each_of(compare, [(name, seed) for name in names for seed in range(seeds)], "benchmarks")


def groups_of_anomalies(scores: pd.DataFrame) -> dict[str, list[str]]:
    """Recording: domain, attributes and, where known, the fault of each anomalous one."""
    groups = {}
    for row in scores[scores["label"] == "anomaly"].drop_duplicates("recording").to_dict("records"):
        said = json.loads(row["attributes"] or "{}")
        fault = said.pop("fault", "") or fault_of(Path(row["path"]))
        attributes = [f"{name} {value}" for name, value in said.items() if name != "simulated"]
        groups[str(row["recording"])] = [
            f"domain {row['domain']}", *([f"fault {fault}"] if fault else []), *attributes
        ]  # fmt: skip
    return groups


def _total(of_datasets: Sequence[Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """One row per system: the fit of all datasets, and the mean of the rest; medians over the seeds."""
    medians = [pd.concat(tables).groupby("system", sort=False).median() for tables in of_datasets]
    both = pd.concat(medians).groupby("system", sort=False)
    means = both.mean()
    return means.assign(fit_seconds=both["fit_seconds"].sum()).reset_index()


def _published(
    home: Home,
    ranked: Ranked,
    scores: pd.DataFrame,
    systems: Sequence[str],
    names: dict[str, Path],
    seeds: int,
    settings: Settings,
    simulated: Sequence[str],
) -> RankedSystems:
    """Write the Parquet file and the report, and log them to MLflow and Prefect."""
    recordings = sorted(set(scores["recording"]))
    key = digest_of(*systems, *names, str(seeds), ranked.rule.text, settings.digest(), *recordings)
    folder = home.root / "rankings" / f"ranking-{key}"
    with atomic_write(folder / SCORES) as temporary:
        scores.to_parquet(temporary)
    notes = [f"{name}: {path}" for name, path in names.items()]
    banner = f"Simulated machines: those of {', '.join(simulated)}." if simulated else ""
    banner = NO_REAL_MACHINE if len(simulated) == len(names) else banner
    with atomic_write(folder / REPORT) as temporary:
        temporary.write_text(ranking_report(ranked, notes, banner), encoding="utf-8")
    rows = system_rows(ranked)
    verdict = ", ".join(f"{row['system']} {row['rank']:.2f}" for row in rows)
    run = tracked_run(home, "ranking", key, f"ranking of {counted(len(rows), 'system')}")
    log_parameters(home, run, settings.model_dump(mode="json"))
    for file in (SCORES, REPORT):
        client(home).log_artifact(run, str(folder / file))
    describe(home, run, f"Average ranks: {verdict}.")
    client(home).set_terminated(run)
    create_markdown_artifact(key="ranking", markdown=f"Average ranks: {verdict}.", description=verdict)
    link_report("ranking-page", str(folder / REPORT))
    return {
        "run": run,
        "systems": rows,
        "first": systems[0],
        "machines": len(ranked.ranking.ranks),
        "official": ranked.rule.text,
        "critical_difference": ranked.ranking.critical_difference,
        "scores": str(folder / SCORES),
        "page": str(folder / REPORT),
    }
