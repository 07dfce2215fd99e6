from __future__ import annotations

import pytest

from hbseg.names import nearest

KNOWN = ("stage1", "infer", "Report")


@pytest.mark.parametrize(
    ("name", "near"), [("stage3", "stage1"), ("INFER", "infer"), ("reports", "Report")]
)
def test_the_nearest_name_is_suggested_as_it_is_written_whatever_its_case(
    name: str, near: str
) -> None:
    assert nearest(name, KNOWN) == f"did you mean {near}?"


@pytest.mark.parametrize("name", ["", "xyz", "stage" * 100])
def test_where_none_is_near_all_are_listed_in_their_order(name: str) -> None:
    assert nearest(name, KNOWN) == "expected one of stage1, infer, Report"
    assert nearest(name, KNOWN, otherwise="expected a step") == "expected a step"
