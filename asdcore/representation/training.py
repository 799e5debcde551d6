"""Training (paper 2.1 and 2.3) for any objective, and going on where one was stopped or killed, at any step."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import distributed

from asdcore.errors import AsdError
from asdcore.features.held import hold
from asdcore.features.normalisation import Normalisation
from asdcore.features.spectrogram import Spectrogram
from asdcore.features.store import Store
from asdcore.features.views import batches
from asdcore.progress import say
from asdcore.representation.checkpoint import Checkpoints
from asdcore.representation.distributed import World
from asdcore.representation.encoder import TrainedEncoder, choose_device
from asdcore.representation.gradient import backward
from asdcore.representation.interruption import Interruption
from asdcore.representation.labels import Labelling
from asdcore.representation.launch import train_in_processes
from asdcore.representation.precision import arithmetic, cast, precision_of
from asdcore.representation.schedule import learning_rate
from asdcore.representation.shown import SECONDS, Progress, Shown
from asdcore.representation.state import State
from asdcore.representation.validation import held_out, validation_figures
from asdcore.settings import TrainingSettings


def train(
    store: Store,
    recordings: pd.DataFrame,
    settings: TrainingSettings,
    checkpoints: Path,
    on_epoch: Callable[[dict[str, float]], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_warning: Callable[[str], None] = say,
    progress_seconds: float = SECONDS,
    warm_start: Path | None = None,
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
        on_progress: gets how far it is, at most once in ``progress_seconds``.
        on_warning: gets a sentence for each checkpoint that can not be used.
        progress_seconds: see there.
        warm_start: file of an encoder whose weights it begins with, in place of random ones.

    Raises:
        AsdError: fewer than two recordings, a spectrogram, loss or gradient that is not finite, a checkpoint of
            another training, or settings that do not fit device, batch or warm start.
    """
    if settings.processes > 1 and not distributed.is_initialized():
        seen = (on_epoch, on_progress, on_warning, progress_seconds, warm_start)
        return train_in_processes(store, recordings, settings, checkpoints, *seen)
    labelling = Labelling(recordings)
    validating = held_out(labelling, settings.validation_share, settings.seed)
    digests = sorted(labelling.of.keys() - set(validating))
    if len(digests) < 2:
        raise AsdError(f"{len(digests)} training recordings: training needs at least 2, and wants hundreds")
    world, device = World.here(), choose_device(settings.device)
    precision = precision_of(settings, device)
    normalisation = Normalisation.fit(_finite_originals(store, digests))
    # Several processes of one machine share its memory: none of them takes it.
    held = hold(store, digests, device) if world.size == 1 else store
    batch_size = world.whole_shares(min(settings.batch_size, len(digests)))
    steps = len(digests) // batch_size
    state = State(settings, labelling, device, world)
    if warm_start:
        state.warm_start(warm_start)
    kept = Checkpoints(checkpoints, state.made_of, on_warning)
    for _ in world.one_by_one():
        if content := kept.load(device):
            state.restore(content)

    with arithmetic(settings), Shown(on_progress, progress_seconds) as shown, Interruption() as interruption:
        while state.epoch < settings.epochs and not world.any(state.stopped_early, device):
            state.model.train()
            state.objective.train()
            for batch in batches(
                held,
                digests,
                normalisation,
                batch_size=batch_size,
                crop_frames=settings.crop_frames,
                seed=settings.seed,
                epoch=state.epoch,
                start=state.step,
                part=(world.rank, world.size),
            ):
                state.rate = learning_rate(state.epoch * steps + state.step, steps, settings)
                x = batch.on(device).contiguous(memory_format=torch.channels_last)
                labels = labelling.labels(batch.recordings, batch.variants).to(device)
                state.optimiser.zero_grad(set_to_none=True)
                loss, h, z = backward(
                    state.model,
                    state.objective,
                    x,
                    labels,
                    world=world,
                    chunk=settings.chunk,
                    cast=partial(cast, precision, device),
                )
                norm = torch.nn.utils.get_total_norm([p.grad for p in state.weights if p.grad is not None])
                state.optimiser.step()
                state.figures.add(loss, norm, h, z, labels, state.objective, batch.recordings)
                state.step += 1
                shown.step(batch_size, state.progress(steps))
                stopped = world.any(interruption.signal is not None, device)
                if world.rank == 0 and (stopped or kept.due()):
                    kept.save(state.content(), state.epoch * steps + state.step)
                if stopped:
                    world.wait()
                    interruption.act()
                    raise KeyboardInterrupt  # Another process got the signal, or its handler did nothing.
            on_epoch(state.end_epoch(validation_figures(state, store, validating, labelling, normalisation)))
        if world.rank == 0:
            kept.save(state.content(), state.epoch * steps)
    return state.trained(normalisation)


def _finite_originals(store: Store, recordings: Sequence[str]) -> Iterator[Spectrogram]:
    """One value that is not finite would spoil the normalisation of all recordings, and none of them could be named."""
    for recording in recordings:
        values = store.read(recording, "original")
        if not np.isfinite(values).all():
            raise AsdError(f"the spectrogram of recording {recording} holds NaN or infinity; make the features anew")
        yield values
