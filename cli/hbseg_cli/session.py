"""What the commands work on: settings, stores, runs, backends, specs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hbseg_cli.output import say

if TYPE_CHECKING:
    from hbseg.config.placement import Placement
    from hbseg.config.settings import Settings
    from hbseg.documents import Document
    from hbseg.runs.backend import Backend
    from hbseg.runs.chain import ChainSpecs
    from hbseg.runs.run import Run, RunClaim
    from hbseg.storage.store import Store

Kind = TypeVar("Kind", bound="Document")

CONFIGS = ("prepare", "train_stage1", "train_stage2", "compile", "infer", "efficiency", "report")
"""Names of the default configs."""


@dataclass
class Globals:
    """The flags that stand before the command."""

    profile: str | None = None


globals_ = Globals()


@dataclass(frozen=True)
class Session:
    """The settings of one command, and what they lead to."""

    flags: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """The settings: flag, environment, files, built in."""
        from hbseg.config.settings import load_settings

        return load_settings(self.flags, profile=globals_.profile)

    def runs(self) -> Store:
        """Return the folder of the runs."""
        return self._store("runs")

    def data(self, claim: RunClaim | None = None) -> Store:
        """Return the folder of the datasets; that of a run is the one that its claim names.

        Raises:
            ConflictError: a flag or a setting names another one.
        """
        from hbseg.errors import ConflictError
        from hbseg.storage.store import open_store

        if claim is None:
            return self._store("data")
        held = open_store(claim.data)
        if self.settings.get("data") is not None:
            named = self._store("data")
            if named.url != held.url:
                raise ConflictError(
                    f"run {claim.name} reads {held.url}, not {named.url}",
                    f"give --data {held.url}",
                )
        return held

    def run(self, name: str | None) -> Run:
        """Return a run by name; none takes the one of the settings."""
        from hbseg.runs.run import Run

        return Run(self.runs(), name or self.settings.need("run"))

    def backend(self) -> Backend:
        """Return the backend."""
        from hbseg.control.backends import open_backend

        settings = self.settings
        state = settings.get("state")
        return open_backend(
            settings.need("backend"),
            state=None if state is None else Path(state),
            namespace=settings.get("namespace"),
            context=settings.get("context"),
            tell=say,
        )

    def _store(self, name: str) -> Store:
        from hbseg.storage.store import open_store

        return open_store(self.settings.need(name))


def placement_of(shape: str | None, **flags: float | None) -> Placement:
    """Return the placement that flags describe, with the cluster's part from the settings.

    `flags` are fields of the placement; one that is none was not given.

    Raises:
        UsageError: a flag's value is not possible.
    """
    from pydantic import ValidationError

    from hbseg.config.placement import Placement
    from hbseg.errors import UsageError

    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    cluster = Session().settings.cluster
    try:
        return Placement(cluster=cluster, **given).with_shape(shape)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        flag = f"--{name.replace('_', '-')} {given[name]:g}"
        raise UsageError(f"{flag}: {wrong['msg'][:1].lower()}{wrong['msg'][1:]}") from None


def default_config(name: str, variant: str = "") -> dict[str, Any]:
    """Return a default config by its name (see `CONFIGS`).

    A variant is a folder of configs; what is not in it is the default one.
    """
    from hbseg.documents import load_yaml

    folder = resources.files("hbseg_jobs.configs")
    file = folder.joinpath(variant, f"{name}.yaml") if variant else folder.joinpath(f"{name}.yaml")
    if variant and not file.is_file():
        file = folder.joinpath(f"{name}.yaml")
    loaded: dict[str, Any] = load_yaml(file.read_bytes(), source=f"{name}.yaml")
    return loaded


def spec_of(
    kind: type[Kind],
    name: str,
    *,
    config: Path | None = None,
    settings: list[str] | None = None,
    flags: dict[str, Any] | None = None,
    variant: str = "",
) -> Kind:
    """Return a spec: the default config, `config` on it, then `--set`, then a command's flags."""
    from hbseg.documents import merged, with_settings

    mapping = default_config(name, variant)
    if config is not None:
        mapping = merged(mapping, read_config(config))
    mapping = with_settings(mapping, settings or [])
    mapping.update({key: value for key, value in (flags or {}).items() if value is not None})
    return kind.from_mapping(mapping, source=str(config or f"{name}.yaml"))


def read_config(path: Path) -> dict[str, Any]:
    """Return the mapping in a user's YAML file."""
    from hbseg.documents import load_yaml
    from hbseg.errors import DeniedError, NotFoundError, SpecError

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
    *, config: Path | None = None, settings: list[str] | None = None, variant: str = ""
) -> ChainSpecs:
    """Return the specs of a whole chain.

    `config` has a block for each step that differs from the default (`stage1: {run: {epochs: 3}}`),
    and each of `settings` begins with the step (`stage1.run.epochs=3`).
    """
    from hbseg.config.specs import CompileSpec, EfficiencySpec, InferSpec, ReportSpec, TrainSpec
    from hbseg.documents import merged, with_settings
    from hbseg.runs.chain import ChainSpecs

    names = dict(zip(("stage1", "stage2"), CONFIGS[1:3], strict=True))
    names |= {name: name for name in CONFIGS[3:]}
    mapping = {step: default_config(name, variant) for step, name in names.items()}
    if config is not None:
        mapping = merged(mapping, read_config(config))
    mapping = with_settings(mapping, settings or [])
    _check_steps(mapping, names, config)

    def spec(kind: type[Kind], step: str) -> Kind:
        return kind.from_mapping(mapping[step], source=f"{config or 'specs'}: {step}")

    return ChainSpecs(
        stage1=spec(TrainSpec, "stage1"),
        stage2=spec(TrainSpec, "stage2"),
        compile=spec(CompileSpec, "compile"),
        infer=spec(InferSpec, "infer"),
        efficiency=spec(EfficiencySpec, "efficiency"),
        report=spec(ReportSpec, "report"),
    )


def _check_steps(mapping: dict[str, Any], names: dict[str, str], config: Path | None) -> None:
    from hbseg.errors import SpecError
    from hbseg.names import nearest

    for step in mapping:
        if step not in names:
            raise SpecError(f"{config or '--set'}: unknown step {step}; {nearest(step, names)}")
