"""The plot of a reliability report: observed distances against those expected of Gaussian vectors."""

from matplotlib.figure import Figure

from asdcore.monitoring.reliability import theory
from asdcore.normality.machine import MachineModel
from asdcore.plots.colours import ANOMALY, SOURCE
from asdcore.plots.evaluation import drawable


def qq_plot(machine: MachineModel, name: str) -> Figure:
    """Left-out distances of the training recordings against the theory, one panel per scorer, equal on the diagonal.

    Points that leave the line upwards at its end are normal recordings farther out than a Gaussian would throw them: a
    threshold from theory would alarm for them, one from ranks, as here, does not.

    Args:
        machine: fitted.
        name: of the machine, for the title.
    """
    models = machine.models
    figure = Figure(figsize=(4.5 * max(len(models), 2), 4.2), layout="constrained")
    n = next(iter(models.values())).report_.n
    figure.suptitle(drawable(f"{name}: left-out distances of {n} recordings"))
    panels = figure.subplots(1, len(models), squeeze=False)[0]
    for (scorer, model), axes in zip(models.items(), panels, strict=True):
        axes.set(title=drawable(f"{scorer} ({model.report_.used})"), ylabel="distance")
        expected = theory(model)
        if expected is None or model.left_out_ is None:
            axes.text(0.5, 0.5, "no theory: not a Gaussian model", ha="center", transform=axes.transAxes)
            continue
        x, y, distribution = expected
        largest = max(x[-1], y[-1])
        axes.plot([0, largest], [0, largest], color="grey", linewidth=0.8)
        axes.plot(x, y, ".", color=SOURCE, markersize=4)
        axes.set_xlabel(distribution)
        lost = len(model.left_out_) - len(y)
        if lost:
            axes.text(0.05, 0.92, f"{lost} infinite, not shown", color=ANOMALY, transform=axes.transAxes)
    return figure
