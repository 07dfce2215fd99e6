from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from botocore import utils
from hypothesis import given
from hypothesis import strategies as st

from hbseg.errors import DeniedError, UsageError
from hbseg.storage.s3_connection import connect, new_session, parse_timestamp, s3_client
from tests.tls import Authority

CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")
URL = "https://s3.team"
MOMENTS = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(MOMENTS)
def test_both_forms_of_s3_are_read_as_botocore_reads_them(time: datetime) -> None:
    header = format_datetime(time, usegmt=True)
    listed = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    for text in (header, listed):
        assert parse_timestamp(text) == utils.parse_timestamp(text)
        assert parse_timestamp(text).utcoffset() == timedelta(0)
    assert time - parse_timestamp(header) < timedelta(seconds=1)


@pytest.mark.parametrize(
    "value", [1_700_000_000, 1_700_000_000.5, "1700000000", "2026-03-01T12:00:00+01:00"]
)
def test_other_forms_are_left_to_botocore(value: object) -> None:
    assert parse_timestamp(value) == utils.parse_timestamp(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "soon", "soon GMT", "2026-99-99T00:00:00Z"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_timestamp(text)


def test_sessions_share_what_botocore_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DATA_PATH", raising=False)
    first, second = (new_session().get_component("data_loader") for _ in range(2))
    assert first is second
    assert first is not None

    monkeypatch.setenv("AWS_DATA_PATH", "/elsewhere")
    assert new_session().get_component("data_loader") is not first


def test_a_profile_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(DeniedError, match=r"S3 settings are not usable \(ProfileNotFound\)"):
        s3_client()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment that says nothing of AWS but where its config file is, which is empty."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "HBSEG_S3_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    path = tmp_path / "config"
    path.write_text("")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return path


def checksums() -> list[str]:
    config = s3_client().meta.config
    return [getattr(config, name) for name in CHECKSUMS]


ENDPOINTS: dict[str, tuple[Mapping[str, str], str]] = {
    "variable": ({"AWS_ENDPOINT_URL": URL}, ""),
    "variable of the service": ({"AWS_ENDPOINT_URL_S3": URL}, ""),
    "config file": ({}, f"[default]\nendpoint_url = {URL}\n"),
    "profile": ({"AWS_PROFILE": "lab"}, f"[profile lab]\nendpoint_url = {URL}\n"),
    "services": (
        {},
        f"[default]\nservices = lab\n[services lab]\ns3 =\n  endpoint_url = {URL}\n",
    ),
}


@pytest.mark.parametrize("place", ENDPOINTS)
def test_an_endpoint_gets_no_checksums_wherever_it_is_set(
    settings: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    variables, file = ENDPOINTS[place]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings.write_text(file)

    assert s3_client().meta.endpoint_url == URL
    assert checksums() == ["when_required"] * 2

    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert s3_client().meta.endpoint_url != URL
    assert checksums() == ["when_supported"] * 2


@pytest.mark.usefixtures("settings")
def test_without_an_endpoint_checksums_are_botocores() -> None:
    assert checksums() == ["when_supported"] * 2


def test_who_sets_checksums_gets_them(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", URL)
    settings.write_text("[default]\nresponse_checksum_validation = when_supported\n")
    assert checksums() == ["when_required", "when_supported"]

    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    assert checksums() == ["when_supported"] * 2


@pytest.mark.parametrize(
    ("value", "file", "style"),
    [
        ("", "", None),
        ("auto", "", None),
        ("auto", "[default]\ns3 =\n  addressing_style = virtual\n", "virtual"),
        ("path", "[default]\ns3 =\n  addressing_style = virtual\n", "path"),
        ("virtual", "", "virtual"),
    ],
)
def test_addressing_is_boto3s_unless_the_variable_says_otherwise(
    settings: Path, monkeypatch: pytest.MonkeyPatch, value: str, file: str, style: str | None
) -> None:
    settings.write_text(file)
    monkeypatch.setenv("HBSEG_S3_ADDRESSING", value)

    assert (s3_client().meta.config.s3 or {}).get("addressing_style") == style  # type: ignore[attr-defined]


@pytest.mark.usefixtures("settings")
def test_another_addressing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HBSEG_S3_ADDRESSING", "Path")

    with pytest.raises(UsageError) as error:
        s3_client()
    assert str(error.value) == "HBSEG_S3_ADDRESSING is 'Path', expected auto, path or virtual"
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("variable", "content", "words"),
    [
        (
            "AWS_CA_BUNDLE",
            None,
            r"AWS_CA_BUNDLE is \S+/ca\.pem, which cannot be read \(No such file",
        ),
        ("AWS_CA_BUNDLE", "", r"AWS_CA_BUNDLE is \S+/ca\.pem, which has no certificate in PEM"),
        ("AWS_CA_BUNDLE", "nonsense", r"\S+/ca\.pem, which has no certificate in PEM"),
        ("AWS_CA_BUNDLE", "-----BEGIN CERTIFICATE-----\nx", r"which has no certificate in PEM"),
        ("REQUESTS_CA_BUNDLE", "", r"REQUESTS_CA_BUNDLE is \S+/ca\.pem, which has no"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_a_bundle_that_cannot_be_used_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    content: str | None,
    words: str,
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(variable, str(path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", URL)

    with pytest.raises(DeniedError, match=words) as error:
        s3_client()
    assert error.value.exit_code == 4
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.team")
    assert connect().ca_bundle is None  # without TLS nobody is to be trusted


def test_a_bundle_of_the_config_file_is_named_as_such(settings: Path) -> None:
    settings.write_text("[default]\nca_bundle = /no/ca.pem\n")

    with pytest.raises(
        DeniedError, match=r"ca_bundle of the AWS config file is /no/ca\.pem, which"
    ):
        s3_client()


def test_a_bundle_is_handed_on(
    settings: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = Authority.make(tmp_path).certificate
    settings.write_text("[default]\nca_bundle = /no/ca.pem\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/other.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))

    assert connect().ca_bundle == path
