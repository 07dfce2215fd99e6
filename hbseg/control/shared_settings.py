"""The settings that a cluster's namespace holds for all who work in it, for a command."""

from __future__ import annotations

from hbseg import __version__
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.shared_settings import SAME_VERSION, find_settings
from hbseg.config.settings import SharedSettings
from hbseg.control.waiting import Tell


def read_shared(namespace: str | None, context: str | None, *, tell: Tell) -> SharedSettings | None:
    """Return the settings of a namespace; none where it has no chart of hbseg.

    `tell` gets a warning where the chart is of another version of hbseg.

    Raises:
        UsageError: the kubeconfig cannot be used, or has no such context.
        DeniedError, UnreachableError: the cluster does not show them.
        SpecError: they are not valid for this version of hbseg.
    """
    found = find_settings(Cluster.connect(namespace=namespace, context=context))
    if found is not None and found.version not in (None, __version__):
        text = f"the chart is of hbseg {found.version}, here is {__version__}"
        tell(f"warning: {text}; {SAME_VERSION}")
    return found
