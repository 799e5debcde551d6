"""The HTML page that every report is: one file, which loads nothing and runs nothing.

A report is a template in ``templates`` that extends ``page.html``, and a function that gathers its values.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from asdcore import __version__
from asdcore.heard import clock

TEMPLATES = Path(__file__).with_name("templates")
MOST_BYTES = 15_000_000
"""of a report"""
NO_REAL_MACHINE = "Simulated recordings: no real machine was recorded."


def rendered(template: str, **values: Any) -> str:
    """The page of a template: ``title``, ``about`` (lines), ``simulated`` (the banner) and the values of its own.

    Every value is escaped, but for `markupsafe.Markup`.
    """
    made = f"{datetime.now(UTC).astimezone():%Y-%m-%d %H:%M}"
    return template_environment().get_template(template).render(values | {"made": made, "asd": __version__})


def template_environment(*folders: Path) -> Environment:
    """Jinja2 with the templates and filters of the reports, and before them the templates of these folders."""
    environment = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "score": score,
        "brief": brief,
        "clock": clock,
        "count_of": count_of,
        "prose": prose,
    }
    return environment


def number(value: float) -> str:
    """A number as a person reads it.

    >>> number(0.00123), number(0.5), number(0.0)
    ('0.0012', '0.5', '0')
    """
    return f"{value:.2g}".replace("-", "−")


def score(value: float) -> str:
    """A score, to be compared with others.

    >>> score(12.345), score(-0.012), score(-1234.6), score(float("inf"))
    ('12.35', '−0.01', '−1,235', 'inf')
    """
    return f"{value:,.{0 if abs(value) >= 1000 else 2}f}".replace("-", "−")


def brief(value: float) -> str:
    """A ratio, roughly.

    >>> brief(12.34), brief(-0.6), brief(123456.7)
    ('12.3', '−0.6', '1e+05')
    """
    return (f"{value:.1f}" if abs(value) < 10_000 else f"{value:.0e}").replace("-", "−")


def prose(sentence: str) -> str:
    """A sentence that is not broken between a number and its unit, and begins with a capital.

    >>> prose("at 10 % false alarms") == "At 10\\N{NO-BREAK SPACE}% false alarms"
    True
    """
    sentence = sentence[:1].upper() + sentence[1:]
    for together in (" %", "p = "):
        sentence = sentence.replace(together, together.replace(" ", "\N{NO-BREAK SPACE}"))
    return sentence


def shortened(name: str, most: int = 120) -> str:
    """A name with its end, where files differ.

    >>> shortened("a/very/long/path/monday.wav", 12)
    '…/monday.wav'
    """
    return name if len(name) <= most else f"…{name[1 - most :]}"


def count_of(n: int, what: str) -> str:
    """
    >>> count_of(1, "recording"), count_of(1200, "recording")
    ('1 recording', '1,200 recordings')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"
