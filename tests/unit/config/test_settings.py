from pathlib import Path

import pytest

from hbseg.config.kubernetes_types import given
from hbseg.config.settings import Settings, SettingsFile, SharedSettings, load_settings
from hbseg.errors import SpecError, UsageError


def load(tmp_path: Path, **given_: object) -> Settings:
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config"), **dict(given_.pop("env", {}))}  # type: ignore[call-overload]
    return load_settings(
        dict(given_.pop("flags", {})),  # type: ignore[call-overload]
        profile=given_.pop("profile", None),  # type: ignore[arg-type]
        environment=environment,
        folder=tmp_path,
        shared=given_.get("shared"),  # type: ignore[arg-type]
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_flag_comes_before_environment_here_user_and_built_in(tmp_path: Path) -> None:
    user, here = tmp_path / "config/hbseg/hbseg.yaml", tmp_path / "hbseg.yaml"

    assert load(tmp_path).get("backend") == "kubernetes"
    write(user, "backend: local\n")
    assert load(tmp_path).get("backend") == "local"
    write(here, "backend: one\n")
    assert load(tmp_path).get("backend") == "one"
    assert load(tmp_path, env={"HBSEG_BACKEND": "two"}).get("backend") == "two"
    settings = load(tmp_path, env={"HBSEG_BACKEND": "two"}, flags={"backend": "three"})
    assert settings.get("backend") == "three"
    assert settings.found["backend"].source == "--backend"


def test_a_flag_that_was_not_given_hides_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, flags={"backend": None}).get("backend") == "kubernetes"


def test_a_profile_comes_before_the_files_own_values(tmp_path: Path) -> None:
    write(tmp_path / "hbseg.yaml", "runs: s3://a/runs\nprofiles:\n  lab: {runs: 's3://b/runs'}\n")

    assert load(tmp_path).get("runs") == "s3://a/runs"
    assert load(tmp_path, profile="lab").get("runs") == "s3://b/runs"
    assert load(tmp_path, env={"HBSEG_PROFILE": "lab"}).get("runs") == "s3://b/runs"
    with pytest.raises(SpecError, match=r"no profile 'lob'.*profiles there: lab"):
        load(tmp_path, profile="lob")


def test_a_relative_folder_counts_from_its_file(tmp_path: Path) -> None:
    write(tmp_path / "hbseg.yaml", "runs: ./runs\ndata: s3://a/data\nstate: /state\n")

    settings = load(tmp_path)

    assert settings.get("runs") == str(tmp_path / "runs")
    assert settings.get("data") == "s3://a/data"
    assert settings.get("state") == "/state"


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "hbseg.yaml", "profiles:\n  lab: {rns: x}\n")

    with pytest.raises(SpecError, match=r"unknown key profiles\.lab\.rns; did you mean runs\?"):
        load(tmp_path)


def test_what_is_needed_and_not_there_says_how_to_give_it(tmp_path: Path) -> None:
    write(tmp_path / "hbseg.yaml", "")

    with pytest.raises(UsageError, match="give --data, or set HBSEG_DATA"):
        load(tmp_path).need("data")


def test_a_clusters_keys_count_one_by_one(tmp_path: Path) -> None:
    user, here = tmp_path / "config/hbseg/hbseg.yaml", tmp_path / "hbseg.yaml"
    write(user, "cluster: {image: 'user:1', queue: team-a, environment: {A: '1', B: '2'}}\n")
    write(
        here,
        "cluster: {image: 'here:1', environment: {C: '3'}}\n"
        "profiles: {spot: {cluster: {tolerations: [{key: spot}], cpu_per_process: 500m}}}\n",
    )

    cluster = load(tmp_path).cluster
    spot = load(tmp_path, profile="spot").cluster

    assert (cluster.image, cluster.queue) == ("here:1", "team-a")
    assert cluster.environment == {"A": "1", "B": "2", "C": "3"}
    assert cluster.cpu_per_process == "4"
    assert (spot.image, spot.cpu_per_process) == ("here:1", "500m")
    assert spot.tolerations[0].key == "spot"
    assert load(tmp_path, env={"HBSEG_IMAGE": "mine:2"}).cluster.image == "mine:2"
    assert load(tmp_path, env={"HBSEG_IMAGE": ""}).cluster.image == "here:1"


def test_a_clusters_keys_have_their_sources(tmp_path: Path) -> None:
    here = tmp_path / "hbseg.yaml"
    write(here, "cluster: {image: 'here:1', tolerations: [{key: spot}]}\n")

    found = load(tmp_path).found

    assert "cluster.queue" not in found
    assert (found["cluster.image"].value, found["cluster.image"].source) == ("here:1", str(here))
    assert '"key": "spot"' in found["cluster.tolerations"].value
    settings = load(tmp_path, env={"HBSEG_IMAGE": "mine:2"})
    assert settings.found["cluster.image"].source == "HBSEG_IMAGE"


def test_an_unknown_key_of_the_cluster_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "hbseg.yaml", "cluster: {que: team-a}\n")
    with pytest.raises(SpecError, match=r"unknown key cluster\.que; did you mean queue\?"):
        load(tmp_path)


@pytest.mark.parametrize(
    "block",
    ["environment: {AWS_SECRET_ACCESS_KEY: hush}", "s3_endpoint: 'https://me:hush@s3.example'"],
)
def test_a_secret_in_the_profile_is_refused_and_not_repeated(tmp_path: Path, block: str) -> None:
    write(tmp_path / "hbseg.yaml", f"cluster: {{{block}}}\n")

    with pytest.raises(SpecError, match="Secret") as refused:
        load(tmp_path)

    assert "hush" not in str(refused.value)


def test_what_the_namespace_shares_comes_below_all_that_is_set_here(tmp_path: Path) -> None:
    write(tmp_path / "hbseg.yaml", "cluster: {queue: mine, environment: {A: '1', PROXY: null}}\n")
    block = SettingsFile.from_text(
        "{runs: s3://team/runs, data: s3://team/data, "
        "cluster: {image: 'team:1', queue: theirs, environment: {PROXY: 'http://proxy'}}}",
        source="x",
    )
    shared = SharedSettings(block, "ConfigMap hbseg-profile of namespace hands")

    settings = load(tmp_path, env={"HBSEG_DATA": "s3://mine/data"}, shared=shared)

    assert settings.get("runs") == "s3://team/runs"
    assert settings.found["runs"].source == "ConfigMap hbseg-profile of namespace hands"
    assert settings.get("data") == "s3://mine/data"
    assert (settings.cluster.image, settings.cluster.queue) == ("team:1", "mine")
    assert given(settings.cluster.environment) == {"A": "1"}
    assert settings.found["cluster.image"].source == shared.source
    assert settings.found["cluster.queue"].source == str(tmp_path / "hbseg.yaml")
    assert settings.found["cluster.environment.A"].value == "1"


def test_an_image_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"HBSEG_IMAGE is 'an image', expected REGISTRY/NAME"):
        load(tmp_path, env={"HBSEG_IMAGE": "an image"})
