import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from asdcore.plots.evaluation import (
    distribution_plot,
    harmonic_mean_plot,
    roc_plot,
    score_plot,
    training_plot,
)

pytestmark = pytest.mark.filterwarnings("error")

HISTORY = [
    {
        "epoch": float(epoch),
        "learning_rate": 1e-3 / epoch,
        "loss": 3.0 / epoch,
        "gradient_norm": 1.0,
        "effective_rank_h": 5.0 + epoch,
        "effective_rank_z": 4.0 + epoch,
        "alignment": 0.5,
        "uniformity": -1.0,
    }
    for epoch in range(1, 9)
]


def scores(machines: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"machine{m}", domain, label, float(rng.gamma(8) * 16 * (1.5 if label == "anomaly" else 1)))
        for m in range(machines)
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for _ in range(50)
    ]
    return pd.DataFrame(rows, columns=["machine", "domain", "label", "score"])


def drawn(figure: Figure, path: Path) -> Path:
    """Saved as a picture that is more than one colour."""
    figure.savefig(path, format="png", dpi=60)
    assert np.ptp(matplotlib.image.imread(path)[..., :3]) > 0
    return path


@pytest.mark.parametrize("machines", [1, 5, 9])
def test_every_machine_has_a_panel_with_all_its_recordings(machines: int, tmp_path: Path) -> None:
    figure = score_plot(scores(machines), "Scores")
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in panels] == [f"machine{m}" for m in range(machines)]
    for axes in panels:
        heights = [patch.get_height() for patch in axes.patches]
        assert sum(heights) == 200
        assert axes.get_legend() is None
        assert axes.get_xlabel() == "anomaly score\n50 normal source, 50 normal target, 100 faulty"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["normal, source", "normal, target", "faulty"]
    drawn(figure, tmp_path / "scores.png")


@pytest.mark.parametrize("machines", [1, 5, 9])
def test_every_machine_has_a_roc_curve_of_each_system(machines: int, tmp_path: Path) -> None:
    figure = roc_plot({"ml-z": scores(machines), "spectrum": scores(machines, seed=1)}, "ROC")
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == machines
    for axes in panels:
        assert [line.get_label() for line in axes.get_lines()][1:] == ["ml-z", "spectrum"]
        for line in axes.get_lines():
            assert (line.get_xydata()[0] == 0).all() and (line.get_xydata()[-1] == 1).all()
    drawn(figure, tmp_path / "roc.png")


def with_verdicts(machines: int) -> pd.DataFrame:
    """Scores of which those above 150 are suspect, and those above 200 anomalous."""
    table = scores(machines)
    kinds = np.select([table["score"] > 200, table["score"] > 150], ["anomalous", "suspect"], "normal")
    return table.assign(verdict=kinds)


def test_the_operating_point_is_marked_in_the_histogram_and_on_the_curve(tmp_path: Path) -> None:
    table = with_verdicts(2)
    histogram = score_plot(table, "Scores")
    for axes in histogram.axes:
        rows = table[table["machine"] == axes.get_title()]
        for line, threshold in zip(axes.get_lines(), (150, 200), strict=True):
            place = line.get_xdata()[0]
            assert ((rows["score"] > threshold) == (rows["score"] > place)).all()
    assert [text.get_text() for text in histogram.legends[0].get_texts()][3:] == [
        "suspect from here on",
        "anomalous from here on",
    ]
    roc = roc_plot({"detector": table, "spectrum": scores(2, seed=1)}, "ROC")
    for axes in roc.axes:
        rows = table[table["machine"] == axes.get_title()]
        faulty = rows["label"] == "anomaly"
        points = [tuple(points.get_offsets()[0]) for points in axes.collections]
        called = [rows["score"] > threshold for threshold in (150, 200)]
        assert points == [pytest.approx((each[~faulty].mean(), each[faulty].mean())) for each in called]
    drawn(histogram, tmp_path / "scores.png")
    drawn(roc, tmp_path / "roc.png")


def test_a_machine_without_labelled_recordings_has_no_empty_panel() -> None:
    table = scores(3)
    unknown = table["machine"] == "machine1"
    normal_only = (table["machine"] == "machine2") & (table["label"] == "anomaly")
    table = table.assign(label=table["label"].mask(unknown, "unknown"))[~normal_only]
    assert [axes.get_title() for axes in score_plot(table, "Scores").axes] == ["machine0", "machine2"]
    assert [axes.get_title() for axes in roc_plot({"ml": table}, "ROC").axes] == ["machine0"]


