"""How long the properties are tried: a few examples each, always the same, or new ones for ``ASD_FUZZ_SECONDS``."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import hypothesis
import pytest

SECONDS = float(os.environ.get("ASD_FUZZ_SECONDS", "0"))
"""for all properties together; 0: once, and quickly"""
EXAMPLES: Counter[str] = Counter()
"""examples that each property was tried with"""

_NO_LIMITS: dict[str, Any] = {"deadline": None, "suppress_health_check": list(hypothesis.HealthCheck)}
hypothesis.settings.register_profile("seed", max_examples=20, derandomize=True, database=None, **_NO_LIMITS)
hypothesis.settings.register_profile("fuzz", max_examples=50, print_blob=True, **_NO_LIMITS)
hypothesis.settings.load_profile("fuzz" if SECONDS else "seed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count the examples of the properties, and give each the same share of the time."""
    ours = [item for item in items if isinstance(item, pytest.Function) and _is_property(item)]
    for item in ours:
        item.stash[_SHARE] = SECONDS / len(ours)
        test = item.obj.hypothesis
        if not hasattr(test.inner_test, "counted"):
            test.inner_test = _counted(test.inner_test, item.name)


_SHARE = pytest.StashKey[float]()


def _is_property(item: pytest.Function) -> bool:
    return Path(__file__).parent in item.path.parents and hasattr(item.obj, "hypothesis")


def _counted(inner: Any, name: str) -> Any:
    @wraps(inner)
    def run(*args: Any, **kwargs: Any) -> Any:
        EXAMPLES[name] += 1
        return inner(*args, **kwargs)

    run.counted = True  # type: ignore[attr-defined]
    return run


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Try a property again and again, with new examples, until its share of the time is over."""
    end = time.monotonic() + pyfuncitem.stash.get(_SHARE, 0.0)
    result = yield
    while time.monotonic() < end:
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        pyfuncitem.obj(**arguments)
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many examples each property was tried with."""
    if EXAMPLES and SECONDS:
        terminalreporter.section("examples")
        for name, count in EXAMPLES.items():
            terminalreporter.write_line(f"{count:8,} {name}")
