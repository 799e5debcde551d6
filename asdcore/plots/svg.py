"""Drawings as SVG text, to stand in a page: their colours are the page's, by class, and text is escaped."""

import base64
import io
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def drawing(width: float, height: float, description: str) -> Element:
    """An empty drawing that scales with the page. ``description``: for those who cannot see it."""
    attributes = {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": description}
    return Element("svg", attributes)


def add(parent: Element, tag: str, text: str = "", /, **attributes: float | str) -> Element:
    """Add an element. In names of attributes, ``_`` stands for ``-``; ``class_`` is ``class``.

    >>> text_of(add(drawing(10, 10, ""), "text", "<b>", x=1 / 3, text_anchor="end", class_="axis"))
    '<text x="0.33" text-anchor="end" class="axis">&lt;b&gt;</text>'
    """
    child = ET.SubElement(parent, tag)
    for name, value in attributes.items():
        shown = value if isinstance(value, str) else f"{round(value, 2):g}"
        child.set(name.rstrip("_").replace("_", "-"), shown)
    child.text = text or None
    return child


def text_of(element: Element) -> str:
    """The element as text."""
    return ET.tostring(element, encoding="unicode")


def grey_png(values: NDArray[np.uint8]) -> str:
    """(height, width) as a PNG image in a data URI; 0 is black.

    >>> grey_png(np.zeros((2, 3), np.uint8))[:22]
    'data:image/png;base64,'
    """
    content = io.BytesIO()
    Image.fromarray(values).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
