from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbseg.data.splits import assign_folds
from hbseg.errors import InvalidInput

people = st.dictionaries(st.text(min_size=1, max_size=6), st.integers(1, 4), min_size=5)


@given(people, st.integers(2, 5), st.integers(0, 99), st.randoms())
def test_folds_do_not_depend_on_the_order_of_persons(
    images: dict[str, int], folds: int, seed: int, random: object
) -> None:
    shuffled = list(images.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first = assign_folds(images, folds=folds, seed=seed)
    assert first == assign_folds(dict(shuffled), folds=folds, seed=seed)


@given(people, st.integers(2, 5), st.integers(0, 99))
def test_folds_are_all_filled_and_balanced(images: dict[str, int], folds: int, seed: int) -> None:
    assigned = assign_folds(images, folds=folds, seed=seed)
    sizes = [sum(images[p] for p, f in assigned.items() if f == fold) for fold in range(folds)]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= max(images.values())


def test_another_seed_gives_another_split() -> None:
    images = {f"ID{number:03d}": 2 for number in range(40)}
    assert assign_folds(images, folds=5, seed=0) != assign_folds(images, folds=5, seed=1)


def test_fewer_persons_than_folds_are_refused() -> None:
    with pytest.raises(InvalidInput, match="3 persons cannot fill 5 folds; set folds to at most 3"):
        assign_folds({"a": 2, "b": 2, "c": 2}, folds=5, seed=0)


def test_no_persons_have_no_folds() -> None:
    assert assign_folds({}, folds=5, seed=0) == {}
