"""What hbseg refuses of a profile beyond pydantic's schema, as JSON schema.

Helm prints of a failed `if` and `then` the place and the constant of `then`, so that constant says
what is expected. A constant never matches. Helm prints a wrong place for `propertyNames`, so keys
are refused by `patternProperties`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from hbseg.config.kubernetes_types import (
    _LABEL_KEY,
    _LABEL_VALUE,
    _OUR_VARIABLES,
    _OWN_FOLDERS,
    _SYSTEM_FOLDERS,
    _VARIABLE,
    MAX_LABEL,
    OUR_LABELS,
    OUR_PREFIXES,
)
from hbseg.config.profile import PodGroup
from hbseg.runs.steps import Step

Schema = dict[str, Any]

_ZERO: Final = {"type": "string", "pattern": r"^[0.]*[a-zA-Z]*$"}
_UP: Final = r"(^|/)\.\.(/|$)"
_SUB_PATH: Final = {"type": "string", "pattern": rf"^$|^/|{_UP}"}
_OUR_KEYS: Final = "|".join(
    [f"^{re.escape(prefix)}" for prefix in OUR_PREFIXES]
    + [f"^{re.escape(label)}$" for label in sorted(OUR_LABELS)]
)
_KEY: Final = f"^({_LABEL_KEY})$"
_LABEL: Final = {"maxLength": MAX_LABEL, "pattern": f"^({_LABEL_VALUE})$"}
_NO_KEY: Final = {"const": "under a key of the form PREFIX/NAME or NAME"}
_NO_VARIABLE: Final = {"const": "under the name of an environment variable"}
_OWN_KEY: Final = {"const": "under a key of your own: hbseg or a controller sets this one"}
_OWN_VARIABLE: Final = {"const": "under another name: hbseg or torchrun sets this variable"}


def refusing(wrong: Schema, expected: str) -> Schema:
    """Return the keywords that refuse what a schema matches, and say what is expected."""
    return {"if": wrong, "then": {"const": expected}}


def mount_path() -> Schema:
    """Return the schema of a folder that a volume may be mounted at."""
    above = {str(parent) for own in (*_SYSTEM_FOLDERS, *_OWN_FOLDERS) for parent in own.parents}
    whole = "|".join(map(_folder, sorted({*above, *map(str, _OWN_FOLDERS)} - {"/"})))
    below = "|".join(_folder(str(own)) for own in _SYSTEM_FOLDERS)
    patterns = (rf"^({whole})?(/+\.?)*$", f"^({below})(/.*)?$", "^[^/]|:", _UP)
    folders = ", ".join(map(str, _SYSTEM_FOLDERS))
    wrong = {"anyOf": [{"pattern": pattern} for pattern in patterns]}
    expected = f"an absolute path without .. and :, that hides nothing of {folders}, /scratch, /tmp"
    return {"type": "string"} | refusing(wrong, expected)


def _folder(path: str) -> str:
    return re.escape(path).replace("/", r"/+(\./+)*")


def limit(definitions: dict[str, Schema]) -> None:
    """Add to the definitions of a profile's schema what hbseg's validators refuse."""
    for name in ("ClusterProfile", "PodProfile"):
        _limit_pods(definitions[name]["properties"])
    _limit_steps(definitions["ClusterProfile"]["properties"]["steps"])
    _above_zero(definitions["Scratch"]["properties"]["size"])
    for schema in definitions["Limits"]["properties"].values():
        schema["minimum"] = 0
    volume = definitions["Volume"]["properties"]
    volume["path"] |= mount_path()
    volume["sub_path"] |= refusing(_SUB_PATH, "a relative path without ..")
    definitions["Volume"] |= _one_of("claim", "config_map", "secret")
    definitions["CaBundle"] |= _one_of("config_map", "secret")


def _limit_pods(properties: dict[str, Schema]) -> None:
    for name in ("cpu_per_process", "memory_per_process", "shared_memory"):
        _above_zero(properties[name])
    for name in ("labels", "node_selector"):
        properties[name]["additionalProperties"] |= _LABEL
    _close(properties["node_selector"], _KEY, _NO_KEY)
    for name in ("labels", "annotations", "job_annotations"):
        _close(properties[name], _KEY, _NO_KEY, {_OUR_KEYS: _OWN_KEY})
    ours = {f"^({_OUR_VARIABLES})$": _OWN_VARIABLE}
    for name in ("environment", "secret_environment"):
        _close(properties[name], f"^({_VARIABLE})$", _NO_VARIABLE, ours)
    devices = properties["devices"]
    devices["additionalProperties"] = False
    for quantity in devices["patternProperties"].values():
        _above_zero(quantity)


def _limit_steps(steps: Schema) -> None:
    names = [*PodGroup, *Step]
    known = {"const": f"under one of the keys {', '.join(names)}"}
    _close(steps, f"^({'|'.join(names)})$", known)


def _close(
    mapping: Schema, keys: str, other: Schema, ours: dict[str, Schema] | None = None
) -> None:
    """Refuse keys of another form by `other`; the keys of `ours` have one more schema."""
    mapping["patternProperties"] = {keys: mapping["additionalProperties"]} | (ours or {})
    mapping["additionalProperties"] = other


def _above_zero(quantity: Schema) -> None:
    quantity |= {"exclusiveMinimum": 0} | refusing(_ZERO, "a quantity above 0")


def _one_of(*sources: str) -> Schema:
    """Return the keywords that want exactly one source."""
    given = [{"required": [s], "properties": {s: {"type": "string"}}} for s in sources]
    return refusing({"not": {"oneOf": given}}, f"with one of {', '.join(sources)}")
