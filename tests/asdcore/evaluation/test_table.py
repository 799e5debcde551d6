import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from asdcore.errors import AsdError
from asdcore.evaluation.bootstrap import paired_bootstrap
from asdcore.evaluation.metrics import harmonic_mean, machine_metrics, summary
from asdcore.evaluation.published import SYSTEMS, published_metrics
from asdcore.evaluation.table import (
    cells,
    differences,
    html,
    labelled,
    latex,
    markdown,
    results_table,
    systems_of,
    with_published,
)
from tests.asdcore.evaluation.conftest import PRINTED_HARMONIC_MEANS


def scores(
    *machines: str,
    sections: tuple[str, ...] = ("00",),
    domains: tuple[str, ...] = ("source", "target"),
    labels: tuple[str, ...] = ("normal", "anomaly"),
    seed: int = 0,
) -> pd.DataFrame:
    """Five recordings of each combination; anomalies score higher on the average."""
    rng = np.random.default_rng(seed)
    rows = [
        (machine, section, domain, label, f"{machine}-{section}-{domain}-{label}-{i}")
        for machine in machines
        for section in sections
        for domain in domains
        for label in labels
        for i in range(5)
    ]
    table = pd.DataFrame(rows, columns=["machine", "section", "domain", "label", "recording"])
    return table.assign(score=rng.gamma(3, size=len(table)) + (table["label"] == "anomaly"))


def test_a_machine_has_three_rows_in_the_order_of_the_paper_and_the_harmonic_mean_is_last() -> None:
    table = results_table({"ml-z": scores("fan", "bearing"), "spectrum": scores("fan", "bearing", seed=1)})
    assert table.columns.tolist() == [
        "machine",
        "metric",
        *("ml-z", "ml-z low", "ml-z high"),
        *("spectrum", "spectrum low", "spectrum high"),
    ]
    metrics = ["AUC target", "AUC source", "pAUC"]
    assert list(zip(table["machine"], table["metric"], strict=True)) == [
        *(("bearing", metric) for metric in metrics),
        *(("fan", metric) for metric in metrics),
        ("All", "harmonic mean"),
    ]
    assert systems_of(table) == ["ml-z", "spectrum"]


def test_the_cells_are_the_metrics_in_percent_within_their_intervals() -> None:
    one = scores("fan", "bearing")
    table = results_table({"ml-z": one}).set_index(["machine", "metric"])
    metrics = machine_metrics(one).set_index("machine")
    for machine in ("fan", "bearing"):
        for metric, column in (("AUC target", "auc_target"), ("AUC source", "auc_source"), ("pAUC", "pauc")):
            assert table.loc[(machine, metric), "ml-z"] == pytest.approx(100 * metrics.loc[machine, column])
    official = table.loc[("All", "harmonic mean"), "ml-z"]
    assert official == pytest.approx(100 * summary(machine_metrics(one))["official_score"])
    assert official == pytest.approx(harmonic_mean(table["ml-z"].iloc[:-1]))
    assert (table["ml-z low"] <= table["ml-z"]).all() and (table["ml-z"] <= table["ml-z high"]).all()
    assert (table["ml-z low"] < table["ml-z high"]).any()


def test_several_sections_of_a_machine_are_told_apart_and_one_is_not_mentioned() -> None:
    one = pd.concat([scores("fan", sections=("00", "02")), scores("pump", sections=("01",))])
    assert results_table({"ml-z": one})["machine"].unique().tolist() == ["fan 00", "fan 02", "pump", "All"]


def test_a_machine_called_all_has_its_rows() -> None:
    table = results_table({"ml-z": scores("all", "fan")})
    assert table["machine"].tolist() == ["all"] * 3 + ["fan"] * 3 + ["All"]


def test_an_undefined_metric_is_a_dash_and_left_out_of_the_mean() -> None:
    table = results_table({"ml-z": scores("fan", domains=("source",))})
    values = table.set_index("metric")["ml-z"]
    assert np.isnan(values["AUC target"])
    assert values["harmonic mean"] == pytest.approx(harmonic_mean([values["AUC source"], values["pAUC"]]))
    assert [line[2] for line in cells(table)][1] == "-"


def test_a_machine_that_one_system_has_not_scored_is_a_dash_there() -> None:
    text = cells(results_table({"ml-z": scores("fan", "pump"), "spectrum": scores("fan")}))
    assert [line[3] == "-" for line in text if line[0] == "pump"] == [True] * 3
    assert not any(line[2] == "-" for line in text)


@pytest.mark.filterwarnings("error")
def test_without_any_anomaly_there_are_dashes_only() -> None:
    text = cells(results_table({"ml-z": scores("fan", labels=("normal",))}))
    assert {line[2] for line in text[1:]} == {"-"}


