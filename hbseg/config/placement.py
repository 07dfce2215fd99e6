"""Where and with what a step runs. Never hashed: the same run may move without another result."""

import re
from typing import Annotated, Self

from pydantic import Field

from hbseg.config.profile import ClusterProfile
from hbseg.documents import Block, Count
from hbseg.errors import UsageError

Seconds = Annotated[float, Field(gt=0, le=366 * 24 * 3600)]
"""At most a year: the system's own clocks end somewhere."""


class Placement(Block):
    """Nodes, processes, retries and time limits of a step."""

    nodes: Count = 1
    processes_per_node: Count = 1
    """Training processes of one node: one per GPU, or one per group of cores."""
    threads_per_process: Annotated[int, Field(ge=0)] = 0
    """CPU threads of one process; 0: the node's cores divided by its processes."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Further attempts after a failure that may pass."""
    pending_timeout: Seconds = 600.0
    """Seconds that a step may wait for its start."""
    stall_timeout: Seconds = 900.0
    """Seconds without progress after which a step is stopped and tried again."""
    cluster: ClusterProfile = ClusterProfile()
    """What the pods of a cluster are given; the local backend does not look at it."""

    def for_launcher(self) -> str:
        """Return as JSON what the launcher of a step needs."""
        return self.model_dump_json(exclude={"cluster"})

    def with_shape(self, shape: str | None) -> Self:
        """Return the placement with `NODESxGPUS` put in.

        Raises:
            UsageError: not of that form.
        """
        if shape is None:
            return self
        match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", shape)
        if match is None:
            raise UsageError(f"-j {shape}: expected NODESxGPUS, for example 2x4")
        nodes, processes = (int(number) for number in match.groups())
        return self.model_copy(update={"nodes": nodes, "processes_per_node": processes})
