"""Strict, typed documents: YAML or JSON in, validated model out, canonical digest.

Every document that hbseg reads or writes carries `apiVersion: hbseg/v1` and `kind`. A document of a
newer version is refused (`VersionError`), and so is a key that is not known: in a document that
people write with the nearest known one, in one that hbseg writes as a newer version's.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hbseg import __version__
from hbseg.errors import SpecError, VersionError

API_VERSION: Final = "hbseg/v1"
UPGRADE: Final = "upgrade hbseg: pip install --upgrade hbseg"
"""What to do where a newer hbseg wrote a document."""

OLDER_VERSIONS: Final[dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {}
"""How older documents are read: by their `apiVersion`, what makes one of today's version of it.

There is no older version yet.
"""

_VERSION = re.compile(r"hbseg/v([1-9][0-9]{0,5})[a-z0-9]{0,20}")

Count = Annotated[int, Field(ge=1)]
"""A number of things, at least one."""


class Block(BaseModel):
    """A part of a document: frozen, without unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # most commands check a few kinds of documents only
    )


class Document(Block):
    """A whole document. Each subclass declares `kind: Literal["ItsName"] = "ItsName"`."""

    model_config = ConfigDict(populate_by_name=True)

    by_people: ClassVar[bool] = False
    """Whether people write it: an unknown key is then a slip, and no sign of a newer hbseg."""

    api_version: Literal["hbseg/v1"] = Field(default=API_VERSION, alias="apiVersion")
    """Version of the document's format."""

    @classmethod
    def from_mapping(cls, data: object, *, source: str) -> Self:
        """Return the document in `data`; `source` names it in errors.

        Raises:
            SpecError: a key is unknown, a value is missing or of the wrong type or range.
            VersionError: a newer hbseg wrote it.
        """
        if not isinstance(data, Mapping):
            raise SpecError(f"{source}: expected keys and values, found {type(data).__name__}")
        current = in_this_version(data, source=source)
        try:
            return cls.model_validate(current)
        except ValidationError as error:
            problem = error
        if not cls.by_people and (key := _unknown_key(problem)):
            raise VersionError(
                f"{source} has the key {key:.80}, which hbseg {__version__} does not know: a newer "
                "hbseg wrote it",
                UPGRADE,
            )
        try:
            reason = _first_problem(cls, problem)
        except RecursionError:  # to show a value of a thousand levels
            reason = "a value is nested too deep"
        raise SpecError(f"{source}: {reason}")

    @classmethod
    def from_text(cls, text: str | bytes, *, source: str) -> Self:
        """Return the document in YAML or JSON `text`.

        Raises:
            SpecError: as `from_mapping`, or the text is not YAML.
            VersionError: as `from_mapping`.
        """
        return cls.from_mapping(_loaded(text, source), source=source)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers; `apiVersion` and `kind` come first."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """Return the document as YAML that every YAML reader reads alike."""
        return dump_yaml(self.to_mapping())

    def to_json(self) -> bytes:
        """Return the document as indented JSON with a final newline."""
        text = json.dumps(self.to_mapping(), indent=2, ensure_ascii=False, allow_nan=False)
        return f"{text}\n".encode()

    def digest(self) -> str:
        """Return the sha256 (hex) of the canonical JSON; equal documents have equal digests."""
        return canonical_digest(self.to_mapping())


def in_this_version(data: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Return the content of a document as this version of hbseg has it; `source` names it.

    What is no version at all is left to the checks of the document.

    Raises:
        VersionError: a newer hbseg wrote it.
    """
    version = str(data.get("apiVersion", API_VERSION))
    if version in OLDER_VERSIONS:
        return dict(OLDER_VERSIONS[version](data))
    if _number(version) > _number(API_VERSION):
        raise VersionError(
            f"{source} was written as {version} by a newer hbseg, here is {API_VERSION} "
            f"({__version__})",
            UPGRADE,
        )
    return dict(data)


def _number(version: str) -> int:
    found = _VERSION.fullmatch(version)
    return int(found[1]) if found else 0


def _loaded(text: str | bytes, source: str) -> Any:
    # JSON is YAML, but the YAML parser takes 100 times as long for it.
    if text.lstrip()[:1] in ("{", b"{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass  # flow-style YAML also starts so
    return load_yaml(text, source=source)


def canonical_digest(data: object) -> str:
    """Return the sha256 (hex) of `data` as JSON with sorted keys and no spaces."""
    text = json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


_NUMBER_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("int", "float"))
_NO_JSON_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("binary", "timestamp", "set", "omap", "pairs")
)


if TYPE_CHECKING:
    _Parsed = yaml.SafeLoader
else:
    _Parsed = object


