from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from botocore import utils
from hypothesis import given
from hypothesis import strategies as st

from hbseg.errors import DeniedError
from hbseg.storage.s3 import new_session, parse_timestamp, s3_client

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
