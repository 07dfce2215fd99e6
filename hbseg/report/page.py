"""Pages from the templates beside this module: every value that they show is escaped."""

from __future__ import annotations

from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

_CONTROLS: Final = {code: "\ufffd" for code in (*range(32), 127) if chr(code) not in "\t\n\r"}
"""Characters that no HTML file may hold, and what stands for them."""


def render_page(template: str, **values: object) -> bytes:
    """Return the page that `template` lays out, an HTML5 file in UTF-8.

    Equal values give equal bytes.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    text = _environment().get_template(template).render(values)
    return text.translate(_CONTROLS).encode("utf-8", "replace")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("hbseg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
