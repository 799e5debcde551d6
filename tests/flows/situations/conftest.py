"""The table of situations, printed after the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.flows.situations.table import GROUPS, Situation, markdown, situation_of


@pytest.fixture(autouse=True)
def _in_the_table(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give the report of each test the situation that its marker names."""
    if request.path.stem in GROUPS:
        situation = situation_of(request.node.get_closest_marker("situation"), request.path)
        request.node.user_properties.append(("situation", [*situation]))
    yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the situations of the tests that have just run, with their outcomes."""
    outcomes: dict[Situation, set[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "situation":
                    outcomes.setdefault(Situation(*value), set()).add(outcome)
    if outcomes:
        terminalreporter.section("situations")
        terminalreporter.write_line(markdown(list(outcomes), {key: sorted(seen) for key, seen in outcomes.items()}))
