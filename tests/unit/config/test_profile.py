"""What a cluster's profile says about folders and secrets."""

from __future__ import annotations

import pytest

from hbseg.config.profile import ClusterProfile, Volume
from hbseg.config.secrets import is_secret_name, is_secret_value

PROFILE = ClusterProfile(volumes=(Volume(claim="hands", path="/pictures"),))


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("s3://bucket/pictures", True),
        ("/pictures", True),
        ("/pictures/raw", True),
        ("/picturesque", False),
        ("/", False),
        ("/home/me/pictures", False),
    ],
)
def test_pods_see_s3_and_what_lies_below_their_volumes(url: str, seen: bool) -> None:
    assert PROFILE.sees(url) == seen
    assert ClusterProfile().sees(url) == url.startswith("s3://")


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("DB_PASSWORD", True),
        ("hf_token", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("PRIVATEKEY", True),
        ("TOKENIZERS_PARALLELISM", False),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", False),
        ("NCCL_SOCKET_IFNAME", False),
    ],
)
def test_a_secret_is_told_by_its_name_unless_it_is_in_a_file(name: str, secret: bool) -> None:
    assert is_secret_name(name) == secret


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("AKIA" + "Z" * 16, True),
        ("https://me:x@host/", True),
        ("-----BEGIN PRIVATE KEY-----", True),
        ("https://host:443/", False),
        ("AKIA", False),
    ],
)
def test_a_secret_is_told_by_its_value(value: str, secret: bool) -> None:
    assert is_secret_value(value) == secret
