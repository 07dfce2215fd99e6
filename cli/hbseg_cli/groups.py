"""Groups of flags that many commands take: each becomes one argument of the command's function.

    @grouped(session=SESSION)
    def status(run: options.RunName, session: Session) -> Result: ...

gives `status` the flags `--backend`, `--namespace`, `--context`, `--data` and `--runs`, and its
function the session that they describe.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hbseg_cli import options
from hbseg_cli.output import Format
from hbseg_cli.session import Session, placement_of

if TYPE_CHECKING:
    from hbseg.config.placement import Placement
    from hbseg.config.specs import Spec
    from hbseg.runs.chain_specs import ChainSpecs
    from hbseg.runs.steps import Step

Command = Callable[..., Any]
Kind = TypeVar("Kind", bound="Spec")


class Group(NamedTuple):
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

        parameters = _expanded(inspect.signature(command), groups)
        call.__name__, call.__doc__ = command.__name__, command.__doc__
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
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


class SpecSource(NamedTuple):
    """Where a spec comes from: the preset's config, `--config` merged over it, then `--set`."""

    config: Path | None = None
    settings: list[str] | None = None
    preset: str | None = None

    def spec(
        self, step: "Step", kind: type[Kind], *, offered: str | None = None, **flags: Any
    ) -> Kind:
        """Return a step's spec with a command's own flags put in last.

        `offered` is the kind of engine that is compiled where none is named.

        Raises:
            UsageError: there is no such preset.
            SpecError: the spec is not valid.
        """
        from hbseg.control.specs import preset_folder, spec_of

        return spec_of(
            step,
            kind,
            config=self.config,
            settings=self.settings or (),
            flags=flags,
            variant=preset_folder(self.preset),
            engine=offered,
        )

    def with_engine(self, kind: str | None) -> "SpecSource":
        """Return the source of a chain that makes engines of a kind; none: as it is."""
        if kind is None:
            return self
        return self._replace(settings=[*(self.settings or ()), f"compile.engine={kind}"])

    def chain(self, *, offered: str) -> "ChainSpecs":
        """Return the specs of a whole chain; `offered` and what it raises as in `spec`."""
        from hbseg.control.specs import chain_specs, preset_folder

        return chain_specs(
            config=self.config,
            settings=self.settings or (),
            variant=preset_folder(self.preset),
            engine=offered,
        )


class SubmitOptions(NamedTuple):
    """How a step is started, and what is done while it runs."""

    shape: str | None = None
    retries: int | None = None
    pending_timeout: float | None = None
    stall_timeout: float | None = None
    dry_run: str | None = None
    wait: bool = False
    follow: bool = False

    def placement(self, session: Session) -> "Placement":
        """Return the placement, with the cluster's part from the session's settings.

        Raises:
            UsageError: a flag's value is not possible.
        """
        return placement_of(
            session.settings if self.dry_run == "client" else session.shared,
            self.shape,
            retries=self.retries,
            pending_timeout=self.pending_timeout,
            stall_timeout=self.stall_timeout,
        )


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
    {name: flag for name, flag in SESSION.flags.items() if name != "backend"},
    lambda **flags: Session(flags),
)
"""As `SESSION`, for commands that start nothing: the namespace's settings name the storage."""
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
    SubmitOptions,
)
CHAIN_OPTIONS = Group(
    {
        "shape": (options.Shape, None),
        "retries": (options.Retries, None),
        "pending_timeout": (options.PendingTimeout, None),
        "stall_timeout": (options.StallTimeout, None),
    },
    SubmitOptions,
)
OUTPUT = Group({"output": (options.Output, Format.TABLE)}, lambda output: output)
