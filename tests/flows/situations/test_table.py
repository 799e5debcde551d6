"""The documentation has the table of situations. To print it: ``pytest -s`` this file."""

from pathlib import Path

from tests.flows.situations.table import markdown, situations

PAGE = Path(__file__).parents[3] / "docs" / "evidence" / "situations.md"


def test_the_documentation_has_every_situation() -> None:
    table = markdown(situations())
    print(f"\n{table}\n")
    assert table in PAGE.read_text(encoding="utf-8"), f"write the table that this test prints into {PAGE}"
