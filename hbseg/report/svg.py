"""SVG elements for charts, and their text for a page."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree

from markupsafe import Markup

Element = ElementTree.Element

_CLASS: Final = "class_"
"""Keyword that stands for the attribute `class`, a word of Python."""


def element(
    name: str, /, *children: Element, text: str | None = None, **attributes: str | float
) -> Element:
    """Return an element with `text` before its children.

    Attribute names are given with `_` for `-`, and `class_` for `class`; numbers are written
    with at most two decimals (they are pixels).
    """
    made = Element(name)
    made.text = text
    made.extend(children)
    for key, value in attributes.items():
        written = "class" if key == _CLASS else key.replace("_", "-")
        made.set(written, value if isinstance(value, str) else number(value))
    return made


def number(value: float) -> str:
    """Return `value` with at most two decimals and without final zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def markup(root: Element) -> Markup:
    """Return `root` as text that a template takes as it is."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - escaped by it
