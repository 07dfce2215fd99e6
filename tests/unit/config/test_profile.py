"""What a cluster's profile says about folders and secrets."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hbseg.config.profile import ClusterProfile, Volume

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


def test_a_secret_in_the_environment_is_refused_with_the_key_that_takes_it() -> None:
    with pytest.raises(ValidationError, match=r"secret_environment: \{WANDB_API_KEY: \{secret: S"):
        ClusterProfile(environment={"WANDB_API_KEY": "abcdef0123456789"})
    with pytest.raises(ValidationError, match="NOTE looks like a secret") as refused:
        ClusterProfile(environment={"NOTE": "ghp_" + "a1" * 18})
    assert "a1a1" not in str(refused.value.errors()[0]["msg"])

    ClusterProfile(environment={"HF_TOKEN_PATH": "/etc/hf/token", "HF_HUB_DISABLE_TELEMETRY": "1"})
