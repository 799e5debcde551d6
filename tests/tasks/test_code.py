"""What code a stage reaches."""

import gc
import importlib
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asdcore.errors import AsdError
from tasks import code, encoder, evaluation, features, normality, tracking


@pytest.mark.parametrize(
    ("function", "modules"),
    [
        # Each of these was forgotten by the lists that were once kept by hand.
        (
            encoder.train_encoder.function,
            {"asdcore.features.preload", "asdcore.features.store", "asdcore.encoder.losses"},
        ),
        (encoder.embed_recordings.function, {"asdcore.encoder.embedding", "asdcore.encoder.network"}),
        (normality.fit_normality.function, {"asdcore.features.shard"}),
        (evaluation.evaluate.function, {"asdcore.evaluation.bootstrap", "asdcore.baselines.autoencoder"}),
        (features.spectrum_statistics.function, {"asdcore.features.statistics"}),
    ],
)
def test_a_stage_reaches_the_modules_whose_code_it_runs(function: Callable[..., object], modules: set[str]) -> None:
    assert modules <= code.reached(function)


def test_a_stage_does_not_reach_what_others_run() -> None:
    reached = code.reached(normality.fit_normality.function)
    assert not {"asdcore.encoder.training", "asdcore.monitoring.drift", "asdcore.plots.evaluation"} & reached
    assert not any(module.startswith(("asdcore.storage", "asdcore.progress")) for module in reached)


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The digest of the function ``work`` of a package with these files."""
    (tmp_path / "toy").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code, "PACKAGES", ("toy",))

    def of(**files: str) -> str:
        for name in [module for module in sys.modules if module.split(".")[0] == "toy"]:
            del sys.modules[name]
        for cached in (code._module, code._named_in, code._structure, code.code_of_function):
            cached.cache_clear()
        for name, text in {"__init__": "", **files}.items():
            (tmp_path / "toy" / f"{name}.py").write_text(text)
        return code._digest(("toy.stage", "work"))

    return of


STAGE = "from toy.science import compute\n\ndef work(out, x: int) -> None:\n    out.write(compute(x))\n"
SCIENCE = "FACTOR = 2\n\ndef compute(x):\n    return FACTOR * x\n\ndef other(x):\n    return x\n"


def test_what_computes_nothing_does_not_count(digest: Callable[..., str]) -> None:
    before = digest(stage=STAGE, science=SCIENCE)
    documented = '"""Science."""\n' + SCIENCE.replace("def compute(x):", 'def compute(x: int) -> int:\n    """Doc."""')
    assert digest(stage=STAGE, science=documented + "# a comment\n") == before
    assert (
        digest(stage=STAGE, science=SCIENCE.replace("def other(x):\n    return x", "def other(x):\n    return 9"))
        == before
    )


@pytest.mark.parametrize(
    ("old", "new"), [("FACTOR = 2", "FACTOR = 3"), ("FACTOR * x", "FACTOR + x"), ("def compute(x)", "def compute(x=1)")]
)
def test_what_the_function_reaches_counts(digest: Callable[..., str], old: str, new: str) -> None:
    before = digest(stage=STAGE, science=SCIENCE)
    assert digest(stage=STAGE, science=SCIENCE.replace(old, new)) != before


def test_names_are_followed_through_registries_types_and_modules(digest: Callable[..., str]) -> None:
    lazy = 'MODELS = {"a": "toy.models:Model"}\n\ndef compute(x):\n    return MODELS[x]\n'
    before = digest(stage=STAGE, science=lazy, models="class Model:\n    size = 1\n")
    assert digest(stage=STAGE, science=lazy, models="class Model:\n    size = 2\n") != before
    typed = "from toy.models import Model\n\ndef work(out, model: Model):\n    model.fit(out)\n"
    before = digest(stage=typed, models="class Model:\n    def fit(self, out):\n        out.a()\n")
    assert digest(stage=typed, models="class Model:\n    def fit(self, out):\n        out.b()\n") != before
    whole = "from toy import models\n\ndef work(out):\n    models.run(out)\n"
    before = digest(stage=whole, models="def run(out):\n    out.a()\n")
    assert digest(stage=whole, models="def run(out):\n    out.b()\n") != before


def test_the_code_of_a_stage_of_another_package_counts(
    digest: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def own(stage: str) -> str:
        digest(stage=stage)
        return code.code_of_function(importlib.import_module("toy.stage").work)

    monkeypatch.setattr(code, "PACKAGES", ())
    source = "def helper(x):\n    return x\n\ndef work(out):\n    out.write(helper(1))\n\ndef other():\n    pass\n"
    before = own(source)
    assert own(source.replace("helper(1)", "helper(2)")) != before
    assert own(source.replace("return x", "return -x")) != before
    assert own(source.replace("    pass", "    return 1")) == before


def test_a_stage_whose_code_cannot_be_read_is_refused() -> None:
    notebook: dict[str, Any] = {"__name__": "__main__"}
    exec("def work(out):\n    pass\n", notebook)
    with pytest.raises(AsdError, match=r"the code of __main__\.work cannot be read.*define work in a module"):
        code.code_of_function(notebook["work"])


def test_a_class_of_a_notebook_is_refused_where_a_change_of_it_would_go_unnoticed() -> None:
    notebook: dict[str, Any] = {"__name__": "__main__"}
    exec("class Mine:\n    pass\n", notebook)
    with pytest.raises(AsdError, match=r"the code of __main__\.Mine cannot be read.*define Mine in a module"):
        code.code_of_class(notebook["Mine"])


def test_a_stage_of_a_module_that_is_not_followed_has_a_key() -> None:
    assert code.code_of_function(tracking.log_evaluation.function)


def test_threads_may_follow_code_at_once() -> None:
    # In Python 3.11 it takes a thread that is interrupted by the garbage collection in the middle of parsing.
    names = 4 * ["tasks.stage", "tasks.scoring", "asdcore.detector"]
    thresholds, interrupt = gc.get_threshold(), lambda *_: time.sleep(0)
    gc.callbacks.append(interrupt)
    gc.set_threshold(100)
    try:
        with ThreadPoolExecutor(4) as threads:
            modules = list(threads.map(code._module.__wrapped__, names))
    finally:
        gc.callbacks.remove(interrupt)
        gc.set_threshold(*thresholds)
    assert all(module.nodes for module in modules)
