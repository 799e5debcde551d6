"""Names in the Markdown that Prefect and MLflow render: a folder may have any name."""

import re

from asdcore.terminal import visible

_MEANT = re.compile(r"([\\`*_\[\]|~#<>!])")


def word(name: str) -> str:
    r"""A name as plain text: nothing in it becomes a link, an image, a tag or the end of a cell.

    >>> print(word("fan_1 | <b>[x](y)"))
    fan\_1 \| \<b\>\[x\](y)
    """
    return _MEANT.sub(r"\\\1", visible(" ".join(name.split())))


def code(text: str) -> str:
    """A path or a command as code: between more backticks than it has in a row.

    >>> print(code("a`b.wav"), code("a.wav"))
    `` a`b.wav `` `a.wav`
    """
    text = visible(text.replace("\n", r"\n"))
    most = max((len(run) for run in re.findall("`+", text)), default=0)
    return f"{'`' * (most + 1)} {text} {'`' * (most + 1)}" if most else f"`{text}`"
