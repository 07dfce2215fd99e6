"""Which variables of a profile look like secrets."""

from __future__ import annotations

import pytest

from hbseg.config.secrets import is_secret

ANY = "abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "GIT_PAT",
        "GH_PAT",
        "MLFLOW_TRACKING_PASS",
        "MLFLOW_TRACKING_PASSWORD",
        "APIKEY",
        "PRIVATEKEY",
        "apiKey",
        "API_KEY_2",
        "MY_PWD",
        "DB_PASSWORD",
        "PGPASSWORD",
        "SECRET",
        "SECRET_VALUE",
        "CLIENT_SECRET",
        "BASIC_AUTH",
        "hf_token",
        "hfToken",
        "HF_TOKEN",
        "AUTHTOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ],
)
def test_a_name_with_a_word_for_a_secret_is_one(name: str) -> None:
    assert is_secret(name, ANY)


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM",
        "KEYBOARD",
        "MONKEY",
        "KEY_PREFIX",
        "PATH_TO_KEYS_DIR",
        "PATTERN",
        "COMPASS",
        "AUTHOR",
        "NCCL_SOCKET_IFNAME",
        "NCCL_IB_PKEY",
        "SECRET_NAME",
        "TOKEN_URL",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "HF_TOKEN_PATH",
        "PASSWORD_FILE",
        "_",
        "",
    ],
)
def test_other_names_are_none(name: str) -> None:
    assert not is_secret(name, ANY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/gcp/key.json"),
        ("MY_TOKEN", "~/.token"),
        ("SIGNING_KEY", "./keys/signing.pem"),
        ("CREDENTIALS", "s3://team/keys.json"),
        ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        ("USE_AUTH", "true"),
        ("SKIP_PASSWORD", "1"),
        ("MAX_NEW_TOKENS", "4096"),
        ("PASSWORD_LENGTH", "12"),
        ("HF_TOKEN", ""),
    ],
)
def test_a_path_a_switch_or_a_number_is_no_secret(name: str, value: str) -> None:
    assert is_secret(name, ANY)
    assert not is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWORD", "123456"),
        ("AWS_SECRET_ACCESS_KEY", "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM"),
        ("API_KEY", "abc/def+ghi="),
        ("API_KEY", "/abc+def/ghi="),
    ],
)
def test_a_value_that_only_resembles_a_number_or_a_path_is_one(name: str, value: str) -> None:
    assert is_secret(name, value)


@pytest.mark.parametrize(
    "value",
    [
        "AKIA" + "Z" * 16,
        "key: AKIA" + "Z" * 16,
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1" * 20,
        "glpat-" + "a1" * 10,
        "hf_" + "aB" * 17,
        "sk-" + "a1" * 20,
        "sk-proj-" + "a1" * 20,
        "xoxb-" + "1" * 12,
        "AIza" + "a" * 35,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "https://me:x@host/",
        "postgres://me:x@host/db",
        "redis://:x@host",
        "https://sometoken@host/repository.git",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_a_value_in_the_form_of_a_key_is_one_whatever_the_name(value: str) -> None:
    for name in ("NOTE", "HF_TOKEN_PATH", "_"):
        assert is_secret(name, value)


@pytest.mark.parametrize(
    "value",
    [
        "https://host:443/",
        "http://s3.team:9000/a@b",
        "ssh://git@host/repository.git",
        "me@host",
        "AKIA",
        "task-force-of-the-whole-department",
        "sk-learn-random-forest-v2",
        "hf_transfer",
        "eyJ",
        "0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_other_values_are_none(value: str) -> None:
    assert not is_secret("NOTE", value)
