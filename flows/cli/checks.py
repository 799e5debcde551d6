"""What a command refuses before it starts a server: encoders that cannot be read or trained, and unknown systems."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from flows.cli.console import out

if TYPE_CHECKING:
    from asdcore.settings import Settings, TrainingSettings
    from asdcore.storage.home import Home


def check_encoder(training: "TrainingSettings") -> None:
    """Refuse a frozen encoder whose source cannot be read. Only its files are looked at.

    Raises:
        typer.BadParameter: with the reason and the remedy.
    """
    from asdcore.settings import BASE, TWO_BRANCH

    trained_by_benchmark = training.encoder in TWO_BRANCH and training.source is None
    with _wrong_usage("training.encoder, training.source"):
        if training.trains or training.encoder == BASE or trained_by_benchmark:
            return
        from asdcore.encoder.frozen import check_source

        check_source(training.encoder, training.source)


def check_trained(training: "TrainingSettings") -> None:
    """Refuse an encoder of which nothing is trained.

    Raises:
        typer.BadParameter: with the remedy.
    """
    from asdcore.encoder.network import require_trained

    with _wrong_usage("training.encoder"):
        require_trained(training)


def check_systems(names: list[str], settings: "Settings") -> None:
    """Refuse unknown systems, and those of frozen encoders whose source cannot be read.

    Raises:
        typer.BadParameter: with the names that there are, or the remedy.
    """
    from asdcore.evaluation.systems import AutoencoderSystem, single_systems, systems_named

    with _wrong_usage("--systems"):
        chosen = systems_named(names, settings.normality)
    for system in single_systems([one for one in chosen if not isinstance(one, AutoencoderSystem)]):
        if system.needs_encoder:
            check_encoder(system.training(settings.training))


def check_registered(home: "Home", model: str) -> None:
    """Refuse a registered detector whose encoder is frozen and can no longer be read.

    Raises:
        AsdError: there is no such detector, or its encoder's source is gone.
    """
    from asdcore.encoder.frozen import check_saved
    from tasks.registered import registered_folder

    with home.synchronised(out.print), registered_folder(home, model) as (folder, _):
        check_saved(folder / "encoder.safetensors")


@contextmanager
def _wrong_usage(hint: str) -> Iterator[None]:
    from asdcore.errors import AsdError

    try:
        yield
    except AsdError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from error
