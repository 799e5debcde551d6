"""From ``--preset``, ``--settings`` and ``--set`` to the settings of a run."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import typer

from flows.cli.options import PresetOption, SetOption, SettingsOption

if TYPE_CHECKING:
    from asdcore.settings import Settings

P = ParamSpec("P")


def with_settings(command: "Callable[Concatenate[Settings, P], None]") -> Callable[..., None]:
    """Give a command the options ``--preset``, ``--settings`` and ``--set``, and as its first argument the settings
    that they make.

    They come before the last option, which is ``--home``.
    """

    @wraps(command)
    def run(
        preset: str, settings_file: Path | None, change: list[str] | None, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        command(settings_of(preset, change, settings_file), *args, **kwargs)

    options = [
        Parameter("preset", Parameter.POSITIONAL_OR_KEYWORD, default="default", annotation=PresetOption),
        Parameter("settings_file", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=SettingsOption),
        Parameter("change", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=SetOption),
    ]
    _, *others, home = signature(command).parameters.values()
    # Typer reads the options of a command from its signature.
    run.__signature__ = Signature([*others, *options, home])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*others, *options, home)}
    return run


def settings_of(preset: str, changes: list[str] | None, file: Path | None = None) -> "Settings":
    """The settings of a preset with some of them changed.

    Args:
        preset: name of the preset.
        changes: ``stage.name=value`` each; they override the file.
        file: a YAML file of settings, see `asdcore.settings_file.read_settings`; it overrides the preset.

    Raises:
        typer.BadParameter: an unknown preset or setting, or a value that the setting refuses.
    """
    from asdcore.errors import AsdError
    from asdcore.settings import PRESETS, Settings
    from asdcore.settings_file import changed, read_settings

    if preset not in PRESETS:
        raise typer.BadParameter(f"{preset!r} is none of {', '.join(PRESETS)}", param_hint="--preset")
    values: dict[str, Any] = {}
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise typer.BadParameter(
                f"{change!r} has no value: write stage.name=value, for example training.epochs=80", param_hint="--set"
            )
        values[name] = value
    settings, hint = Settings.preset(preset), "--settings"
    try:
        settings = read_settings(file, settings) if file else settings
        hint = "--set"
        return changed(settings, values)
    except AsdError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from error
