"""Specs as people give them: a default config, a file merged over it, then single values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from hbseg.config.specs import Spec
from hbseg.documents import load_yaml, merged, nearest, with_settings
from hbseg.errors import DeniedError, NotFoundError, SpecError, UsageError
from hbseg.runs.chain_specs import ChainSpecs, chain_steps
from hbseg.runs.steps import Step

Kind = TypeVar("Kind", bound=Spec)

CONFIGS: Final = tuple(step.row.config for step in Step)
"""Names of the default configs."""
PRESETS: Final = {"base": "", "demo": "demo", "demo-bf16": "demo-bf16"}
"""Presets of default configs, and their folders."""


def preset_folder(preset: str | None) -> str:
    """Return the folder of a preset's configs; empty for `base`, which none means, too.

    Raises:
        UsageError: there is no such preset.
    """
    if preset not in (None, *PRESETS):
        raise UsageError(f"no preset {preset!r:.60}; expected {', '.join(PRESETS)}")
    return PRESETS[preset or "base"]


def default_config(name: str, variant: str = "", engine: str | None = None) -> dict[str, Any]:
    """Return a default config by its name (see `CONFIGS`).

    A variant is a folder of configs; what is not in it is the default one. A step without a file
    has the defaults of its spec. `engine` is the kind of engine that the place offers (see
    `hbseg.control.engines`), which the step compile makes unless another one is named.
    """
    offered = {"engine": engine} if engine and name == Step.COMPILE.row.config else {}
    return offered | _config_file(name, variant)


def _config_file(name: str, variant: str) -> dict[str, Any]:
    folder = resources.files("hbseg_jobs.configs")
    files = [folder.joinpath(variant, f"{name}.yaml"), folder.joinpath(f"{name}.yaml")]
    for file in files:
        if file.is_file():
            loaded: dict[str, Any] = load_yaml(file.read_bytes(), source=f"{name}.yaml")
            return loaded
    return {}


def default_spec(name: str, *, engine: str | None = None) -> Spec:
    """Return the spec of a default config; `engine` as in `default_config`."""
    row = next(step.row for step in Step if step.row.config == name)
    return row.spec.from_mapping(default_config(name, engine=engine), source=f"{name}.yaml")


def spec_of(
    step: Step,
    kind: type[Kind],
    *,
    config: Path | None = None,
    settings: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    variant: str = "",
    engine: str | None = None,
) -> Kind:
    """Return a step's spec: the default config, `config` merged over it, `settings`, then `flags`.

    Args:
        step: the step.
        kind: class of its spec.
        config: YAML file with the values that differ.
        settings: values as `a.b=v`.
        flags: top-level values of a command's own flags; one that is none was not given.
        variant: folder of default configs (see `default_config`).
        engine: kind of engine that the place offers (see `default_config`).

    Raises:
        NotFoundError, DeniedError: `config` cannot be read.
        SpecError: the spec is not valid.
    """
    name = step.row.config
    mapping = default_config(name, variant, engine)
    if config is not None:
        mapping = merged(mapping, read_config(config))
    mapping = with_settings(mapping, settings)
    mapping |= {key: value for key, value in (flags or {}).items() if value is not None}
    if step.row.stage is not None:
        mapping["stage"] = step.row.stage
    return kind.from_mapping(mapping, source=str(config or f"{name}.yaml"))


def read_config(path: Path) -> dict[str, Any]:
    """Return the mapping in a user's YAML file.

    Raises:
        NotFoundError, DeniedError: it cannot be read.
        SpecError: it is no mapping.
    """
    try:
        loaded = load_yaml(path.read_bytes(), source=str(path))
    except FileNotFoundError:
        raise NotFoundError(f"no such file: {path}", "correct --config") from None
    except OSError as error:
        raise DeniedError(f"{path} cannot be read ({error.strerror})") from None
    if not isinstance(loaded, dict):
        raise SpecError(f"{path}: expected keys and values")
    return loaded


def chain_specs(
    *,
    config: Path | None = None,
    settings: Iterable[str] = (),
    variant: str = "",
    engine: str | None = None,
) -> ChainSpecs:
    """Return the specs of a whole chain; `engine` as in `default_config`.

    `config` has a block for each step that differs from the default (`stage1: {run: {epochs: 3}}`),
    and each of `settings` begins with the step (`stage1.run.epochs=3`).

    Raises:
        NotFoundError, DeniedError, SpecError: as `spec_of`.
    """
    steps = {step.value: step for step in chain_steps()}
    mapping = {
        name: default_config(step.row.config, variant, engine) for name, step in steps.items()
    }
    if config is not None:
        mapping = merged(mapping, read_config(config))
    mapping = with_settings(mapping, settings)
    source = str(config or "--set")
    for name in mapping:
        if name not in steps:
            raise SpecError(f"{source}: unknown step {name}; {nearest(name, steps)}")
    return ChainSpecs(
        {
            name: step.row.spec.from_mapping(mapping[name], source=f"{config or 'specs'}: {name}")
            for name, step in steps.items()
        }
    )
