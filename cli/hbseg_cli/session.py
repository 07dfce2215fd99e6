"""What the commands work on: settings, stores, runs, backends, specs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hbseg_cli.output import say

if TYPE_CHECKING:
    from hbseg.config.placement import Placement
    from hbseg.config.settings import Settings
    from hbseg.runs.backend import Backend
    from hbseg.runs.run import Run, RunClaim
    from hbseg.storage.store import Store


class Globals:
    """The flags that stand before the command."""

    profile: str | None = None


globals_ = Globals()


class Session:
    """The settings of one command, and what they lead to."""

    def __init__(self, flags: dict[str, str | None], *, offline: bool = False) -> None:
        self.flags = flags
        self.offline = offline
        """Whether the command asks no cluster."""

    @cached_property
    def settings(self) -> Settings:
        """The settings of this machine: flag, environment, files, built in."""
        from hbseg.config.settings import load_settings

        return load_settings(self.flags, profile=globals_.profile)

    @cached_property
    def shared(self) -> Settings:
        """The settings, and below them those that the cluster's namespace holds for all.

        Raises:
            HbsegError: the cluster does not show them, or they are not valid.
        """
        if self.offline or self.settings.get("backend") != "kubernetes":
            return self.settings
        from hbseg.config.settings import load_settings
        from hbseg.control.shared_settings import read_shared

        found = read_shared(self.settings.get("namespace"), self.settings.get("context"), tell=say)
        return load_settings(self.flags, profile=globals_.profile, shared=found)

    def need(self, name: str) -> str:
        """Return a setting's value, from the cluster's namespace where it is not set here.

        Raises:
            UsageError: it is not set anywhere.
        """
        from hbseg.errors import HbsegError, UsageError

        if self.settings.get(name) is not None or self.offline:
            return self.settings.need(name)
        try:
            return self.shared.need(name)
        except UsageError:
            raise
        except HbsegError as error:
            say(f"warning: the cluster's settings are not known: {error.message}")
            return self.settings.need(name)

    def offered_engine(self, placement: Placement) -> str:
        """Return the kind of engine that is compiled where none is named."""
        from hbseg.control.engines import offered_engine

        backend = "kubernetes" if self.offline else self.settings.need("backend")
        return offered_engine(backend, placement)

    def runs(self) -> Store:
        """Return the folder of the runs."""
        return self._store("runs")

    def data(self, claim: RunClaim | None = None) -> Store:
        """Return the folder of the datasets; that of a run is the one that its claim names.

        Raises:
            ConflictError: a flag or a setting names another one.
        """
        from hbseg.errors import ConflictError
        from hbseg.storage.opening import open_store

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

        return Run(self.runs(), name or self.need("run"))

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
        from hbseg.storage.opening import open_store

        return open_store(self.need(name))


def placement_of(settings: Settings, shape: str | None, **flags: float | None) -> Placement:
    """Return the placement that flags describe, with the cluster's part from the settings.

    `flags` are fields of the placement; one that is none was not given.

    Raises:
        UsageError: a flag's value is not possible.
        SpecError: the cluster's part names pods that there are not.
    """
    from pydantic import ValidationError

    from hbseg.config.placement import Placement
    from hbseg.errors import UsageError

    if settings.cluster.steps:
        from hbseg.cluster.pods.template import check_profile

        check_profile(settings.cluster)

    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    try:
        return Placement(cluster=settings.cluster, **given).with_shape(shape)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        flag = f"--{name.replace('_', '-')} {given[name]:g}"
        raise UsageError(f"{flag}: {wrong['msg'][:1].lower()}{wrong['msg'][1:]}") from None
