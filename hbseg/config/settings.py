"""Settings that commands share, and where each one comes from.

A flag comes before the environment (`HBSEG_DATA`), that before `hbseg.yaml` in the working folder,
that before `hbseg.yaml` in the user's configuration folder, that before the profile of the
cluster's namespace, and all before what is built in. A profile is a named set of settings in a
file; it comes before what the files say outside of profiles.

    runs: s3://team/hbseg/runs
    cluster: {credentials_secret: hbseg-s3, queue: team-a}
    profiles:
      laptop: {backend: local, data: ./data, runs: ./runs}

Blocks and mappings below `cluster:` are merged key by key (`hbseg.config.profile`); a list or a
value replaces another as a whole. `HBSEG_IMAGE` comes before `cluster.image`.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import ValidationError

from hbseg.config.profile import ClusterProfile, laid
from hbseg.documents import Block, Document
from hbseg.errors import SpecError, UsageError

FILE: Final = "hbseg.yaml"
IMAGE: Final = "HBSEG_IMAGE"
"""Environment variable with the image of the steps."""
BUILT_IN: Final = {"backend": "kubernetes", "run": "main"}


class SettingsBlock(Block):
    """What may be set; a relative folder counts from the file in which it stands."""

    data: str | None = None
    """URL of the datasets."""
    runs: str | None = None
    """URL of the runs."""
    backend: str | None = None
    """`kubernetes` or `local`."""
    state: str | None = None
    """Folder of the local backend's state."""
    run: str | None = None
    """Name of the run where none is given."""
    namespace: str | None = None
    """Namespace of the cluster."""
    context: str | None = None
    """Context of the cluster's configuration."""
    cluster: ClusterProfile = ClusterProfile()
    """What the pods of a cluster are given."""


NAMES: Final = tuple(name for name in SettingsBlock.model_fields if name != "cluster")
_FOLDERS: Final = ("data", "runs", "state")


class SettingsFile(Document, SettingsBlock):
    """`hbseg.yaml`."""

    by_people = True

    kind: Literal["Settings"] = "Settings"
    profiles: dict[str, SettingsBlock] = {}
    """Named sets of settings, for `--profile` or `HBSEG_PROFILE`."""


class Setting(NamedTuple):
    """A value and its source, for people to read."""

    value: str
    source: str


class SharedSettings(NamedTuple):
    """What the namespace of a cluster says for all who work in it."""

    block: SettingsBlock
    source: str
    """For people to read."""
    version: str | None = None
    """Version of hbseg that wrote them."""


class Settings(NamedTuple):
    """The settings of one command."""

    found: Mapping[str, Setting]
    """Those that are set, by their names; a key of the cluster's block is `cluster.<key>`."""
    cluster: ClusterProfile = ClusterProfile()
    """What the pods of a cluster are given."""

    def get(self, name: str) -> str | None:
        """Return a setting's value, or none."""
        setting = self.found.get(name)
        return None if setting is None else setting.value

    def need(self, name: str) -> str:
        """Return a setting's value. Raises UsageError where it is not set anywhere."""
        value = self.get(name)
        if value is None:
            raise UsageError(
                f"no {name} given",
                f"give --{name}, or set HBSEG_{name.upper()}, or {name}: in {FILE}",
            )
        return value


def load_settings(
    flags: Mapping[str, str | None],
    *,
    profile: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    shared: SharedSettings | None = None,
) -> Settings:
    """Return the settings; `flags` are those given to the command, by the settings' names.

    `shared` are the settings of the cluster's namespace, below all that is set here.

    Raises:
        SpecError: a file is not valid, or no file has the profile.
        UsageError: HBSEG_IMAGE is no name of an image.
    """
    environment = os.environ if environment is None else environment
    profile = profile or environment.get("HBSEG_PROFILE") or None
    paths = [(folder or Path.cwd()) / FILE, user_folder(environment) / FILE]
    files = {path: _read(path) for path in paths if path.is_file()}
    _check_profile(profile, files)
    found = {name: Setting(value, "built in") for name, value in BUILT_IN.items()}
    cluster = ClusterProfile()
    if shared is not None:
        found.update(_strings(shared.block, shared.source))
        cluster = _lay(found, cluster, shared.block.cluster, shared.source)
    for block, path, source in _blocks(files, profile):
        found.update(_of_block(block, path, source))
        cluster = _lay(found, cluster, block.cluster, source)
    for name in NAMES:
        variable = f"HBSEG_{name.upper()}"
        if environment.get(variable):
            found[name] = Setting(environment[variable], variable)
        flag = flags.get(name)
        if flag is not None:
            found[name] = Setting(flag, f"--{name}")
    if image := environment.get(IMAGE):
        cluster = _lay(found, cluster, _of_image(image), IMAGE)
    return Settings(found, cluster)


def _of_image(image: str) -> ClusterProfile:
    try:
        return ClusterProfile(image=image)
    except ValidationError:
        expected = "expected REGISTRY/NAME:TAG, or REGISTRY/NAME@sha256:DIGEST"
        raise UsageError(f"{IMAGE} is {image!r:.80}, {expected}") from None


def _blocks(
    files: Mapping[Path, SettingsFile], profile: str | None
) -> Iterator[tuple[SettingsBlock, Path, str]]:
    """Yield each block with its file and its source in words; a later one comes before."""
    for path, file in reversed([*files.items()]):
        yield file, path, str(path)
    for path, file in reversed([*files.items()]):
        if profile is not None and profile in file.profiles:
            yield file.profiles[profile], path, f"{path}, profile {profile}"


def _lay(
    found: dict[str, Setting], base: ClusterProfile, over: ClusterProfile, source: str
) -> ClusterProfile:
    """Return `base` with `over` laid on it; note in `found` each value that it sets."""
    values = over.model_dump(mode="json", exclude_unset=True, by_alias=True)
    for key, value in _leaves(values, "cluster"):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found[key] = Setting(text, source)
    return laid(base, over)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    elif value != {} or path != "cluster":
        yield path, value


def user_folder(environment: Mapping[str, str]) -> Path:
    """Return the user's configuration folder for hbseg; it need not exist."""
    if base := environment.get("XDG_CONFIG_HOME"):
        return Path(base) / "hbseg"
    try:
        return Path.home() / ".config" / "hbseg"
    except RuntimeError:  # a user without a home
        return Path("/nonexistent")


def _read(path: Path) -> SettingsFile:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path} cannot be read ({error.strerror})") from None
    if not text.strip():
        return SettingsFile()
    return SettingsFile.from_text(text, source=str(path))


def _check_profile(profile: str | None, files: Mapping[Path, SettingsFile]) -> None:
    known = sorted({name for file in files.values() for name in file.profiles})
    if profile is not None and profile not in known:
        named = ", ".join(known) or "none"
        raise SpecError(f"no profile {profile!r:.60} in {FILE}; profiles there: {named}")


def _of_block(block: SettingsBlock, path: Path, source: str) -> dict[str, Setting]:
    return {
        name: Setting(_from_file(name, setting.value, path), source)
        for name, setting in _strings(block, source).items()
    }


def _strings(block: SettingsBlock, source: str) -> dict[str, Setting]:
    values = {name: getattr(block, name) for name in NAMES}
    return {name: Setting(value, source) for name, value in values.items() if value is not None}


def _from_file(name: str, value: str, path: Path) -> str:
    if name not in _FOLDERS or "://" in value:
        return value
    return os.path.normpath(path.parent / Path(value).expanduser())
