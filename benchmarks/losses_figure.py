"""The figure of docs/evidence/losses.md."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

OWN, FUSED, OTHER = "#1f77b4", "#d62728", "0.35"
NAMES = {
    "nt_xent": "NT-Xent, the paper's",
    "supervised_contrastive": "supervised contrastive",
    "discriminative": "discriminative",
    "combined": "combined",
    "untrained": "untrained",
}
STATISTIC = "spectrum-deviation"
OTHERS = {"spectrum": "spectrum (mean)", STATISTIC: STATISTIC, "autoencoder": "official baseline"}


def draw(results: dict[str, Any], path: Path) -> None:
    """AUC of every loss_name, seen and first-shot, alone and fused with the spectrum, with intervals."""
    model = results["default"].split(" / ")[2].split(" + ")[0]
    groups = [group for group in ("simulated", "real") if f"{group} auc" in results["systems"][0]]
    plan = [(group, setting) for group in groups for setting in ("seen", "first-shot")]
    figure = Figure(figsize=(11, 3.2 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), 2, squeeze=False, sharey=True, sharex="row").flatten()
    for ax, (group, setting) in zip(axes, plan, strict=True):
        _draw(ax, results["systems"], group, setting, model)
        ax.set_title(f"{group} machines, {'encoder trained on them' if setting == 'seen' else 'first-shot'}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.supxlabel("AUC, mean over machines and kinds of faults, 95 % interval", fontsize=9)
    figure.savefig(path, dpi=100)


def _draw(ax: Axes, systems: list[dict[str, Any]], group: str, setting: str, model: str) -> None:
    rows = [row for row in systems if row["setting"] == setting]
    looks = [("h", "", OWN, "o", 0.24), ("z", "", OWN, "x", 0.08), ("h", STATISTIC, FUSED, "o", -0.08)]
    looks.append(("z", STATISTIC, FUSED, "x", -0.24))
    for layer, fused, colour, marker, up in looks:
        selected = [
            row
            for row in rows
            if row["loss"] in NAMES and (row["layer"], row["model"], row["fused"]) == (layer, model, fused)
        ]
        x = [row[f"{group} auc"] for row in selected]
        errors = [[row[f"{group} auc"] - row[f"{group} low"] for row in selected]]
        errors.append([row[f"{group} high"] - row[f"{group} auc"] for row in selected])
        y = [-list(NAMES).index(row["loss"]) + up for row in selected]
        label = f"{layer}, fused with {fused}" if fused else layer
        ax.errorbar(x, y, xerr=[[max(0.0, e) for e in side] for side in errors], fmt=marker, color=colour, label=label)
    for loss_name, style in (("spectrum", "--"), (STATISTIC, "-"), ("autoencoder", ":")):
        of_model = "mse" if loss_name == "autoencoder" else model
        (row,) = (row for row in rows if (row["loss"], row["model"]) == (loss_name, of_model))
        ax.axvline(row[f"{group} auc"], color=OTHER, linestyle=style, label=OTHERS[loss_name])
    ax.set_yticks([-i for i in range(len(NAMES))], list(NAMES.values()))
    ax.grid(axis="x", alpha=0.3)