class _Strict(_Parsed):
    """What makes a safe loader ours: no objects, no duplicate keys, no dates, no base 60."""

    yaml_implicit_resolvers: Any = {
        first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag not in _NO_JSON_TAGS
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} stands twice", key_node.start_mark
                )
            if isinstance(key_node.value, str):
                seen.add(key_node.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        base_60 = tag in _NUMBER_TAGS and ":" in value
        return self.DEFAULT_SCALAR_TAG if base_60 else tag


class _SafeLoader(_Strict, yaml.SafeLoader):
    """Says best what is wrong with a text, and where."""


class _FastLoader(_Strict, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Ten times as fast, on libyaml, where PyYAML was built with it, as its wheels are."""


class _Dumper(yaml.SafeDumper):
    """YAML whose strings are quoted wherever any reader could take them for something else."""


class _FastDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Five times as fast, on libyaml, where PyYAML was built with it; emoji are escaped."""


_PLAIN_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/")
_YAML_WORDS = frozenset(
    ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf", "infinity")
)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes "12e5678" plain, and YAML 1.2 readers make it infinity: quote what is no word.
    plain = text[:1] in _PLAIN_FIRST and text.lower() not in _YAML_WORDS
    style = None if plain else "'"
    if not text.isprintable():
        # Only double quotes escape; PyYAML folds control and separator characters elsewhere.
        whole_lines = text.strip() == text.removesuffix("\n")
        style = "|" if text.replace("\n", "").isprintable() and whole_lines else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_FastDumper.add_representer(str, _represent_text)


def load_yaml(text: str | bytes, *, source: str) -> Any:
    """Return the plain data in one YAML document.

    Raises:
        SpecError: the text is not YAML, not UTF-8, a key stands twice or is a list, or a value is
            not what its tag says, or of a kind that JSON does not have (bytes, dates, sets).
    """
    with suppress(yaml.YAMLError, ValueError, TypeError, LookupError, RecursionError):
        # What this one refuses the other one looks at again, and says why.
        return yaml.load(text, Loader=_FastLoader)  # noqa: S506 - a subclass of SafeLoader
    try:
        return yaml.load(text, Loader=_SafeLoader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise SpecError(f"{source}: not readable as YAML: {_one_line(error)}") from None


def dump_yaml(data: object) -> str:
    """Return `data` as YAML in its own key order."""
    with suppress(UnicodeEncodeError):  # by a lone surrogate, as the name of a file may have
        return _dumped(data, _FastDumper)
    return _dumped(data, _Dumper)


def _dumped(data: object, dumper: type[_Dumper | _FastDumper]) -> str:
    text: str = yaml.dump(data, Dumper=dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def with_settings(data: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Return `data` with each `a.b=value` of `settings` put in; values are read as YAML.

    Raises:
        SpecError: a setting has no `=`, or goes through something that is no block.
    """
    merged: dict[str, Any] = json.loads(json.dumps(data))
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path.strip():
            raise SpecError(f"--set {setting}: expected a.b=value")
        *blocks, last = path.strip().split(".")
        block = merged
        for name in blocks:
            inner = block.setdefault(name, {})
            if not isinstance(inner, dict):
                raise SpecError(f"--set {setting}: {name} is a value, not a block")
            block = inner
        loaded = load_yaml(value, source=f"--set {setting}")
        block[last] = loaded if value.strip()[:1] in ("'", '"') else _number_or_plain(loaded)
    return merged


def _number_or_plain(value: Any) -> Any:
    # YAML 1.1 reads 1e-3 as text (it wants 1.0e-3); people who type it mean the number. But they
    # mean no number by a digest such as 12e5678: as one it would be infinite.
    if isinstance(value, str) and "e" in value.lower() and value[:1] in tuple("+-.0123456789"):
        try:
            number = float(value)
        except ValueError:
            return value
        return number if math.isfinite(number) else value
    return value


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on it, block by block."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        both_blocks = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both_blocks else value  # type: ignore[arg-type]
    return result


def nearest(name: str, known: Iterable[str], *, otherwise: str | None = None) -> str:
    """Return `did you mean X?` with the known name nearest to an unknown one, whatever its case.

    Where none is near, `expected one of A, B, ...`, or `otherwise`.
    """
    import difflib

    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    if near:
        return f"did you mean {by_lower[near[0]]}?"
    return f"expected one of {', '.join(by_lower.values())}" if otherwise is None else otherwise


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _unknown_key(error: ValidationError) -> str | None:
    """Return the path of the first unknown key, or none."""
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        if problem["type"] == "extra_forbidden":
            return ".".join(map(str, problem["loc"]))
    return None


_FORMS: Final = {
    "tuple_type": "expected a list",
    "dict_type": "expected keys and values",
    "model_type": "expected keys and values",
}
"""Forms of values in YAML's words, by pydantic's names of errors."""
_MAY_BE_SECRET: Final = frozenset({"environment", "secret_environment", "pod_overrides"})
"""Keys below which a wrong value is not shown."""


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    unknown = [p for p in problems if p["type"] == "extra_forbidden"]
    problem = (unknown or problems)[0]
    path = ".".join(str(part) for part in problem["loc"])
    if unknown:
        known = _known_keys(model, problem["loc"][:-1])
        return f"unknown key {path}; {nearest(str(problem['loc'][-1]), known)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{path}: missing"
    if message[1:2].islower():
        message = f"{message[:1].lower()}{message[1:]}"
    message = _FORMS.get(problem["type"], message)
    if not path:  # of the document as a whole
        return message
    if problem["type"] == "value_error" or _MAY_BE_SECRET & set(problem["loc"]):
        return f"{path}: {message}"  # what was found may be a secret
    return f"{path}: {message}, found {problem['input']!r:.80}"


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part)) or next(
            (f for f in model.model_fields.values() if f.alias == part), None
        )
        if field is None:
            continue  # an index of a list or the tag of a union
        inner = [field.annotation, *get_args(field.annotation)]
        for nested in (a for i in inner for a in (i, *get_args(i))):
            if isinstance(nested, type) and issubclass(nested, BaseModel):
                model = nested
                break
    return sorted(field.alias or name for name, field in model.model_fields.items())


__all__ = [
    "API_VERSION",
    "OLDER_VERSIONS",
    "UPGRADE",
    "Block",
    "Count",
    "Document",
    "canonical_digest",
    "dump_yaml",
    "in_this_version",
    "load_yaml",
    "merged",
    "nearest",
    "with_settings",
]
