"""Which node this is, as a pod's environment says."""

import pytest

from hbseg.errors import UsageError
from hbseg.runs.node import node_count, node_index


def test_a_step_without_pods_has_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HBSEG_NODE", "HBSEG_NODES"):
        monkeypatch.delenv(name, raising=False)
    assert (node_index(), node_count()) == (0, 1)

    for name in ("HBSEG_NODE", "HBSEG_NODES"):
        monkeypatch.setenv(name, "")
    assert (node_index(), node_count()) == (0, 1)


def test_a_pod_knows_its_number_and_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HBSEG_NODE", "2")
    monkeypatch.setenv("HBSEG_NODES", "11")

    assert (node_index(), node_count()) == (2, 11)


@pytest.mark.parametrize("text", ["-1", "first", "1.0", "²"])
def test_a_number_of_a_node_that_is_none_is_named(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HBSEG_NODE", text)
    monkeypatch.setenv("HBSEG_NODES", text)

    with pytest.raises(UsageError, match=f"HBSEG_NODE is '{text}', expected the number of this"):
        node_index()
    with pytest.raises(UsageError, match=f"HBSEG_NODES is '{text}', expected the number of nodes"):
        node_count()
