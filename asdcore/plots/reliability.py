"""The figure of a reliability report: what was heard against what Gaussian vectors would give."""

from matplotlib.figure import Figure

from asdcore.monitoring.reliability import theory
from asdcore.normality.machine import SCORERS, MachineModel
from asdcore.plots.evaluation import ANOMALY, SOURCE, drawable


def qq_plot(machine: MachineModel, name: str) -> Figure:
    """Leave-one-out distances of the training recordings against the theory, a panel an scorer, equal on the line.

    Points that leave the line upwards at its end are normal recordings farther out than a Gaussian would throw them: a
    threshold from theory would alarm for them, one from ranks, as here, does not.

    Args:
        machine: fitted.
        name: of the machine, for the title.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    figure.suptitle(drawable(f"{name}: leave-one-out distances of {machine.models['embedding'].report_.n} recordings"))
    for scorer, axes in zip(SCORERS, figure.subplots(1, len(SCORERS)), strict=True):
        model = machine.models[scorer]
        axes.set(title=f"{scorer} ({model.report_.used})", ylabel="squared distance")
        expected = theory(model)
        if expected is None:
            axes.text(0.5, 0.5, "no theory for nearest neighbours", ha="center", transform=axes.transAxes)
            continue
        x, y, distribution = expected
        largest = max(x[-1], y[-1])
        axes.plot([0, largest], [0, largest], color="grey", linewidth=0.8)
        axes.plot(x, y, ".", color=SOURCE, markersize=4)
        axes.set_xlabel(distribution)
        lost = len(model.leave_one_out_) - len(y)
        if lost:
            axes.text(0.05, 0.92, f"{lost} infinite, not shown", color=ANOMALY, transform=axes.transAxes)
    return figure
