"""The colours of every picture: told apart by the colour-blind, and as greys in print.

The fills are the high- and medium-contrast schemes of Tol (2021, "Colour schemes", SRON/EPS/TN/09-002), whose greys
differ; the lines have the colours of Okabe and Ito (2008), and a dash pattern each.
"""

SOURCE, TARGET, ANOMALY, SUSPECT = "#004488", "#6699CC", "#BB5566", "#DDAA33"
SUSPECT_TEXT = "#997700"
"""`SUSPECT`, dark enough to be read on white"""
MISSED = "#E8E8E8"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_MARKERS = "os^Dvx*"


def line_style(index: int) -> tuple[str, str | tuple[int, tuple[int, ...]], str]:
    """Colour, dashes and marker of the line with this number: the first 35 all differ.

    >>> line_style(0), line_style(1)
    (('#0072B2', '-', 'o'), ('#D55E00', '--', 's'))
    >>> len({line_style(index)[:2] for index in range(35)})
    35
    """
    dashes = _DASHES[(index // len(_COLOURS) + index) % len(_DASHES)]
    return _COLOURS[index % len(_COLOURS)], dashes, _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)]
