"""Validation on held-out normal recordings, for early stopping."""

import numpy as np
import torch

from asdcore.encoder.labels import Labelling
from asdcore.encoder.metrics import effective_rank
from asdcore.encoder.state import State
from asdcore.errors import AsdError
from asdcore.features.batches import batches
from asdcore.features.normalisation import Normalisation
from asdcore.features.store import Store


def held_out(labelling: Labelling, fraction: float, seed: int) -> list[str]:
    """A random fraction of the recordings of each machine, whole sessions, drawn with ``seed``; sorted.

    Raises:
        AsdError: it is a single recording, or none although ``fraction`` is positive.
    """
    rng = np.random.default_rng(seed)
    chosen: list[str] = []
    for machine in labelling.machines:
        recordings = sorted(recording for recording, (name, _) in labelling.of.items() if name == machine)
        members: dict[str, list[str]] = {}
        for recording in recordings:
            members.setdefault(labelling.group_of[recording], []).append(recording)
        left = round(fraction * len(recordings))
        for group in rng.permutation(list(members)):
            if len(members[group]) <= left:
                chosen += members[group]
                left -= len(members[group])
    if len(chosen) == 1 or (fraction and not chosen):
        raise AsdError(
            f"training.validation_fraction={fraction:g} of {len(labelling.of)} recordings leaves {len(chosen)}; "
            "raise it or set it to 0"
        )
    return sorted(chosen)


def validation_metrics(
    state: State, store: Store, recordings: list[str], labelling: Labelling, normalisation: Normalisation
) -> dict[str, float]:
    """Loss and effective ranks of ``recordings``, from the same views in every epoch; empty without recordings."""
    if not recordings:
        return {}
    settings, losses, layers = state.settings, [], []
    state.encoder.eval()
    state.loss_function.eval()
    for batch in batches(
        store,
        recordings,
        normalisation,
        batch_size=settings.batch_size,
        crop_frames=settings.crop_frames,
        seed=settings.seed,
        epoch=settings.epochs,  # the first one that never trains
    ):
        x = torch.from_numpy(np.concatenate([batch.original, batch.variant]))
        labels = labelling.labels(batch.recordings, batch.variants).to(state.device)
        with torch.no_grad():
            h, z = state.encoder(x.to(state.device, memory_format=torch.channels_last))
            losses.append(float(state.loss_function(h, z, labels)))
        layers.append((h[: len(h) // 2].cpu(), z[: len(z) // 2].cpu()))
    ranks = [effective_rank(torch.cat(layer)) for layer in zip(*layers, strict=True)]
    names = ("validation_loss", "validation_effective_rank_h", "validation_effective_rank_z")
    return dict(zip(names, [float(np.mean(losses)), *ranks], strict=True))
