from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbseg.system.clock import document_time, now, parse, z_time

NOON = datetime(2026, 1, 31, 13, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=1)))
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timedelta(minutes=minutes))
MOMENTS = st.datetimes(
    datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.builds(timezone, OFFSETS)
)


def test_documents_logs_events_and_leases_have_their_forms_whatever_the_zone() -> None:
    assert document_time(NOON) == "2026-01-31T12:00:00+00:00"
    assert z_time(NOON) == "2026-01-31T12:00:00.123Z"
    assert z_time(NOON, "seconds") == "2026-01-31T12:00:00Z"
    assert z_time(NOON, "microseconds") == "2026-01-31T12:00:00.123456Z"


def test_now_is_a_document_s_time_of_this_machine() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    text = now()

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", text)
    assert before <= parse(text) <= datetime.now(UTC)


@given(MOMENTS)
def test_every_form_is_read_as_the_moment_that_it_tells(moment: datetime) -> None:
    for text in (z_time(moment, "microseconds"), moment.isoformat()):
        assert parse(text) == moment
        assert parse(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text", ["", "soon", "None", "2026-99-99T00:00:00Z", "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat|month must be|years 1 to 9999"):
        parse(text)
