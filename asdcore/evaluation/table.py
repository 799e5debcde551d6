"""Systems side by side, in the layout of the paper's Table 1."""

import html as escaping
from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from asdcore.evaluation.bootstrap import ALL, bootstrap, paired_bootstrap
from asdcore.evaluation.challenges import DEFAULT_RULE, TITLES, Rule
from asdcore.evaluation.metrics import DOMAINS, LABELS, harmonic_mean
from asdcore.evaluation.published import published_metrics

RESAMPLES = 2000


def labelled(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows that metrics can be computed from: label, domain and score are known."""
    known = scores["label"].isin(LABELS) & scores["domain"].isin(DOMAINS) & scores["score"].notna()
    return scores[known].reset_index(drop=True)


def results_table(scores: Mapping[str, pd.DataFrame], rule: Rule = DEFAULT_RULE) -> pd.DataFrame:
    """One row per machine and metric of the official score, their mean last, and one column per system.

    Args:
        scores: system: a table as `machine_metrics` reads it, all of the same test recordings.
        rule: of a year of the challenge.

    Returns:
        machine, metric and one column per system, in percent, NaN where a metric is undefined; ``<system> low`` and
        ``<system> high``: the ends of the 95 % interval of a stratified bootstrap over the test recordings.
    """
    columns: dict[str, pd.Series[float]] = {}
    for system, table in scores.items():
        intervals = bootstrap(table, RESAMPLES, rule=rule).intervals().set_index(["machine", "section", "metric"])
        columns |= {
            system: intervals["estimate"],
            f"{system} low": intervals["low"],
            f"{system} high": intervals["high"],
        }
    every = (pd.DataFrame(columns) * 100).reset_index()
    # Both, because a machine may well be called "all".
    means = (every["machine"] == ALL) & (every["section"] == ALL)
    official = every[means & (every["metric"] == "official_score")]
    of_machines = every[~means & every["metric"].isin(rule.metrics)]
    sections = of_machines.groupby("machine")["section"].transform("nunique")
    named = of_machines["machine"] + (" " + of_machines["section"]).where(sections > 1, "")
    of_machines = of_machines.assign(machine=named, order=of_machines["metric"].map(list(TITLES).index))
    of_machines = of_machines.sort_values(["machine", "order"]).drop(columns="order")
    official = official.assign(machine="All", metric=f"{rule.mean} mean")
    table = pd.concat([of_machines, official]).drop(columns="section")
    return table.assign(metric=table["metric"].replace(TITLES)).reset_index(drop=True)


def with_published(table: pd.DataFrame, machines: Collection[str]) -> pd.DataFrame:
    """A `results_table` with the paper's four columns added for these machines, see `machines_of_the_paper`.

    Their harmonic means are over the paper's seven machines, and are given only where the table is of exactly these:
    one row never compares different machines. They have no interval, since the scores of the recordings are unknown.
    """
    published = published_metrics().assign(metric=lambda rows: rows["metric"].replace(TITLES))
    every = set(published["machine"])
    published = published[published["machine"].isin(list(machines))]
    joined = table.merge(published, on=["machine", "metric"], how="left")
    the_same = set(table["machine"].iloc[:-1]) == set(published["machine"]) == every
    for system in published.columns[2:]:
        if the_same:
            mean = harmonic_mean(joined[system].to_numpy(dtype=float) / 100) * 100
            joined.loc[joined.index[-1], system] = mean
        joined = joined.assign(**{f"{system} low": float("nan"), f"{system} high": float("nan")})
    return joined


def differences(scores: Mapping[str, pd.DataFrame], rule: Rule = DEFAULT_RULE) -> pd.DataFrame:
    """The official score of every system minus that of the first one, on the same test recordings.

    Returns:
        system, difference, low, high: percentage points, with the 95 % interval of a paired stratified bootstrap.
    """
    first, *others = scores
    rows = []
    for system in others:
        intervals = paired_bootstrap(scores[system], scores[first], RESAMPLES, rule=rule).intervals()
        means = intervals[(intervals["machine"] == ALL) & (intervals["section"] == ALL)]
        row = means[means["metric"] == "official_score"].iloc[0]
        rows.append((system, *(float(row[name]) * 100 for name in ("estimate", "low", "high"))))
    return pd.DataFrame(rows, columns=["system", "difference", "low", "high"])


def systems_of(table: pd.DataFrame) -> list[str]:
    """The systems of a `results_table`, in its order."""
    return [str(name) for name in table.columns[2:] if not str(name).endswith((" low", " high"))]


def cells(table: pd.DataFrame, compared: pd.DataFrame | None = None) -> list[list[str]]:
    """A `results_table` as text, header first: percent with two digits; the interval of the last row follows it.

    With `differences`, two more rows: to the first system, and their intervals.
    """
    systems = systems_of(table)
    rows = [["machine", "metric", *systems]]
    for row in table.to_dict("records"):
        metrics = ["-" if pd.isna(row[system]) else f"{row[system]:.2f}" for system in systems]
        rows.append([str(row["machine"]), str(row["metric"]), *metrics])
    last = table.iloc[-1]
    ends = [(last[f"{system} low"], last[f"{system} high"]) for system in systems]
    rows.append(["", "95 % interval", *(_interval(low, high, "{:.1f}", "-") for low, high in ends)])
    if compared is not None and len(compared):
        # A system without a difference, such as a published one, has NaN.
        of = compared.set_index("system").astype(float).reindex(systems)
        values = ["-" if pd.isna(value) else f"{value:+.2f}" for value in of["difference"]]
        spans = [_interval(low, high, "{:+.1f}", " to ") for low, high in zip(of["low"], of["high"], strict=True)]
        rows += [["", f"minus {systems[0]}", *values], ["", "95 % interval", *spans]]
    return rows


def markdown(table: pd.DataFrame, compared: pd.DataFrame | None = None) -> str:
    """A `results_table` as a Markdown table."""
    header, *rows = [[cell.replace("|", r"\|") for cell in line] for line in cells(table, compared)]
    lines = [header, ["---", "---", *["---:"] * (len(header) - 2)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def latex(table: pd.DataFrame, compared: pd.DataFrame | None = None) -> str:
    """A `results_table` as a LaTeX tabular (package booktabs)."""
    header, *rows = [[cell.translate(_LATEX) for cell in line] for line in cells(table, compared)]
    lines = [" & ".join(line) + r" \\" for line in rows]
    summary = len(table) - 1
    body = [" & ".join(header) + r" \\", r"\midrule", *lines[:summary], r"\midrule", *lines[summary:]]
    return "\n".join(
        [rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]
    )


def html(table: pd.DataFrame, title: str, compared: pd.DataFrame | None = None, first: Sequence[str] = ()) -> str:
    """A `results_table` as an HTML page. ``first``: sentences above it."""
    header, *rows = [[escaping.escape(cell) for cell in line] for line in cells(table, compared)]
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in rows)
    style = "body{font-family:sans-serif}td,th{padding:.2em .8em;text-align:right}td:nth-child(-n+2){text-align:left}"
    name = escaping.escape(title)
    sentences = "".join(f"<p>{escaping.escape(sentence)}</p>\n" for sentence in first)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{style}</style></head>\n<body><h1>{name}</h1>\n{sentences}<table><tr>{head}</tr>\n{body}</table></body></html>\n"
    )


def _interval(low: float, high: float, form: str, between: str) -> str:
    return "-" if pd.isna(low) or pd.isna(high) else form.format(low) + between + form.format(high)


_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)
