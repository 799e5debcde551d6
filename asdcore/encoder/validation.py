"""Normal recordings that do not train: their loss tells when to stop."""

import numpy as np
import torch

from asdcore.encoder.labels import Labelling
from asdcore.encoder.metrics import effective_rank
from asdcore.encoder.state import State
from asdcore.errors import AsdError
from asdcore.features.batches import batches
from asdcore.features.normalisation import Normalisation
from asdcore.features.store import Store


def held_out(labelling: Labelling, share: float, seed: int) -> list[str]:
    """This share of the recordings of each machine, drawn with ``seed``; sorted.

    Raises:
        AsdError: that is a single recording.
    """
    rng = np.random.default_rng(seed)
    chosen: list[str] = []
    for machine in labelling.machines:
        own = sorted(recording for recording, (name, _) in labelling.of.items() if name == machine)
        chosen += rng.permutation(own)[: round(share * len(own))].tolist()
    if len(chosen) == 1 or (share and not chosen):
        raise AsdError(
            f"training.validation_fraction={share:g} of {len(labelling.of)} recordings leaves {len(chosen)}; raise it "
            "or set it to 0"
        )
    return sorted(chosen)


def validation_metrics(
    state: State, store: Store, recordings: list[str], labelling: Labelling, normalisation: Normalisation
) -> dict[str, float]:
    """Loss and effective ranks of ``recordings``, at each epoch of the same views; without any: none."""
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
