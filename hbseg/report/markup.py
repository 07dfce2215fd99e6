"""HTML as a tree: every text and attribute is escaped when the tree becomes text."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final
from xml.etree import ElementTree as Tree

Element = Tree.Element
Child = Element | str | None

_VOID: Final = frozenset(("img", "link", "meta"))
"""Elements without content and end tag."""

_CLASS: Final = "class_"
"""Keyword that stands for the attribute `class`, a word of Python."""


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Element:
    """Return an element; None leaves a child or an attribute out.

    Attribute names are given with `_` for `-`, and `class_` for `class`; numbers are written
    with at most two decimals (they are pixels and percents).
    """
    element = Element(name)
    for key, value in attributes.items():
        if value is not None:
            written = "class" if key == _CLASS else key.replace("_", "-")
            element.set(written, value if isinstance(value, str) else number(value))
    for child in children:
        _add(element, child)
    return element


def number(value: float) -> str:
    """Return `value` with at most two decimals and without final zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def document(root: Element) -> bytes:
    """Return `root` (html) as an HTML5 file, UTF-8, without what no file may hold."""
    allowed = "".join(_written(root)).translate(_CONTROLS).encode("utf-8", "replace")
    return b"<!doctype html>\n" + allowed + b"\n"


_CONTROLS: Final = {code: "\ufffd" for code in (*range(32), 127) if chr(code) not in "\t\n\r"}


def _written(element: Element) -> Iterator[str]:
    attributes = "".join(f' {key}="{escape(value)}"' for key, value in element.items())
    yield f"<{element.tag}{attributes}>"
    if element.tag == "style":
        yield element.text or ""  # ours, and raw text in HTML
    elif element.tag not in _VOID:
        yield escape(element.text or "", quote=False)
        for child in element:
            yield from _written(child)
    if element.tag not in _VOID:
        yield f"</{element.tag}>"
    yield escape(element.tail or "", quote=False)


def _add(element: Element, child: Child) -> None:
    if child is None:
        return
    if isinstance(child, Element):
        element.append(child)
    elif len(element):
        element[-1].tail = (element[-1].tail or "") + child
    else:
        element.text = (element.text or "") + child