def test_the_training_figure_has_every_epoch(tmp_path: Path) -> None:
    figure = training_plot(HISTORY)
    loss = figure.axes[0].get_lines()[0]
    assert loss.get_xydata().tolist() == [[row["epoch"], row["loss"]] for row in HISTORY]
    drawn(figure, tmp_path / "training.png")


@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
def test_epochs_are_counted_in_whole_numbers(epochs: int) -> None:
    figure = training_plot(HISTORY[:epochs])
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        ticks = axes.get_xticks()
        assert len(ticks) > 0 and (ticks == np.round(ticks)).all()


ODD_NAMES = ["a$x_$b^", "泵", "泵2", "pump [old]"]


def test_names_are_drawn_as_they_are_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = scores(len(ODD_NAMES))
    table["machine"] = table["machine"].map(dict(zip(sorted(set(table["machine"])), ODD_NAMES, strict=True)))
    systems = dict.fromkeys(ODD_NAMES, table)
    last: dict[str, str | float] = {"machine": "All", "metric": "harmonic mean"}
    for name in ODD_NAMES:
        last |= {name: 60.0, f"{name} low": 55.0, f"{name} high": 65.0}
    shown = sorted(["a$x_$b^", r"\u6cf5", r"\u6cf52", "pump [old]"])  # The font has no Chinese.
    title = "Scores of a$x_$b^ 泵"
    means = harmonic_mean_plot(pd.DataFrame([last]), title)
    assert sorted(label.get_text() for label in means.axes[0].get_yticklabels()) == shown
    boxes, roc = distribution_plot(systems, title), roc_plot(systems, title)
    assert sorted(axes.get_title() for axes in boxes.axes[:4]) == shown
    assert sorted(axes.get_ylabel() for axes in boxes.axes[::4]) == shown
    assert sorted(text.get_text() for text in roc.legends[0].get_texts()) == shown
    of_one = score_plot(table, title)
    assert sorted(axes.get_title() for axes in of_one.axes) == shown
    for figure in (means, boxes, roc, of_one):
        assert figure.get_suptitle() == r"Scores of a$x_$b^ \u6cf5"
        drawn(figure, tmp_path / "odd.png")
    assert not caplog.records


def test_four_hundred_machines_fit_in_the_largest_picture() -> None:
    one = scores(1).head(1)
    table = pd.concat([one.assign(machine=f"m{index:03d}") for index in range(400)])
    figure = distribution_plot({"ml": table}, "Scores")
    assert len(figure.axes) == 400
    assert max(figure.get_size_inches()) * 160 < 65_535


def test_a_training_of_one_epoch_can_be_drawn(tmp_path: Path) -> None:
    drawn(training_plot(HISTORY[:1]), tmp_path / "training.png")


def test_fused_scores_of_any_sign_are_all_in_the_histogram(tmp_path: Path) -> None:
    table = scores(1)
    table["score"] = np.log(table["score"]) - 5
    assert (table["score"] < 0).any() and (table["score"] > 0).any()
    figure = score_plot(table, "Scores")
    assert sum(patch.get_height() for patch in figure.axes[0].patches) == 200
    drawn(figure, tmp_path / "scores.png")


@pytest.mark.parametrize(
    "kept",
    ["domain == 'source'", "domain == 'target'", "label == 'normal'", "label == 'anomaly'", "label == 'unheard of'"],
)
def test_what_the_test_recordings_lack_is_left_out_of_the_figures(kept: str, tmp_path: Path) -> None:
    one = scores(2)
    # The second machine has only what is kept, so that a panel may be empty.
    some = pd.concat([one[one["machine"] == "machine0"], one[one["machine"] == "machine1"].query(kept)])
    some = pd.concat([some, one.tail(1).assign(label="unknown")])
    drawn(score_plot(some, "Scores"), tmp_path / "scores.png")
    drawn(roc_plot({"ml-z": some}, "ROC"), tmp_path / "roc.png")


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0, 5.0], [np.nan, 3.0], [-1.0, 4.0], [1e-30, 1e30]])
def test_odd_scores_can_be_drawn(values: list[float], tmp_path: Path) -> None:
    table = pd.DataFrame({"machine": "fan", "domain": "source", "label": ["normal", "anomaly"], "score": values})
    drawn(score_plot(table, "Scores"), tmp_path / "scores.png")


