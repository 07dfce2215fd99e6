"""The settings that a namespace holds for all who work in it: the chart's ConfigMap."""

from __future__ import annotations

from typing import Final

from hbseg import __version__
from hbseg.cluster.objects import Object
from hbseg.cluster.requests.client import Cluster
from hbseg.cluster.requests.resources import CONFIG_MAP
from hbseg.config.settings import FILE, SettingsFile, SharedSettings
from hbseg.errors import SpecError

NAME: Final = "hbseg-profile"
"""Name of the ConfigMap; its key is called as the file, `hbseg.yaml`."""
VERSION_LABEL: Final = "app.kubernetes.io/version"
SAME_VERSION: Final = "install the same version in both places"


def find_settings(cluster: Cluster) -> SharedSettings | None:
    """Return the settings of the namespace; none where it has no chart of hbseg.

    Raises:
        DeniedError, UnreachableError: the cluster does not show them.
        SpecError: they are not valid for this version of hbseg.
    """
    found = cluster.find(CONFIG_MAP, NAME)
    return None if found is None else parsed_settings(found, cluster.namespace)


def parsed_settings(config_map: Object, namespace: str) -> SharedSettings:
    """Return the settings in the ConfigMap. Raises SpecError."""
    source = f"ConfigMap {NAME} of namespace {namespace}"
    version = chart_version(config_map)
    text = (config_map.get("data") or {}).get(FILE)
    if text is None:
        raise SpecError(f"{source} has no key {FILE}", "install the chart again")
    try:
        block = SettingsFile.from_text(text, source=source)
        return SharedSettings(block, source, version)
    except SpecError as error:
        if version in (None, __version__):
            raise
        text = f"the chart is of hbseg {version}, here is {__version__}: {error.message}"
        raise SpecError(text, SAME_VERSION) from None


def chart_version(config_map: Object) -> str | None:
    """Return the version of hbseg that the chart of a namespace is of; none if it is not told."""
    labels = (config_map.get("metadata") or {}).get("labels") or {}
    version = labels.get(VERSION_LABEL)
    return None if version is None else str(version)
