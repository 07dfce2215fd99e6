"""Groups of flags that many commands take: each becomes one argument of the command's function.

    @grouped(session=SESSION)
    def status(run: options.RunName, session: Session) -> Result: ...

gives `status` the flags `--backend`, `--namespace`, `--context`, `--data` and `--runs`, and its
function the session that they describe.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hbseg_cli import options
from hbseg_cli.output import Format
from hbseg_cli.session import Session, placement_of, spec_of

if TYPE_CHECKING:
    from hbseg.config.placement import Placement
    from hbseg.documents import Document

Command = Callable[..., Any]
PRESETS = {"base": "", "demo": "demo", "demo-bf16": "demo-bf16"}
"""Presets of default specs, and their folders of configs."""
Kind = TypeVar("Kind", bound="Document")


@dataclass(frozen=True)
class Group:
    """Flags, each with its annotation and default, and what they make together."""

    flags: Mapping[str, tuple[Any, Any]]
    make: Callable[..., Any]


def grouped(**groups: Group) -> Callable[[Command], Command]:
    """Return a decorator that puts the flags of each group in the place of its argument."""

    def decorate(command: Command) -> Command:
        def call(**values: Any) -> Any:
            made = {
                name: group.make(**{flag: values.pop(flag) for flag in group.flags})
                for name, group in groups.items()
            }
            return command(**values, **made)

        parameters = _expanded(inspect.signature(command, eval_str=True), groups)
        call.__name__, call.__doc__ = command.__name__, command.__doc__
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {item.name: item.annotation for item in parameters}
        return call

    return decorate


def _expanded(signature: inspect.Signature, groups: Mapping[str, Group]) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = []
    for own in signature.parameters.values():
        if own.name not in groups:
            parameters.append(own.replace(kind=kind))
            continue
        parameters += [
            inspect.Parameter(name, kind, default=default, annotation=annotation)
            for name, (annotation, default) in groups[own.name].flags.items()
        ]
    return parameters


@dataclass(frozen=True)
class SpecSource:
    """Where a spec comes from: the preset's config, `--config` on it, then `--set`."""

    config: Path | None = None
    settings: list[str] | None = None
    preset: str | None = None

    @property
    def variant(self) -> str:
        """Name of the folder of default configs; empty for `base`. Raises UsageError."""
        if self.preset not in (None, *PRESETS):
            from hbseg.errors import UsageError

            raise UsageError(f"no preset {self.preset!r:.60}; expected {', '.join(PRESETS)}")
        return PRESETS.get(self.preset or "base", "")

    def spec(self, kind: type[Kind], name: str, **flags: Any) -> Kind:
        """Return the spec `name` with a command's own flags put in last."""
        return spec_of(
            kind,
            name,
            config=self.config,
            settings=self.settings,
            flags=flags,
            variant=self.variant,
        )


@dataclass(frozen=True)
class SubmitOptions:
    """How a step is started and what is done while it runs."""

    placement: Placement
    dry_run: str | None = None
    wait: bool = False
    follow: bool = False


def _submit_options(
    shape: str | None,
    retries: int | None,
    pending_timeout: float | None,
    stall_timeout: float | None,
    **rest: Any,
) -> SubmitOptions:
    placement = placement_of(
        shape, retries=retries, pending_timeout=pending_timeout, stall_timeout=stall_timeout
    )
    return SubmitOptions(placement, **rest)


SESSION = Group(
    {
        "backend": (options.Backend, None),
        "namespace": (options.Namespace, None),
        "context": (options.Context, None),
        "data": (options.Data, None),
        "runs": (options.Runs, None),
    },
    lambda **flags: Session(flags),
)
STORAGE = Group(
    {"data": (options.Data, None), "runs": (options.Runs, None)}, lambda **flags: Session(flags)
)
SOURCE = Group(
    {
        "preset": (options.Preset, None),
        "config": (options.Config, None),
        "settings": (options.Set, None),
    },
    SpecSource,
)
SUBMIT_OPTIONS = Group(
    {
        "shape": (options.Shape, None),
        "dry_run": (options.DryRun, None),
        "wait": (options.Wait, False),
        "follow": (options.Follow, False),
        "retries": (options.Retries, None),
        "pending_timeout": (options.PendingTimeout, None),
        "stall_timeout": (options.StallTimeout, None),
    },
    _submit_options,
)
CHAIN_OPTIONS = Group(
    {
        "shape": (options.Shape, None),
        "retries": (options.Retries, None),
        "pending_timeout": (options.PendingTimeout, None),
        "stall_timeout": (options.StallTimeout, None),
    },
    _submit_options,
)
OUTPUT = Group({"output": (options.Output, Format.TABLE)}, lambda output: output)
