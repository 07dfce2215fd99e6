"""Writes what follows from the chart's values.yaml and from hbseg's profile: schema and tables.

    python -m helm.generate

A value is documented by the comment above it, `# -- (TYPE) TEXT`. The type stands there where the
default does not tell it, and is one of `TYPES`. The schema of `profile` is that of
`hbseg.config.profile.ClusterProfile`.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from hbseg.config.pod_profile import (
    CaBundle,
    Gang,
    Limits,
    Scratch,
    SecretKey,
    Toleration,
    Volume,
)
from hbseg.config.profile import ClusterProfile
from hbseg.documents import Block
from helm.limits import limit, mount_path

CHART: Final = Path(__file__).parent / "hbseg"
PROFILE_PAGE: Final = Path(__file__).parents[1] / "docs" / "profile.md"

_NAME: Final = {
    "type": "string",
    "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$",
    "maxLength": 253,
}
_STRINGS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_PORT: Final = {"type": "integer", "minimum": 1, "maximum": 65535}
_QUANTITY: Final = {
    "type": ["string", "number"],
    "pattern": r"^\d+(\.\d+)?(m|k|[MGTPE]|[KMGTPE]i)?$",
}
_MODES: Final = ("ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany", "ReadWriteOncePod")


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Return the schema of an object that has these keys and no other."""
    closed = {"type": "object", "properties": properties, "additionalProperties": False}
    return closed | ({"required": list(required)} if required else {})


_SELECTOR: Final = _closed({"matchLabels": _STRINGS, "matchExpressions": {"type": "array"}})
_S3_SERVER: Final = _closed(
    {
        "cidr": {"type": "string"},
        "except": _list_of({"type": "string"}),
        "namespaceSelector": _SELECTOR,
        "podSelector": _SELECTOR,
        "port": _PORT,
    }
)
_SUBJECT: Final = _closed(
    {"kind": {"enum": ["User", "Group"]}, "name": {"type": "string", "minLength": 1}},
    *("kind", "name"),
)
TYPES: Final[dict[str, dict[str, Any]]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "string": {"type": "string"},
    "name": _NAME,
    "path": mount_path(),
    "quantity": _QUANTITY,
    "seconds": {"type": "integer", "minimum": 1},
    "object": {"type": "object"},
    "profile": {"$ref": "#/$defs/ClusterProfile"},
    "map of strings": _STRINGS,
    "map of quantities": {"type": "object", "additionalProperties": _QUANTITY},
    "list of objects": _list_of({"type": "object"}),
    "list of ports": _list_of(_PORT) | {"minItems": 1},
    "list of access modes": _list_of({"enum": list(_MODES)}) | {"minItems": 1},
    "list of pull secrets": _list_of({"type": ["string", "object"], "required": ["name"]}),
    "list of subjects": _list_of(_SUBJECT),
    "list of S3 servers": _list_of(_S3_SERVER),
}
"""Schemas by the names that stand in values.yaml."""
_OF_DEFAULT: Final = {bool: "boolean", int: "integer", str: "string"}
_KEYS: Final = re.compile(r"(?<=<!-- keys -->\n).*(?=<!-- /keys -->)", re.DOTALL)
_TABLE: Final = re.compile(r"(?<=<!-- values -->\n).*(?=<!-- /values -->)", re.DOTALL)


@dataclass(frozen=True)
class Value:
    """A documented value of the chart."""

    path: tuple[str, ...]
    type: str
    default: Any
    text: str

    @property
    def schema(self) -> dict[str, Any]:
        """The value's own schema."""
        return TYPES[self.type] | {"description": self.text, "default": self.default}

    @property
    def row(self) -> str:
        """Its line of the README's table."""
        text = self.text.replace("|", r"\|")
        return f"| `{'.'.join(self.path)}` | {self.type} | `{json.dumps(self.default)}` | {text} |"


def values(text: str) -> list[Value]:
    """Return the values that are documented in a values.yaml, in its order.

    Raises:
        ValueError: a value has no documentation.
    """
    node = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("expected keys and values")
    return list(_values(node, yaml.safe_load(text), text.splitlines(), ()))


def _values(
    node: yaml.MappingNode, loaded: dict[str, Any], lines: list[str], above: tuple[str, ...]
) -> Iterator[Value]:
    for key, child in node.value:
        path, default = (*above, key.value), loaded[key.value]
        comment = _comment(lines, key.start_mark.line)
        if comment:
            kind, text = _split(comment, default)
            yield Value(path, kind, default, text)
        elif isinstance(child, yaml.MappingNode) and child.value:
            yield from _values(child, default, lines, path)
        else:
            raise ValueError(f"{'.'.join(path)} has no comment `# -- (TYPE) TEXT` above it")


