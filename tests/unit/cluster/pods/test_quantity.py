from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbseg.cluster.pods.quantity import amount, cores, memory


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("4", 4), ("500m", Fraction(1, 2)), ("1.5Gi", 3 * 2**29), ("2k", 2000), ("1Ki", 1024)],
)
def test_a_quantity_means_a_number(quantity: str, number: Fraction) -> None:
    assert amount(quantity) == number


@pytest.mark.parametrize("quantity", ["", "Gi", "4GiB", "4 Gi", "-1", "1e3", "4ki"])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        amount(quantity)


def test_cores_of_several_processes_are_whole_or_thousandths() -> None:
    assert cores("4", 4) == "16"
    assert cores("500m", 4) == "2"
    assert cores("500m", 3) == "1500m"
    assert cores("0.3333", 1) == "334m"


def test_memory_is_the_sum_in_the_largest_whole_unit() -> None:
    assert memory(["16Gi"] * 4 + ["4Gi"]) == "68Gi"
    assert memory(["1536Mi", "1536Mi", "256Mi"]) == "3328Mi"
    assert memory(["1G"]) == "1000000000"
    assert memory(["1024Gi"]) == "1Ti"


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.sampled_from(["", "k", "Ki", "M", "Mi", "Gi", "T"])),
        max_size=5,
    )
)
def test_a_sum_is_exact(parts: list[tuple[int, str]]) -> None:
    quantities = [f"{number}{suffix}" for number, suffix in parts]
    assert amount(memory(quantities)) == sum(map(amount, quantities))
