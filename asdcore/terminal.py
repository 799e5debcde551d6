"""Texts that may have the name of a file in them, where a terminal or a log shows them."""

import re
from typing import Any

from rich.console import Console
from rich.text import Text

_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal does not show but obeys, among them those that turn the direction of writing, and what
no UTF-8 has. Not tabs and line breaks, of which messages have their own."""


def visible(text: str) -> str:
    r"""The text with an escape for each character that a terminal, or a reader of a log, would obey instead of show.

    A name of a file may have any of them.

    >>> print(visible("pump\x1b[2J.wav"))
    pump\x1b[2J.wav
    """
    return _ACTS.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


class Terminal(Console):
    """Rich's console, which prints every text `visible`."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Of a string, also one in a cell of a table."""
        return super().render_str(visible(text), **options)
