"""Griffe extension: examples of docstrings (``>>> ...`` up to the next blank line) are shown as code, not as quotes."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^([ ]*)>>> .*(?:\n[ ]*\S.*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Fence every doctest, and leave out the directives that only the test runner reads."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None and ">>>" in obj.docstring.value:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(example: re.Match[str]) -> str:
    indent = example[1]
    lines = re.sub(r"[ ]*# doctest:.*", "", example[0])
    return f"{indent}```pycon\n{lines}\n{indent}```"
