"""What S3 servers other than AWS need: a private authority, plain uploads, their addressing.

The server is real; a proxy before it speaks HTTPS and records what it is asked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import pytest

from hbseg.errors import DeniedError
from hbseg.local.s3server import EmbeddedS3
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.conftest import S3Place
from tests.faulty_s3 import FaultyS3, faulty_s3
from tests.tls import Authority

DOMAIN = "s3.test"
CONTENT = b"content"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def gateway(
    s3: S3Place, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyS3]:
    """The server by HTTPS, as the environment names it; nothing says whom to trust."""
    with faulty_s3(os.environ["AWS_ENDPOINT_URL"], authority.server()) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture
def trusted(gateway: FaultyS3, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> FaultyS3:
    """The same server, whose authority is trusted."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    return gateway


def use_all(store: Store, folder: Path) -> None:
    """Read, write, list and delete in a store that is empty."""
    (folder / "in").write_bytes(CONTENT)
    assert store.put_if_absent("a", CONTENT)
    store.upload("b/c", folder / "in")
    store.download("b/c", folder / "out")
    assert (folder / "out").read_bytes() == store.get("a") == CONTENT
    assert store.get_range("a", 1, 3) == CONTENT[1:4]
    assert [entry.key for entry in store.list()] == ["a", "b/c"]
    assert list(store.get_many(["a", "b/c"])) == [CONTENT, CONTENT]
    store.delete("a")
    assert not store.exists("a")


def agents(proxy: FaultyS3) -> set[str]:
    return {headers["User-Agent"].split("/")[0] for headers in proxy.headers}


def test_all_requests_trust_the_authority_of_the_bundle(
    trusted: FaultyS3, s3: S3Place, tmp_path: Path
) -> None:
    use_all(open_store(s3.url), tmp_path)

    trusted.break_off(lambda request: None)
    assert list(open_store(s3.url).get_many(["b/c"])) == [CONTENT]
    assert agents(trusted) == {"object_store"}  # so the fast reader trusts it, too


@pytest.mark.parametrize("place", ["REQUESTS_CA_BUNDLE", "AWS_CONFIG_FILE"])
def test_a_bundle_may_stand_wherever_boto3_looks_for_it(
    gateway: FaultyS3,
    authority: Authority,
    s3: S3Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    config = tmp_path / "config"
    config.write_text(f"[default]\nca_bundle = {authority.certificate}\n")
    monkeypatch.setenv(place, str(config if "CONFIG" in place else authority.certificate))
    store = open_store(s3.url)

    store.put("a", CONTENT)
    assert list(store.get_many(["a"])) == [CONTENT]
    assert agents(gateway) == {"Boto3", "object_store"}


USES: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("a"),
    "put": lambda store: store.put("a", b""),
    "list": lambda store: list(store.list()),
    "get_many": lambda store: list(store.get_many(["a"])),
}


@pytest.mark.parametrize("use", USES)
def test_a_certificate_that_is_not_trusted_is_told_with_the_variable(
    gateway: FaultyS3, s3: S3Place, use: str
) -> None:
    with pytest.raises(DeniedError, match=r"127\.0\.0\.1:\d+ is not trusted \(.*certificate") as e:
        USES[use](open_store(s3.url))

    assert (e.value.exit_code, e.value.step_exit_code) == (4, 66)
    assert "AWS_CA_BUNDLE" in str(e.value)
    assert "cluster.ca_bundle" in str(e.value)
    assert gateway.requests == []


def test_a_certificate_that_is_not_trusted_is_not_asked_for_again(
    gateway: FaultyS3, s3: S3Place
) -> None:
    with pytest.raises(DeniedError):
        open_store(s3.url).get("a")
    assert gateway.connections == 1