def _comment(lines: list[str], line: int) -> str:
    """Return the text after `# --` above a line; empty where there is none."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    words = " ".join(text.strip().removeprefix("#").strip() for text in lines[first:line])
    return words.partition("-- ")[2]


def _split(comment: str, default: Any) -> tuple[str, str]:
    """Return the type and the text of a comment."""
    told = re.match(r"\(([^)]*)\) (.*)", comment)
    return (told[1], told[2]) if told else (_OF_DEFAULT[type(default)], comment)


def schema() -> dict[str, Any]:
    """Return the JSON schema of the chart's values."""
    profile = _without_titles(ClusterProfile.model_json_schema())
    definitions = profile.pop("$defs", {}) | {"ClusterProfile": profile}
    limit(definitions)
    # A size alone is taken, too, by a validator that pydantic's schema does not tell of.
    size = definitions["Scratch"]["properties"]["size"]
    definitions["Scratch"] = {"anyOf": [definitions["Scratch"], _without_fractions(size)]}
    enabled = {"type": "boolean", "description": "For a parent chart's condition."}
    root = _closed({"enabled": enabled})
    for value in values((CHART / "values.yaml").read_text()):
        parent = _object(root, value.path[:-1])
        parent["properties"][value.path[-1]] = value.schema
        if value.default and not isinstance(value.default, bool | dict):
            _require(parent, value.path[-1])
    del root["properties"]["global"]["additionalProperties"]  # parents put more into it
    root["required"].remove("global")
    whole = {"$schema": "http://json-schema.org/draft-07/schema#"} | root | {"$defs": definitions}
    named: dict[str, Any] = _naming_keys(whole)
    return named


def _naming_keys(node: Any) -> Any:
    """Return a schema whose closed objects name their keys where one is refused.

    What Helm prints of `additionalProperties: false` names the unknown key alone. Of a constant it
    prints the place and the constant.
    """
    if isinstance(node, list):
        return [_naming_keys(item) for item in node]
    if not isinstance(node, dict):
        return node
    named = {key: _naming_keys(item) for key, item in node.items()}
    if named.get("additionalProperties") is False and "properties" in named:
        keys = sorted(named["properties"])
        told = {"const": f"under one of the keys {', '.join(keys)}"}
        known = {"properties": dict.fromkeys(keys, True), "additionalProperties": told}
        named["allOf"] = [known]
    return named


def _object(root: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return the closed object at a path; make it where it is missing."""
    for key in path:
        _require(root, key)
        root = root["properties"].setdefault(key, _closed({}))
    return root


def _require(parent: dict[str, Any], key: str) -> None:
    """Refuse that a key is missing: Helm takes a default out where a value is null."""
    parent["required"] = sorted({*parent.get("required", ()), key})


def _without_fractions(quantity: dict[str, Any]) -> dict[str, Any]:
    return quantity | {"anyOf": [kind for kind in quantity["anyOf"] if kind["type"] != "number"]}


def _without_titles(node: Any) -> Any:
    """Return a schema without pydantic's titles, which say what the keys say."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_titles(item)
        for key, item in node.items()
        if not (key == "title" and isinstance(item, str))
    }


def readme(text: str) -> str:
    """Return the README with the table of the values between its two marks."""
    rows = [value.row for value in values((CHART / "values.yaml").read_text())]
    table = "\n".join(["| value | type | default | |", "|---|---|---|---|", *rows, ""])
    return _TABLE.sub(lambda _: table, text)


def profile_page(text: str) -> str:
    """Return docs/profile.md with the tables of the keys between its two marks."""
    definitions = schema()["$defs"]
    tables = [_keys_of(ClusterProfile, definitions["ClusterProfile"])]
    for block in (Scratch, Limits, CaBundle, SecretKey, Volume, Toleration, Gang):
        properties = _object_of(definitions[block.__name__])
        tables.append(f"### {block.__name__}\n{_summary(block)}\n\n{_keys_of(block, properties)}")
    return _KEYS.sub(lambda _: "\n".join(tables), text)


def _keys_of(model: type[BaseModel], properties: dict[str, Any]) -> str:
    """Return the table of a model's keys, in their order, those of `ClusterProfile` first."""
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    told = {name: text for base in reversed(model.__mro__) for name, text in _texts(base).items()}
    for key, schema in properties["properties"].items():
        default = f"`{json.dumps(schema['default'])}`" if "default" in schema else "needed"
        text = told.get(key, "").replace("|", r"\|")
        rows.append(f"| `{key}` | {_type(schema)} | {default} | {text} |")
    return "\n".join([*rows, ""])


def _object_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a schema that is an object."""
    return next(part for part in (schema, *schema.get("anyOf", ())) if "properties" in part)


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a key in words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        parts = [_type(part) for part in schema["anyOf"]]
        if {"string", "number"} <= {*parts}:
            return "quantity"
        return " or ".join(dict.fromkeys(part for part in parts if part != "null"))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        patterns = [*schema.get("patternProperties", {}).values()]
        values = patterns[0] if patterns else inner if isinstance(inner, dict) else None
        return f"map of {_type(values)}" if values else "map"
    return str(schema.get("type", "any"))


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _texts(model: type) -> dict[str, str]:
    """Return the docstrings below a class's own fields, by their names."""
    if not issubclass(model, BaseModel) or model in (BaseModel, Block):
        return {}
    body = ast.parse(inspect.getsource(model)).body[0]
    found = {}
    for field, after in pairwise(getattr(body, "body", [])):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[model.model_fields[name].alias or name] = " ".join(text.split())
    return found


def main() -> None:
    """Write the files."""
    (CHART / "values.schema.json").write_text(json.dumps(schema(), indent=2) + "\n")
    for path, filled in ((CHART / "README.md", readme), (PROFILE_PAGE, profile_page)):
        path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
