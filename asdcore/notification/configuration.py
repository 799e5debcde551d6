"""The file ``notify.yaml``: which channels there are, and what each of them sends when."""

import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from asdcore.errors import AsdError
from asdcore.monitoring.incidents import Kind
from asdcore.notification.mail import Mail, Security
from asdcore.notification.message import Channel
from asdcore.notification.mqtt import Mqtt
from asdcore.notification.outbox import Subscription
from asdcore.notification.quiet_hours import QuietHours
from asdcore.notification.webhook import Webhook
from asdcore.storage.home import Home

ELSEWHERE = "ASD_NOTIFY"
"""environment variable: the file, if it is not in the home"""
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_NAME = re.compile(r"[\w-]{1,50}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    makes: ClassVar[Callable[..., Channel]]
    quiet_hours: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    ca: Path | None = None

    def channel(self) -> Channel:
        """The channel that it describes."""
        return type(self).makes(**self.model_dump(exclude={"type", "quiet_hours", "kinds"}))


class WebhookSection(_Section):
    """Fields of `Webhook`."""

    makes = Webhook
    type: Literal["webhook"]
    url: str = Field(pattern="^https?://[^/]")
    key: str = ""
    headers: dict[str, str] = {}


class MailSection(_Section):
    """Fields of `Mail`."""

    makes = Mail
    type: Literal["mail"]
    host: str = Field(min_length=1)
    sender: str = Field(pattern="@")
    to: tuple[Annotated[str, Field(pattern="@")], ...] = Field(min_length=1)
    port: int | None = Field(None, ge=1, le=65535)
    security: Security = "starttls"
    user: str = ""
    password: str = ""


class MqttSection(_Section):
    """Fields of `Mqtt`."""

    makes = Mqtt
    type: Literal["mqtt"]
    host: str = Field(min_length=1)
    port: int | None = Field(None, ge=1, le=65535)
    topic: str = "asd"
    tls: bool = False
    user: str = ""
    password: str = ""


Section = Annotated[WebhookSection | MailSection | MqttSection, Field(discriminator="type")]
SECRET = ("key", "password", "headers")
"""fields that must come from the environment"""


def configuration_file(home: Home) -> Path:
    """The file that says where messages go: that of ``ASD_NOTIFY``, or ``notify.yaml`` in the home."""
    named = os.environ.get(ELSEWHERE)
    return Path(named).expanduser() if named else home.root / "notify.yaml"


def subscriptions(file: Path) -> tuple[dict[str, Subscription], datetime]:
    """The channels of a file, by name, and when it was last changed.

    ``${NAME}`` in a value is the environment variable of that name. Secrets must be given this way.

    Raises:
        AsdError: a file that cannot be read, an unknown or missing field, a variable that is not set, a secret in the
            file. No message contains a value.
    """
    try:
        changed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise AsdError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)  # The text of the error would show the line.
        raise AsdError(f"{file}: not YAML{f', line {mark.line + 1}' if mark else ''}") from None
    if content is None:
        return {}, changed
    if not isinstance(content, Mapping):
        raise AsdError(f"{file}: needs a name for each channel, and its fields below it")
    return {str(name): _subscription(file, str(name), fields) for name, fields in content.items()}, changed


def _subscription(file: Path, name: str, fields: Any) -> Subscription:
    if not _NAME.fullmatch(name):
        raise AsdError(f"{file}: a channel's name has letters, digits, - and _; not {name!r}")
    if not isinstance(fields, Mapping):
        raise AsdError(f"{file}: {name}: needs fields below it, such as type: webhook")
    for field in SECRET:
        value = fields.get(field)
        values = value.values() if isinstance(value, Mapping) else [value]
        if any(text and not _VARIABLE.search(str(text)) for text in values):
            raise AsdError(
                f"{file}: {name}: {field}: a secret does not belong in this file; put it into an environment "
                f"variable, and write ${{ITS_NAME}} here"
            )
    try:
        section: Section = TypeAdapter[Section](Section).validate_python(_expanded(file, name, dict(fields)))
        return Subscription(section.channel(), QuietHours(section.quiet_hours), section.kinds)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("webhook", "mail", "mqtt"))
        raise AsdError(f"{file}: {name}: {where or 'type'}: {first['msg']}") from None
    except AsdError as error:
        raise AsdError(f"{file}: {name}: {error}") from None
    except RecursionError:
        raise AsdError(f"{file}: {name}: its fields refer to themselves") from None


def _expanded(file: Path, name: str, value: Any) -> Any:
    """With the values of environment variables instead of their names."""
    if isinstance(value, Mapping):
        return {key: _expanded(file, name, one) for key, one in value.items()}
    if isinstance(value, list):
        return [_expanded(file, name, one) for one in value]
    if not isinstance(value, str):
        return value

    def of(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found:
            raise AsdError(f"the environment variable {match[1]} is not set")
        return found

    return _VARIABLE.sub(of, value)
