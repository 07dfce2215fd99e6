"""Pages from the templates beside this module: every value that they show is escaped.

A page has one script, `templates/viewer.js`. Its policy names the script's sha256, so that no other
one runs.
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_CONTROLS: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Characters that no HTML file may hold."""


def render_page(template: str, **values: object) -> bytes:
    """Return the page that `template` lays out, an HTML5 file in UTF-8.

    Equal values give equal bytes.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    text = _environment().get_template(template).render(values)
    return _CONTROLS.sub("\ufffd", text).encode("utf-8", "replace")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hbseg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    script = files("hbseg.report").joinpath("templates/viewer.js").read_text("utf-8")
    environment.globals["script"] = Markup(script)  # noqa: S704 - a file of this package
    environment.globals["script_source"] = f"sha256-{_digest(script)}"
    return environment


def _digest(script: str) -> str:
    """Return the base64 of a script's sha256, as a policy names it."""
    return b64encode(sha256(script.encode()).digest()).decode()
