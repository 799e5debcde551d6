"""The ladder of faults as curves."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from asdcore.plots.colours import line_style
from asdcore.plots.evaluation import drawable


def ladder_plot(table: pd.DataFrame, machine: str) -> Figure:
    """AUC over the strength of a fault, a panel for each fault and a line for each system; dotted: chance.

    Args:
        table: of `asdcore.evaluation.ladder.fault_ladder`.
        machine: the simulated machine, for the title.
    """
    faults, systems, strengths = (table[column].unique() for column in ("fault", "system", "strength"))
    figure = Figure(figsize=(max(3.2 * len(faults), 5.0), 3.6), layout="constrained")
    figure.suptitle(drawable(f"{machine}, simulated: faults told from normal"))
    panels = figure.subplots(1, len(faults), squeeze=False, sharey=True)[0]
    for fault, axes in zip(faults, panels, strict=True):
        for index, system in enumerate(systems):
            own = table[(table["fault"] == fault) & (table["system"] == system)].sort_values("strength")
            colour, dashes, marker = line_style(index)
            axes.plot(own["strength"], own["auc"], color=colour, linestyle=dashes, marker=marker, ms=4,
                      label=drawable(system))  # fmt: skip
        axes.axhline(0.5, color="grey", linestyle=":", linewidth=0.8)
        if strengths.min() > 0:
            axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(strengths.tolist()))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(
            title=drawable(fault), xlabel="strength of the fault", ylim=(min(0.4, table["auc"].min() - 0.03), 1.03)
        )
    panels[0].set_ylabel("AUC")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(systems), 4), frameon=False)
    return figure
