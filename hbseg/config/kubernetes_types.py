"""Values that Kubernetes reads, as types that refuse what it would refuse, or take and break on."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from hbseg.config.secrets import is_secret

MAX_LABEL: Final = 63
"""Characters of a label's value, and of a host name."""
OUR_PREFIXES: Final = (
    "hbseg.io/",
    "training.kubeflow.org/",
    "batch.kubernetes.io/",
    "kueue.x-k8s.io/",
    "pod-security.kubernetes.io/",
)
"""Labels and annotations that hbseg or a controller sets and reads."""
OUR_LABELS: Final = frozenset(
    f"app.kubernetes.io/{name}" for name in ("name", "part-of", "managed-by")
)
CA_FOLDER: Final = "/etc/hbseg-ca"
"""Where pods find the certificates of `ca_bundle`."""

# Patterns are texts: `re` compiles one when it is first used, and most commands use none.
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_LABEL_KEY: Final = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_LABEL_VALUE: Final = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_OUR_VARIABLES: Final = (
    r"HOME|USER|LD_PRELOAD|PYTHONHOME|MASTER_(ADDR|PORT)|WORLD_SIZE|(LOCAL_|GROUP_|ROLE_)?RANK"
    r"|LOCAL_WORLD_SIZE|PET_.*|HBSEG_(NODES?|TERMINATION_LOG)"
    r"|HBSEG_(BACKEND|CONTEXT|DATA|IMAGE|NAMESPACE|PROFILE|RUNS?|STATE)"
)
"""What the launcher, torchrun, the operator or the runner need as it is."""
_SYSTEM_FOLDERS: Final = tuple(
    PurePosixPath(path)
    for path in (
        *("/bin", "/boot", "/dev", "/etc/hbseg", CA_FOLDER, "/lib", "/lib64", "/proc", "/run"),
        *("/opt/hbseg", "/sbin", "/sys", "/usr/bin", "/usr/lib", "/usr/local", "/var/run"),
    )
)
"""Folders of the image, of the kernel, or of the pod's spec."""
_OWN_FOLDERS: Final = (PurePosixPath("/scratch"), PurePosixPath("/tmp"))  # noqa: S108
"""Volumes that each pod has, and that may hold others."""


def _number_as_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _above_zero(quantity: str) -> str:
    if not re.match(r"[0.]*[1-9]", quantity):
        raise ValueError(f"expected more than 0, found {quantity}")
    return quantity


_QuantityText = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|[MGTP]|[KMGTP]i)?$", max_length=20)]
_LimitText = Annotated[
    str, Field(pattern=r"^(request|\d+(\.\d+)?(m|k|[MGTP]|[KMGTP]i)?)$", max_length=20)
]
Quantity = Annotated[
    _QuantityText,
    BeforeValidator(_number_as_text, json_schema_input_type=_QuantityText | int | float),
    AfterValidator(_above_zero),
]
"""A Kubernetes quantity above 0: cores (`500m`, `4`) or bytes (`16Gi`)."""
Limit = Annotated[
    _LimitText, BeforeValidator(_number_as_text, json_schema_input_type=_LimitText | int | float)
]
"""A quantity, or `request` for as much as is asked for."""
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
"""Name of an object of the cluster."""
DataKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
"""Key in the data of a Secret or a ConfigMap."""
ResourceName = Annotated[
    str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9][-A-Za-z0-9_.]*$")
]
"""Name of a resource that nodes offer, e.g. `nvidia.com/gpu`, `hugepages-2Mi`."""
Image = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*(@sha256:[0-9a-f]{64})?$", max_length=512)
]
"""Reference of an image: `REGISTRY/NAME:TAG`, or `REGISTRY/NAME@sha256:DIGEST`."""


