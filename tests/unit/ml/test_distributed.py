"""Errors of a lost process are told from bugs."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hbseg.errors import PeerLost, SpecError
from hbseg.ml.distributed import World, collective_timeout, is_peer_lost, world

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] "


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"{GLOO}Connection closed by peer [127.0.0.1]:4321"),
        RuntimeError(f"{GLOO}Read error [127.0.0.1]:9: Connection reset by peer"),
        RuntimeError(f"{GLOO}writev [127.0.0.1]:9: Broken pipe"),
        RuntimeError(
            "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out "
            "waiting 1000ms for recv operation to complete"
        ),
        RuntimeError("Application timeout caused pair closure"),
        RuntimeError("Timeout waiting for key: default_pg/0//0//cpu//rank_0 after 1000 ms"),
        dist.DistNetworkError("failed to recv, got 0 bytes"),
        dist.DistStoreError("wait timeout after 300000ms, keys: /worker/1"),
        dist.DistBackendError("NCCL error: ncclRemoteError: A call failed possibly due to a peer"),
    ],
)
def test_a_lost_process_is_known_by_what_its_peers_say(error: RuntimeError) -> None:
    assert is_peer_lost(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        RuntimeError("Invalid scalar type for gloo"),
        RuntimeError(
            "[/pytorch/third_party/gloo/gloo/context.cc:27] [enforce fail] op.preamble.length <= "
            "op.nbytes. 8 vs 4"
        ),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        dist.DistBackendError("NCCL error: ncclInvalidUsage: Duplicate GPU detected"),
    ],
)
def test_a_bug_is_no_lost_process(error: RuntimeError) -> None:
    assert not is_peer_lost(error)


@pytest.mark.parametrize("by_file", [True, False])
def test_a_process_that_does_not_come_is_lost(
    by_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    told["HBSEG_RANK_STORE"] = str(tmp_path / "ranks") if by_file else ""
    for name, value in {**told, "HBSEG_COLLECTIVE_TIMEOUT": "0.5"}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(PeerLost, match="rank 1 lost another process"), world("gloo"):
        pass


@pytest.mark.parametrize("error", [ValueError("Connection reset by peer"), KeyError("x")])
def test_other_errors_pass_as_they_are(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **kwargs: None)
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(type(error)), world("gloo"):
        raise error


def test_the_launcher_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HBSEG_COLLECTIVE_TIMEOUT", "1000.5")
    assert collective_timeout() == timedelta(seconds=1000.5)
    monkeypatch.delenv("HBSEG_COLLECTIVE_TIMEOUT")
    assert collective_timeout() == timedelta(minutes=10)


def test_one_process_agrees_with_itself() -> None:
    World(0, 1, torch.device("cpu")).check_same("ab" * 32)


def test_a_process_without_a_gpu_of_its_own_is_told_before_it_meets_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SpecError, match="rank 3 has no GPU of its own: 1 visible") as caught:
        world("auto").__enter__()
    assert "-j NODESx1" in str(caught.value)