def test_text_cells_have_two_digits_and_the_interval_of_the_mean_comes_last() -> None:
    table = results_table({"ml-z": scores("fan"), "spectrum": scores("fan", seed=1)})
    header, *rows, interval = cells(table)
    assert header == ["machine", "metric", "ml-z", "spectrum"]
    assert rows[0] == ["fan", "AUC target", f"{table['ml-z'][0]:.2f}", f"{table['spectrum'][0]:.2f}"]
    last = table.iloc[-1]
    assert interval == [
        "",
        "95 % interval",
        f"{last['ml-z low']:.1f}-{last['ml-z high']:.1f}",
        f"{last['spectrum low']:.1f}-{last['spectrum high']:.1f}",
    ]


def test_the_markdown_table_says_what_the_cells_say() -> None:
    table = results_table({"ml-z": scores("fan"), "spectrum": scores("fan", seed=1)})
    header, rule, *rows = markdown(table).splitlines()
    assert rule == "| --- | --- | ---: | ---: |"
    parsed = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *rows)]
    assert parsed == cells(table)


def test_a_bar_in_a_name_does_not_end_a_cell_of_the_markdown_table() -> None:
    lines = markdown(results_table({"ml-z": scores("fan|old")})).splitlines()
    assert lines[2].startswith(r"| fan\|old | AUC target |")
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_only_rows_with_label_domain_and_score_make_metrics() -> None:
    one = scores("fan")
    one.loc[3, "label"] = "unknown"
    one.loc[5, "domain"] = "unknown"
    one.loc[7, "score"] = np.nan
    kept = labelled(one)
    assert kept["recording"].tolist() == [name for i, name in enumerate(one["recording"]) if i not in (3, 5, 7)]
    assert kept.index.tolist() == list(range(len(kept)))