def test_figures_need_no_display(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom asdcore.plots.evaluation import training_plot\n"
        f"training_plot({HISTORY!r}).savefig(sys.argv[1])\nassert 'matplotlib.pyplot' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "training.png")]
    done = subprocess.run(command, env={"MPLBACKEND": "TkAgg"}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "training.png").stat().st_size > 1000


def nothing_is_cut(figure: Figure) -> bool:
    """Whether titles and labels lie within the picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn_inches, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    return drawn_inches.x0 >= 0 and drawn_inches.y0 >= 0 and drawn_inches.x1 <= width and drawn_inches.y1 <= height


SYSTEMS = ["paper-ml", "paper-elliptic", "baseline-mse", "baseline-mahalanobis", "spectrum-deviation-nearest"]


@pytest.mark.parametrize("systems", [1, 5])
def test_every_system_has_its_harmonic_mean_and_interval(systems: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    last: dict[str, str | float] = {"machine": "All", "metric": "harmonic mean"}
    for system in SYSTEMS[:systems]:
        value = rng.uniform(50, 70)
        last |= {system: value, f"{system} low": value - 2, f"{system} high": value + 3}
    last |= {"published ML": 62.41, "published ML low": np.nan, "published ML high": np.nan}
    figure = harmonic_mean_plot(pd.DataFrame([last]), "Systems side by side (simulated machines)")
    (axes,) = figure.axes
    names = [*SYSTEMS[:systems], "published ML"]
    assert [label.get_text() for label in axes.get_yticklabels()][::-1] == names
    lines = [line.get_xydata().tolist() for line in axes.get_lines()[1:]]
    for row, name in enumerate(names[::-1]):
        assert [[last[name], row]] in lines
        assert ([[last[f"{name} low"], row], [last[f"{name} high"], row]] in lines) == (name != "published ML")
    assert nothing_is_cut(figure)
    drawn(figure, tmp_path / "means.png")


def test_a_system_without_a_harmonic_mean_has_an_empty_line(tmp_path: Path) -> None:
    row = {"machine": "All", "metric": "harmonic mean", "ml": np.nan, "ml low": np.nan, "ml high": np.nan}
    figure = harmonic_mean_plot(pd.DataFrame([row]), "Systems")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ml"]
    assert not figure.axes[0].texts
    drawn(figure, tmp_path / "means.png")


@pytest.mark.parametrize("systems", [1, 5])
@pytest.mark.parametrize("machines", [1, 7])
def test_every_machine_and_system_has_a_box_of_each_domain_and_label(machines: int, systems: int) -> None:
    tables = {name: scores(machines, seed) for seed, name in enumerate(SYSTEMS[:systems])}
    figure = distribution_plot(tables, "Scores by machine, domain and label (simulated machines)")
    assert len(figure.axes) == machines * systems
    for index, axes in enumerate(figure.axes):
        system, machine = list(tables)[index // machines], f"machine{index % machines}"
        own = tables[system][tables[system]["machine"] == machine]
        medians = [line.get_ydata()[0] for line in axes.get_lines() if len(set(line.get_ydata())) == 1]
        for _, group in own.groupby(["domain", "label"]):
            assert np.isclose(medians, group["score"].median()).any()
        assert len(axes.patches) == 4 and axes.get_yscale() == "log"
    assert [axes.get_title() for axes in figure.axes[:machines]] == [f"machine{m}" for m in range(machines)]
    assert [axes.get_ylabel() for axes in figure.axes[::machines]] == SYSTEMS[:systems]
    assert nothing_is_cut(figure)


@pytest.mark.parametrize("kept", ["domain == 'source'", "label == 'normal'", "label == 'unheard of'"])
def test_missing_domains_labels_and_machines_leave_their_place_empty(kept: str, tmp_path: Path) -> None:
    one = scores(2)
    some = pd.concat([one[one["machine"] == "machine0"], one[one["machine"] == "machine1"].query(kept)])
    figure = distribution_plot({"fewer": some[some["machine"] == "machine0"], "all": some, "both": one}, "Scores")
    assert len(figure.axes) == 6
    drawn(figure, tmp_path / "distributions.png")


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0, 5.0], [np.nan, 3.0], [np.inf, 3.0], [-1.0, 4.0], [1e-30, 1e30]])
def test_odd_scores_have_boxes_too(values: list[float], tmp_path: Path) -> None:
    table = pd.DataFrame({"machine": "fan", "domain": "source", "label": ["normal", "anomaly"], "score": values})
    figure = distribution_plot({"ml-z": table}, "Scores")
    # A logarithmic axis would hide what is not above zero.
    assert (figure.axes[0].get_yscale() == "log") == (min(values) > 0 or bool(np.isnan(values[0])))
    drawn(figure, tmp_path / "distributions.png")
