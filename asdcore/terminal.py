"""Show texts that may contain the name of a file on a terminal or in a log."""

import re
from typing import Any

from rich.console import Console
from rich.text import Text

_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal interprets instead of showing, among them those that change the direction of writing, and
surrogates, which UTF-8 does not have. Not tabs and line breaks, which messages contain themselves."""


def visible(text: str) -> str:
    r"""The text with an escape for each character that a terminal or a log viewer would interpret instead of showing.

    The name of a file may contain any of them.

    >>> print(visible("pump\x1b[2J.wav"))
    pump\x1b[2J.wav
    """
    return _ACTS.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


class Terminal(Console):
    """Rich's console, which prints every text `visible`."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string, including one in a cell of a table."""
        return super().render_str(visible(text), **options)
