"""Training (paper 2.1 and 2.3) for any objective, and going on where one was stopped or killed, at any step."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from asdcore.errors import AsdError
from asdcore.features.normalisation import Normalisation
from asdcore.features.spectrogram import Spectrogram
from asdcore.features.store import Store
from asdcore.features.views import batches
from asdcore.progress import bar, say
from asdcore.representation.checkpoint import Checkpoints
from asdcore.representation.encoder import TrainedEncoder, choose_device
from asdcore.representation.interruption import Interruption
from asdcore.representation.labels import Labelling
from asdcore.representation.schedule import learning_rate
from asdcore.representation.state import State
from asdcore.settings import TrainingSettings


def train(
    store: Store,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    checkpoints: Path,
    on_epoch: Callable[[dict[str, float]], None] = lambda _: None,
    on_warning: Callable[[str], None] = say,
) -> TrainedEncoder:
    """Train an encoder on the spectrograms of normal training recordings of all machines together.

    Args:
        store: has an ``original`` and the six variants of each recording.
        recordings: columns ``recording`` (digest), ``machine`` and ``attributes`` (JSON text), as in the catalog; their
            order does not matter.
        settings: see `TrainingSettings`.
        checkpoints: folder that is gone on from if one is there, and written to now and then and when Ctrl-C or SIGTERM
            ends the training. One that was stopped or killed at any step and is called again ends with the weights that
            it would have had, bit for bit on the same CPU and number of threads.
        on_epoch: gets the figures of each epoch that ends now.
        on_warning: gets a sentence for each checkpoint that can not be used.

    Raises:
        AsdError: fewer than two recordings, a spectrogram, loss or gradient that is not finite, or a checkpoint of
            another training.
    """
    labelling = Labelling(recordings)
    digests = sorted(labelling.of)
    if len(digests) < 2:
        raise AsdError(f"{len(digests)} training recordings: training needs at least 2, and wants hundreds")
    device = choose_device(settings.device)
    normalisation = Normalisation.fit(_finite_originals(store, digests))
    batch_size = min(settings.batch_size, len(digests))
    steps = len(digests) // batch_size
    state = State(settings, labelling, device)
    kept = Checkpoints(checkpoints, state.made_of, on_warning)
    if content := kept.load(device):
        state.restore(content)

    before = time.monotonic()
    with Interruption() as interruption, bar(settings.epochs * steps, state.epoch * steps + state.step) as show:
        while state.epoch < settings.epochs:
            state.encoder.train()
            state.objective.train()
            for batch in batches(
                store,
                digests,
                normalisation,
                batch_size=batch_size,
                crop_frames=settings.crop_frames,
                seed=settings.seed,
                epoch=state.epoch,
                start=state.step,
            ):
                state.rate = learning_rate(state.epoch * steps + state.step, steps, settings)
                views = torch.from_numpy(batch.original), torch.from_numpy(batch.variant)
                x = torch.cat(views).to(device, memory_format=torch.channels_last)
                labels = labelling.labels(batch.recordings, batch.variants).to(device)
                h, z = state.encoder(x)
                loss = state.objective(h, z, labels)
                state.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                norm = torch.nn.utils.get_total_norm([p.grad for p in state.weights if p.grad is not None])
                state.optimiser.step()
                state.figures.add(loss, norm, h, z, labels, state.objective, batch.recordings)
                state.step += 1
                done = state.epoch * steps + state.step
                now = time.monotonic()
                show(done, _said(state, batch_size / (now - before)))
                before = now
                if interruption.signal or kept.due():
                    kept.save(state.content(), done)
                if interruption.signal:
                    interruption.act()
            on_epoch(state.end_epoch())
        kept.save(state.content(), settings.epochs * steps)
    return TrainedEncoder(state.encoder.cpu().eval(), normalisation, state.history)


def _said(state: State, speed: float) -> str:
    """What the progress bar says."""
    epoch = f"epoch {state.epoch + 1} of {state.settings.epochs}"
    return f"{epoch}  loss {state.figures.loss:.3g}  rate {state.rate:.2g}  {speed:.0f} recordings/s"


def _finite_originals(store: Store, recordings: Sequence[str]) -> Iterator[Spectrogram]:
    """One value that is not finite would spoil the normalisation of all recordings, and none of them could be named."""
    for recording in recordings:
        values = store.read(recording, "original")
        if not np.isfinite(values).all():
            raise AsdError(f"the spectrogram of recording {recording} holds NaN or infinity; make the features anew")
        yield values
