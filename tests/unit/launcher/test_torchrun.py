"""The command and the environment of a step."""

from pathlib import Path

import pytest

from hbseg.config.placement import Placement
from hbseg.launcher.torchrun import (
    MIN_COLLECTIVE,
    collective_timeout,
    step_command,
    step_environment,
    writable_places,
)
from hbseg.runs.steps import Step


def environment(step: Step, placement: Placement) -> dict[str, str]:
    return step_environment(
        step,
        placement,
        failures=Path("f"),
        progress=Path("p"),
        files=Path("files"),
        rendezvous_id="cafe",
        stop_seconds=20.5,
    )


def command(step: Step, placement: Placement) -> list[str]:
    return step_command(
        step,
        placement,
        module="a.step",
        arguments=["--x", "1"],
        files=Path("files"),
    )


def test_cores_are_shared_out_between_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hbseg.launcher.torchrun.usable_cores", lambda: 8)
    two = Placement(processes_per_node=2)

    assert environment(Step.STAGE1, two)["OMP_NUM_THREADS"] == "4"
    assert environment(Step.INFER, two)["OMP_NUM_THREADS"] == "8"


def test_torchrun_is_told_by_variables_what_older_ones_refuse_as_flags() -> None:
    told = environment(Step.STAGE1, Placement())

    assert told["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "20"
    assert told["TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"] == "[rank${rank}]:"
    many = Placement(processes_per_node=16)
    assert environment(Step.STAGE1, many)["OMP_NUM_THREADS"] == "1"
    given = Placement(threads_per_process=3)
    assert environment(Step.STAGE1, given)["MKL_NUM_THREADS"] == "3"


def test_one_node_meets_nobody_and_several_meet_as_the_operator_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PET_RDZV_CONF", raising=False)
    one = command(Step.STAGE1, Placement(processes_per_node=4))
    two = command(Step.STAGE1, Placement(nodes=2, processes_per_node=4, pending_timeout=77))

    assert one[one.index("--rdzv-backend") + 1] == "one-node"
    for flag in ("--nnodes", "--local-addr", "--rdzv-endpoint", "--rdzv-backend", "--rdzv-id"):
        assert flag not in two
    assert two[two.index("--rdzv-conf") + 1] == "join_timeout=77,read_timeout=77"
    for flags in (one, two):
        for name, value in (
            ("--nproc-per-node", "4"),
            ("--max-restarts", "0"),
            ("--tee", "3"),
        ):
            assert flags[flags.index(name) + 1] == value
        assert flags[-5:] == ["-m", "--", "a.step", "--x", "1"]
    assert command(Step.INFER, Placement(nodes=2))[1:] == ["-m", "a.step", "--x", "1"]


def test_only_torchrun_of_several_nodes_is_told_what_the_operator_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {
        "PET_RDZV_ENDPOINT": "main-stage1-worker-0:23456",
        "PET_NNODES": "2:2",
        "PET_NPROC_PER_NODE": "7",
        "PET_MAX_RESTARTS": "100",
        "MASTER_ADDR": "x",
        "RANK": "1",
        "WORLD_SIZE": "2",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    several = environment(Step.STAGE1, Placement(nodes=2))
    alone = environment(Step.STAGE1, Placement())
    other = environment(Step.INFER, Placement(nodes=2))

    assert told.keys() & several.keys() == {"PET_RDZV_ENDPOINT", "PET_NNODES"}
    assert not told.keys() & alone.keys()
    assert not told.keys() & other.keys()


@pytest.mark.parametrize("name", ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"])
def test_loopback_is_for_one_node_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")

    assert environment(Step.STAGE1, Placement())[name] == "lo"
    assert name not in environment(Step.STAGE1, Placement(nodes=2))
    monkeypatch.setenv(name, "ib0")
    assert environment(Step.STAGE1, Placement())[name] == "ib0"


def test_ranks_of_one_node_meet_by_a_file_and_nodes_by_an_id_that_no_command_line_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PET_RDZV_ID", "the operator's")
    one = environment(Step.STAGE1, Placement())
    two = environment(Step.STAGE1, Placement(nodes=2))

    assert one["HBSEG_RANK_STORE"] == "files/ranks"
    assert "PET_RDZV_ID" not in one
    assert two["HBSEG_RANK_STORE"] == ""
    assert two["PET_RDZV_ID"] == "cafe"
    assert "cafe" not in command(Step.STAGE1, Placement(nodes=2))
    assert "PET_RDZV_ID" not in environment(Step.INFER, Placement(nodes=2))


def test_a_stall_is_seen_before_the_others_give_up() -> None:
    told = environment(Step.STAGE1, Placement(stall_timeout=900))["HBSEG_COLLECTIVE_TIMEOUT"]

    assert 900 < float(told) < 1200
    assert collective_timeout(1.0) > 2.0


def test_libraries_are_led_to_a_folder_that_can_be_written(tmp_path: Path) -> None:
    places = writable_places({"TMPDIR": "/given", "HOME": "/scratch"}, tmp_path / "work")

    assert "TMPDIR" not in places
    assert "HOME" not in places
    assert places["USER"]
    for name in ("TORCHINDUCTOR_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        assert Path(places[name]).is_dir()
        assert Path(places[name]).is_relative_to(tmp_path / "work")


def test_ranks_that_load_torch_are_waited_for_however_short_a_stall_is() -> None:
    assert collective_timeout(3.0) == MIN_COLLECTIVE
    assert collective_timeout(MIN_COLLECTIVE) > MIN_COLLECTIVE