def test_a_certificate_of_another_authority_or_host_is_not_trusted(
    s3: S3Place, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(Authority.make(tmp_path).certificate))
    plain = os.environ["AWS_ENDPOINT_URL"]
    with faulty_s3(plain, authority.server()) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(DeniedError, match=r"not trusted \(unable to get local issuer"):
            open_store(s3.url).get("a")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    with faulty_s3(plain, authority.server("127.0.0.2")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(DeniedError, match=r"of another host \(hostname '127\.0\.0\.1' doesn't"):
            open_store(s3.url).get("a")


PLAIN: dict[str, Callable[[Store, Path], object]] = {
    "put": lambda store, file: store.put("a", file.read_bytes()),
    "put_if_absent": lambda store, file: store.put_if_absent("a", file.read_bytes()),
    "upload": lambda store, file: store.upload("a", file),
}


def sent(proxy: FaultyS3, method: str) -> list[Message]:
    told = zip(proxy.requests, proxy.headers, strict=True)
    return [headers for request, headers in told if request.startswith(method)]


def about_checksums(headers: Message) -> list[str]:
    """Return the headers that gateways refuse."""
    return [
        name.lower()
        for name in headers
        if name.lower() in ("transfer-encoding", "content-encoding", "x-amz-trailer")
        or name.lower().startswith(("x-amz-checksum", "x-amz-sdk-checksum"))
    ]


@pytest.mark.parametrize("use", PLAIN)
def test_an_upload_to_an_endpoint_is_plain_and_signed_with_its_digest(
    trusted: FaultyS3, s3: S3Place, tmp_path: Path, use: str
) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    store = open_store(s3.url)
    PLAIN[use](store, tmp_path / "file")
    assert store.get("a") == CONTENT

    (upload,), (read,) = sent(trusted, "PUT"), sent(trusted, "GET")
    assert about_checksums(upload) == about_checksums(read) == []
    assert upload["Content-Length"] == str(len(CONTENT))
    assert upload["X-Amz-Content-SHA256"] == hashlib.sha256(CONTENT).hexdigest()


def test_an_upload_in_parts_is_plain_too(
    trusted: FaultyS3, s3: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.storage.s3.SINGLE_PUT_BYTES", 1)
    content = os.urandom(9 << 20)
    (tmp_path / "file").write_bytes(content)
    store = open_store(s3.url)

    store.upload("a", tmp_path / "file")

    assert store.get("a") == content
    assert len(sent(trusted, "PUT")) == 2
    assert [name for headers in trusted.headers for name in about_checksums(headers)] == []


def test_checksums_are_sent_where_somebody_wants_them(
    trusted: FaultyS3, s3: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_supported")
    store = open_store(s3.url)
    store.put("a", CONTENT)
    assert store.get("a") == CONTENT

    (upload,), (read,) = sent(trusted, "PUT"), sent(trusted, "GET")
    assert upload["X-Amz-Trailer"] == "x-amz-checksum-crc32"
    assert about_checksums(read) == ["x-amz-checksum-mode"]


class VirtualS3(EmbeddedS3):
    """A server that knows buckets by its host name, as `http://BUCKET.s3.test`."""

    def _command(self, weed: Path) -> list[str]:
        return [*super()._command(weed), f"-s3.domainName={DOMAIN}"]


@pytest.fixture(scope="module")
def virtual_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    with VirtualS3(tmp_path_factory.mktemp("virtual")) as server:
        yield server


@pytest.fixture
def virtual_s3(virtual_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """Such a server, which only the proxy of the environment finds."""
    with faulty_s3(virtual_server.environment["AWS_ENDPOINT_URL"]) as proxy:
        for name, value in virtual_server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{DOMAIN}")
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.endpoint)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        yield proxy


@pytest.mark.parametrize("addressing", ["virtual", "path"])
def test_a_bucket_stands_where_the_addressing_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addressing: str, virtual_s3: FaultyS3
) -> None:
    monkeypatch.setenv("HBSEG_S3_ADDRESSING", addressing)
    bucket = f"bucket-{addressing}"
    url = {"virtual": f"http://{bucket}.{DOMAIN}", "path": f"http://{DOMAIN}/{bucket}"}[addressing]
    open_store(f"s3://{bucket}").create_bucket()  # type: ignore[attr-defined]
    virtual_s3.break_off(lambda request: None)

    use_all(open_store(f"s3://{bucket}"), tmp_path)

    assert {request.split()[1].startswith(url) for request in virtual_s3.requests} == {True}
    assert agents(virtual_s3) == {"Boto3", "object_store"}