def side_by_side() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table with one published column set and one machine that the paper lacks, and its differences."""
    names = ("fan", "pump & co")
    systems = {"ml_z": scores(*names), "spectrum": scores(*names, seed=1), "<b>50%</b>": scores(*names, seed=2)}
    return with_published(results_table(systems), {"fan"}), differences(systems)


def test_published_metrics_stand_where_the_machines_match() -> None:
    table, _ = side_by_side()
    assert systems_of(table) == ["ml_z", "spectrum", "<b>50%</b>", *SYSTEMS]
    published = published_metrics().set_index(["machine", "metric"])
    for system in SYSTEMS:
        own = published[system]["fan"]
        expected = [own["auc_target"], own["auc_source"], own["pauc"]]
        assert table.loc[table["machine"] == "fan", system].tolist() == expected
        assert table.loc[table["machine"] == "pump & co", system].isna().all()
        assert np.isnan(table[system].iloc[-1])
        assert cells(table)[-2][2 + systems_of(table).index(system)] == "-"
        assert table[[f"{system} low", f"{system} high"]].isna().all(axis=None)
        assert cells(table)[-1][2 + systems_of(table).index(system)] == "-"


def test_on_the_papers_machines_the_published_means_are_the_printed_ones() -> None:
    machines = published_metrics()["machine"].unique()
    table = with_published(results_table({"ml_z": scores(*machines)}), machines)
    assert {system: round(table[system].iloc[-1], 2) for system in SYSTEMS} == PRINTED_HARMONIC_MEANS
    assert table["machine"].tolist()[-1] == "All" and len(table) == 22


@pytest.mark.parametrize("others", [["fan"], ["pump"], ["ToyCar", "pump"]])
def test_published_means_of_other_machines_than_the_tables_are_left_out(others: list[str]) -> None:
    papers = set(published_metrics()["machine"])
    table = with_published(results_table({"ml_z": scores(*sorted(papers ^ set(others)))}), papers - set(others))
    assert table[list(SYSTEMS)].iloc[-1].isna().all()
    matching = table["machine"].isin(papers)
    assert matching.any() and table.loc[matching, list(SYSTEMS)].notna().all(axis=None)


@pytest.mark.filterwarnings("error")
def test_without_a_machine_of_the_paper_the_published_columns_are_dashes() -> None:
    table = with_published(results_table({"ml_z": scores("pump")}), set())
    assert {cell for line in cells(table)[1:] for cell in line[3:]} == {"-"}


def test_differences_are_the_paired_ones_to_the_first_system_in_points() -> None:
    systems = {name: scores("fan", "pump", seed=seed) for seed, name in enumerate(("first", "second", "third"))}
    table = differences(systems).set_index("system")
    assert table.index.tolist() == ["second", "third"]
    official = {name: summary(machine_metrics(own))["official_score"] for name, own in systems.items()}
    for name, row in table.iterrows():
        assert row["difference"] == pytest.approx(100 * (official[name] - official["first"]))
        low, high = np.quantile(paired_bootstrap(systems[name], systems["first"]).official_score, [0.025, 0.975])
        assert row[["low", "high"]].tolist() == pytest.approx([100 * low, 100 * high])
    same = differences({"one": systems["first"], "other": systems["first"]}).iloc[0]
    assert same[["difference", "low", "high"]].tolist() == [0, 0, 0]


def test_one_system_has_no_difference_and_other_recordings_are_refused() -> None:
    alone = differences({"ml_z": scores("fan")})
    assert alone.columns.tolist() == ["system", "difference", "low", "high"] and alone.empty
    table = results_table({"ml_z": scores("fan")})
    assert cells(table, alone) == cells(table)
    with pytest.raises(AsdError, match="Score the same"):
        differences({"ml_z": scores("fan"), "spectrum": scores("pump")})


def test_the_last_two_rows_are_the_differences_and_their_intervals() -> None:
    table, compared = side_by_side()
    plain, full = cells(table), cells(table, compared)
    assert full[:-2] == plain
    assert full[-2][:3] == ["", "minus ml_z", "-"] and full[-1][:3] == ["", "95 % interval", "-"]
    for column, row in enumerate(compared.itertuples(), start=3):
        assert full[-2][column] == f"{row.difference:+.2f}"
        assert full[-1][column] == f"{row.low:+.1f} to {row.high:+.1f}"
        assert re.fullmatch(r"[+-]\d+\.\d\d", full[-2][column])
    assert full[-2][5:] == full[-1][5:] == ["-"] * 4
    assert len({len(line) for line in full}) == 1


@pytest.mark.filterwarnings("error")
def test_an_undefined_difference_is_a_dash() -> None:
    systems = {name: scores("fan", labels=("normal",), seed=seed) for seed, name in enumerate(("one", "other"))}
    text = cells(results_table(systems), differences(systems))
    assert {cell for line in text[1:] for cell in line[2:]} == {"-"}


def latex_cells(text: str) -> list[list[str]]:
    """The cells of a tabular of which every row has as many as it has columns."""
    first, top, *lines, bottom, last = text.splitlines()
    columns = re.fullmatch(r"\\begin\{tabular\}\{(ll r*)\}".replace(" ", ""), first)
    assert columns and (top, bottom, last) == (r"\toprule", r"\bottomrule", r"\end{tabular}")
    rows = [line for line in lines if line != r"\midrule"]
    assert all(row.endswith(r" \\") for row in rows)
    split = [re.split(r"(?<!\\)&", row.removesuffix(r" \\")) for row in rows]
    assert {len(row) for row in split} == {len(columns[1])}
    return [[cell.strip() for cell in row] for row in split]


def test_the_latex_table_has_balanced_braces_full_rows_and_no_naked_sign() -> None:
    table, compared = side_by_side()
    text = latex(table, compared)
    plain = re.sub(r"\\[{}%$#_&]", "", text)
    assert plain.count("{") == plain.count("}")
    assert not set("%$#_^~<>|") & set(plain)
    rows = latex_cells(text)
    assert rows[0][2:5] == [r"ml\_z", "spectrum", r"\textless{}b\textgreater{}50\%\textless{}/b\textgreater{}"]
    assert rows[4][0] == r"pump \& co"
    assert [row[1] for row in rows[-3:]] == [r"95 \% interval", r"minus ml\_z", r"95 \% interval"]
    assert text.count(r"\midrule") == 2
    # The second rule is above the harmonic mean.
    lines = text.splitlines()
    assert lines[len(lines) - 1 - lines[::-1].index(r"\midrule") + 1].startswith("All & harmonic mean")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a\\b", r"a\textbackslash{}b"),
        ("{x}", r"\{x\}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("a|b", r"a\textbar{}b"),
        ("#1 $", r"\#1 \$"),
    ],
)
def test_every_sign_that_latex_reads_as_a_command_is_escaped(name: str, written: str) -> None:
    assert latex_cells(latex(results_table({"ml": scores(name)})))[1][0] == written


def test_a_machine_called_as_the_last_row_does_not_move_the_rule() -> None:
    lines = latex(results_table({"ml": scores("All", "fan")})).splitlines()
    assert lines.index(r"\midrule", 4) == len(lines) - 5


class Cells(HTMLParser):
    """The text of the cells, by row; every element but void ones must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        elif self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data


def test_the_page_says_what_the_cells_say_whatever_the_names_are() -> None:
    table, compared = side_by_side()
    title = "<script>alert('&')</script>"
    page = Cells()
    page.feed(html(table, title, compared))
    page.close()
    assert page.open == []
    assert page.rows == cells(table, compared)
    assert page.texts["title"] == page.texts["h1"] == title
    assert "script" not in page.texts


def test_the_page_begins_with_its_first_sentences() -> None:
    page = html(side_by_side()[0], "Results", first=["fan: caught 3 of 3 <faulty>"])
    assert page.index("fan: caught 3 of 3 &lt;faulty&gt;") < page.index("<table>")


def test_the_markdown_table_has_the_differences_too() -> None:
    table, compared = side_by_side()
    header, _, *rows = markdown(table, compared).splitlines()
    parsed = [[cell.strip() for cell in line[1:-1].split("|")] for line in (header, *rows)]
    assert parsed == cells(table, compared)
