"""Training (paper 2.1 and 2.3) with any loss function; an interrupted one resumes at any step."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from asdcore.encoder.checkpoint import Checkpoints
from asdcore.encoder.distributed import World
from asdcore.encoder.interruption import Interruption
from asdcore.encoder.labels import Labelling
from asdcore.encoder.network import TrainedEncoder, choose_device
from asdcore.encoder.precision import arithmetic, cast, precision_of
from asdcore.encoder.reporting import SECONDS, Progress, Shown
from asdcore.encoder.schedule import learning_rate
from asdcore.encoder.state import State
from asdcore.encoder.step import backward
from asdcore.encoder.validation import held_out, validation_metrics
from asdcore.errors import AsdError
from asdcore.features.batches import batches
from asdcore.features.normalisation import Normalisation
from asdcore.features.preload import preload
from asdcore.features.spectrogram import Spectrogram
from asdcore.features.store import Store
from asdcore.progress import say
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
        recordings: columns ``recording``, ``machine``, ``attributes`` (JSON) and ``session``, as in the catalog; their
            order does not matter.
        settings: see `TrainingSettings`.
        checkpoints: folder to resume from if it holds one; written to regularly, and when Ctrl-C or SIGTERM ends the
            training. A training that is interrupted at any step and resumed ends with the same weights as an
            uninterrupted one, bit for bit on the same CPU and number of threads.
        on_epoch: called with the metrics at the end of each epoch.
        on_progress: called with the progress, at most once every ``progress_seconds``.
        on_warning: called with a message for each unusable checkpoint.
        progress_seconds: minimum interval of ``on_progress``.
        warm_start: file of an encoder to start from, instead of random weights.

    Raises:
        AsdError: fewer than two recordings, a spectrogram, loss or gradient that is not finite, a checkpoint of
            another training, or settings that do not fit device, batch or warm start.
    """
    labelling = Labelling(recordings)
    validating = held_out(labelling, settings.validation_fraction, settings.seed)
    digests = sorted(labelling.of.keys() - set(validating))
    if len(digests) < 2:
        raise AsdError(f"{len(digests)} training recordings: training needs at least 2, and preferably hundreds")
    world, device = World.here(), choose_device(settings.device)
    precision = precision_of(settings, device)
    normalisation = Normalisation.fit(_finite_originals(store, digests))
    # Several processes of one machine share its memory, so none of them preloads.
    preloaded = preload(store, digests, device) if world.size == 1 else store
    batch_size = world.divisible(min(settings.batch_size, len(digests)))
    steps = len(digests) // batch_size
    state = State(settings, labelling, device, world)
    if warm_start:
        state.warm_start(warm_start)
    saved_checkpoints = Checkpoints(checkpoints, state.fingerprint, on_warning)
    for _ in world.one_by_one():
        if content := saved_checkpoints.load(device):
            state.restore(content)

    with arithmetic(settings), Shown(on_progress, progress_seconds) as shown, Interruption() as interruption:
        while state.epoch < settings.epochs and not world.any(state.stopped_early, device):
            state.model.train()
            state.loss_function.train()
            for batch in batches(
                preloaded,
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
                    state.loss_function,
                    x,
                    labels,
                    world=world,
                    micro_batch=settings.micro_batch,
                    cast=partial(cast, precision, device),
                )
                norm = torch.nn.utils.get_total_norm([p.grad for p in state.weights if p.grad is not None])
                state.optimiser.step()
                state.metrics.add(loss, norm, h, z, labels, state.loss_function, batch.recordings)
                state.step += 1
                shown.step(batch_size, state.progress(steps))
                stopped = world.any(interruption.signal is not None, device)
                if world.rank == 0 and (stopped or saved_checkpoints.due()):
                    saved_checkpoints.save(state.content(), state.epoch * steps + state.step)
                if stopped:
                    world.wait()
                    interruption.act()
                    raise KeyboardInterrupt  # Another process received the signal, or its handler did nothing.
            on_epoch(state.end_epoch(validation_metrics(state, store, validating, labelling, normalisation)))
        if world.rank == 0:
            saved_checkpoints.save(state.content(), state.epoch * steps)
    return state.trained(normalisation)


def _finite_originals(store: Store, recordings: Sequence[str]) -> Iterator[Spectrogram]:
    """Check each recording, since one non-finite value would invalidate the normalisation without naming its source."""
    for recording in recordings:
        values = store.read(recording, "original")
        if not np.isfinite(values).all():
            raise AsdError(
                f"the spectrogram of recording {recording} contains NaN or infinity; compute the features again"
            )
        yield values