def check_mount_path(path: str) -> str:
    """Return where a volume may be mounted. Raises ValueError where it would hide needed files."""
    folder = PurePosixPath(re.sub("^//+", "/", path))
    if not folder.is_absolute() or ".." in folder.parts or ":" in path:
        raise ValueError(f"expected an absolute path without `..` and `:`, found {path!r:.80}")
    above = [own for own in (*_SYSTEM_FOLDERS, *_OWN_FOLDERS) if own.is_relative_to(folder)]
    for own in (*above, *(own for own in _SYSTEM_FOLDERS if folder.is_relative_to(own))):
        raise ValueError(f"{path} would hide files of {own}, which pods need; mount it elsewhere")
    return str(folder)


MountPath = Annotated[str, AfterValidator(check_mount_path)]
"""Absolute path of a volume in a pod."""


def _sub_path(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or not path:
        raise ValueError(f"expected a relative path without `..`, found {path!r:.80}")
    return path


SubPath = Annotated[str, AfterValidator(_sub_path)]
"""Folder of a volume, relative to its root."""


def is_our_key(key: str) -> bool:
    """Return whether hbseg or a controller sets a label or annotation of this name."""
    return key.startswith(OUR_PREFIXES) or key in OUR_LABELS


def is_our_variable(name: str) -> bool:
    """Return whether an environment variable is set for the launcher and torchrun."""
    return re.fullmatch(_OUR_VARIABLES, name) is not None


def _own_keys(named: dict[str, str | None]) -> dict[str, str | None]:
    for key in named:
        if is_our_key(key):
            raise ValueError(f"{key} is set by hbseg or a controller; use a key of your own")
    return named


def _labels(labels: dict[str, str | None]) -> dict[str, str | None]:
    for key, value in _keys(labels).items():
        if value is not None and not (
            len(value) <= MAX_LABEL and re.fullmatch(_LABEL_VALUE, value)
        ):
            expected = f"at most {MAX_LABEL} of a-z, 0-9, - _ and ."
            raise ValueError(f"label {key} is {value!r:.80}, expected {expected}")
    return labels


def _label_key(key: str) -> str:
    if not re.fullmatch(_LABEL_KEY, key):
        raise ValueError(f"{key!r:.80} is no key, expected PREFIX/NAME or NAME")
    return key


def _keys(named: dict[str, str | None]) -> dict[str, str | None]:
    for key in named:
        _label_key(key)
    return named


def _variables(names: dict[str, Any]) -> dict[str, Any]:
    for name in names:
        if not re.fullmatch(_VARIABLE, name):
            raise ValueError(f"{name!r:.60} is no name of an environment variable")
        if is_our_variable(name):
            raise ValueError(f"{name} is set for the launcher and torchrun; take it out")
    return names


def _without_secrets(environment: dict[str, str | None]) -> dict[str, str | None]:
    for name, value in environment.items():
        if value is not None and is_secret(name, value):
            raise ValueError(
                f"{name} looks like a secret, and manifests show it: put it into a Secret, and "
                f"set cluster.secret_environment: {{{name}: {{secret: S, key: K}}}}"
            )
    return environment


LabelKey = Annotated[str, AfterValidator(_label_key)]
"""Name of a label."""
NodeLabels = Annotated[dict[str, str | None], AfterValidator(_labels)]
"""Labels of nodes; null takes one out that a wider layer sets."""
Labels = Annotated[dict[str, str | None], AfterValidator(_labels), AfterValidator(_own_keys)]
"""Labels; null takes one out that a wider layer sets."""
Annotations = Annotated[dict[str, str | None], AfterValidator(_keys), AfterValidator(_own_keys)]
"""Annotations; null takes one out that a wider layer sets."""
Environment = Annotated[
    dict[str, str | None], AfterValidator(_variables), AfterValidator(_without_secrets)
]
"""Environment variables; null takes one out that a wider layer sets."""
VariableNames = AfterValidator(_variables)
"""Checks the keys of a mapping as names of environment variables."""


def given(mapping: dict[str, str | None]) -> dict[str, str]:
    """Return the keys that have a value."""
    return {key: value for key, value in mapping.items() if value is not None}
