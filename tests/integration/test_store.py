"""The store's contract, on a folder and on a real S3 server alike."""

import errno
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbseg.errors import (
    BucketMissing,
    DeniedError,
    DiskFullError,
    InvalidInput,
    NotFoundError,
    UnreachableError,
)
from hbseg.local.s3server import EmbeddedS3
from hbseg.storage.opening import open_store
from hbseg.storage.s3 import S3Store
from hbseg.storage.s3_connection import s3_client
from hbseg.storage.store import Entry, Store
from tests.conftest import S3Place
from tests.faulty_s3 import Fault, FaultyS3, faulty_s3, first

AWKWARD_KEYS = ["a b/c d.txt", "손/왼손 1.png", "plus+and=sign&/100%25?.json", "dots..in/na..me"]
LEAVING_KEYS = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "",
    "a//b",
    "a/",
    "./a",
    "a\x00b",
    "a\\b",
    "x" * 256,
    "not-utf8-\udcff",
]


@pytest.fixture
def bucket(s3: S3Place) -> str:
    return s3.bucket


@pytest.fixture
def bad_network(s3: S3Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A proxy that answers as the real server does until a test breaks answers off."""
    monkeypatch.setattr("hbseg.storage.s3.BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr("hbseg.storage.s3_connection.READ_SECONDS", 1)
    monkeypatch.setattr("hbseg.storage.s3_reads.SECONDS", 4)
    with faulty_s3(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def test_an_object_comes_back_as_it_was_put(store: Store) -> None:
    store.put("a/b", b"one")
    store.put("a/b", b"two")

    assert store.get("a/b") == b"two"
    assert store.exists("a/b")


def test_a_missing_object_is_not_found(store: Store, tmp_path: Path) -> None:
    assert not store.exists("none")
    for read in (
        lambda: store.get("none"),
        lambda: store.get_range("none", 0, 1),
        lambda: store.get_tagged("none"),
        lambda: store.download("none", tmp_path / "none"),
    ):
        with pytest.raises(NotFoundError, match="none"):
            read()
    assert not (tmp_path / "none").exists()


def test_many_objects_come_in_the_order_of_their_keys(store: Store) -> None:
    keys = [f"{number % 7}/{number}" for number in range(40)] + AWKWARD_KEYS + ["a%25b", "a%b"]
    for key in keys:
        store.put(key, key.encode())
    store.put("empty", b"")

    asked = ["none", *reversed(keys), "empty", "no/ne"]

    assert list(store.get_many(asked)) == [
        None,
        *(key.encode() for key in reversed(keys)),
        b"",
        None,
    ]
    assert list(store.get_many([])) == []


def test_many_keys_do_not_leave_the_store(store: Store) -> None:
    with pytest.raises(InvalidInput):
        list(store.get_many(["../x"]))


def by_boto3(proxy: FaultyS3) -> list[str]:
    """Return the requests that boto3 made."""
    told = zip(proxy.requests, proxy.headers, strict=True)
    return [request for request, headers in told if "Boto3" in headers["User-Agent"]]


def test_many_objects_are_read_without_boto3(bad_network: FaultyS3, bucket: str) -> None:
    store = open_store(f"s3://{bucket}")
    keys = [f"runs/{number}" for number in range(50)]
    for key in keys:
        store.put(key, key.encode())
    bad_network.break_off(lambda request: None)

    assert list(store.get_many(keys)) == [key.encode() for key in keys]

    assert sorted(bad_network.requests) == sorted(f"GET /{bucket}/{key}" for key in keys)
    assert by_boto3(bad_network) == []


def test_boto3_is_asked_for_what_the_fast_reader_does_not_find(
    bad_network: FaultyS3, bucket: str
) -> None:
    store = open_store(f"s3://{bucket}")
    store.put("a", b"one")
    bad_network.break_off(lambda request: None)

    assert list(store.get_many(["a", "none", "a"])) == [b"one", None, b"one"]

    assert by_boto3(bad_network) == [f"GET /{bucket}/none"]


def test_boto3_is_asked_for_all_where_the_fast_reader_gets_no_answer(
    bad_network: FaultyS3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"s3://{bucket}")
    store.put("a", b"one")
    bad_network.break_off(lambda request: None)
    # A proxy that is not there stops the fast reader alone: boto3's client was made before.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")

    assert list(store.get_many(["a", "none", "a"])) == [b"one", None, b"one"]

    assert len(by_boto3(bad_network)) == len(bad_network.requests) == 3


def test_a_body_that_breaks_off_costs_the_fast_reader_that_object_alone(
    bad_network: FaultyS3, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.storage.store.READERS", 1)
    store = open_store(f"s3://{bucket}")
    for key in ("a", "b", "c"):
        store.put(key, key.encode() * 1000)
    bad_network.break_off(first(1, Fault.RESET, of="/b"))

    assert list(store.get_many("abc")) == [b"a" * 1000, b"b" * 1000, b"c" * 1000]

    assert by_boto3(bad_network) == [f"GET /{bucket}/b"]


def test_a_bug_in_the_fast_reader_is_no_reason_to_ask_boto3(
    s3: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("obstore.store.S3Store.get", broken)
    with pytest.raises(TypeError, match="a bug"):
        list(open_store(s3.url).get_many(["a"]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"),
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
        ("AWS_REGION", "eu-central-1"),
    ],
)
def test_the_fast_reader_goes_where_boto3_goes_whatever_is_set_meanwhile(
    name: str, value: str, s3: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3.url)
    store.put("a", b"one")
    monkeypatch.setattr(S3Store, "get", None)  # boto3 is not asked

    monkeypatch.setenv(name, value)

    assert list(store.get_many(["a"])) == [b"one"]


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_CHECKSUM_ALGORITHM", "CRC32"), ("AWS_REQUEST_PAYER", "x")]
)
def test_where_there_is_no_fast_reader_boto3_reads(
    name: str, value: str, s3: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3.url)
    store.put("a", b"one")

    monkeypatch.setenv(name, value)

    assert list(store.get_many(["a", "none"])) == [b"one", None]


def test_a_missing_bucket_is_named_when_many_are_read(s3: S3Place) -> None:
    with pytest.raises(BucketMissing, match="no such bucket: hbseg-none"):
        list(open_store("s3://hbseg-none/x").get_many(["a"]))
    with pytest.raises(InvalidInput, match="not a valid bucket name"):
        list(open_store("s3://no bucket/x").get_many(["a"]))


def test_a_range_is_a_part_of_the_object(store: Store) -> None:
    store.put("x", b"0123456789")

    assert store.get_range("x", 3, 4) == b"3456"
    assert store.get_range("x", 3, 0) == b""
    assert store.get_range("x", 8, 2) == b"89"


def test_only_the_first_conditional_put_writes(store: Store) -> None:
    assert store.put_if_absent("x", b"first")
    assert not store.put_if_absent("x", b"second")
    assert store.get("x") == b"first"


def test_one_of_many_conditional_puts_at_once_wins(store: Store) -> None:
    start = threading.Barrier(8)
    won: list[int] = []

    def write(number: int) -> None:
        start.wait()
        if store.put_if_absent("claim", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert store.get("claim") == str(won[0]).encode()


def test_a_put_with_an_old_tag_is_refused(store: Store) -> None:
    store.put("x", b"one")
    _, tag = store.get_tagged("x")

    assert store.put_if_match("x", b"two", tag)
    assert not store.put_if_match("x", b"three", tag)
    assert store.get_tagged("x")[0] == b"two"
    assert not store.put_if_match("none", b"x", tag)


def test_files_go_in_and_come_out(store: Store, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "in").write_bytes(content)

    store.upload("big", tmp_path / "in")
    store.download("big", tmp_path / "out" / "big")

    assert (tmp_path / "out" / "big").read_bytes() == content
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["big"]


def test_the_times_of_answers_are_read_without_a_search_for_their_form(
    s3: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3.url).put("a", b"one")

    def search(*_: object, **__: object) -> None:
        raise AssertionError("dateutil was asked")

    monkeypatch.setattr("dateutil.parser.parse", search)
    client = s3_client()
    read = client.get_object(Bucket=s3.bucket, Key="a")["LastModified"]
    [listed] = client.list_objects_v2(Bucket=s3.bucket)["Contents"]

    assert abs(read - datetime.now(UTC)) < timedelta(minutes=10)
    assert listed["LastModified"].replace(microsecond=0) == read


def test_a_listing_is_sorted_by_key_over_folders(store: Store) -> None:
    for key in ("b/2", "b-1", "b/10/x", "a", "c", "b.txt"):
        store.put(key, key.encode())

    assert list(store.list()) == [
        Entry(key, len(key)) for key in ("a", "b-1", "b.txt", "b/10/x", "b/2", "c")
    ]
    assert [entry.key for entry in store.list("b/")] == ["b/10/x", "b/2"]
    assert [entry.key for entry in store.list("b/1")] == ["b/10/x"]
    assert list(store.list("none/")) == []
    assert list(store.list_folders()) == ["b"]
    assert list(store.list_folders("b")) == ["10"]
    assert list(store.list_folders("none")) == []


def test_a_listing_goes_over_many_pages_and_repeats_the_one_that_breaks_off(
    s3: S3Place, bad_network: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = sorted(f"{number % 3}/{number:04}" for number in range(1050))
    with monkeypatch.context() as direct:
        direct.setenv("AWS_ENDPOINT_URL", s3.server.environment["AWS_ENDPOINT_URL"])
        store = open_store(f"{s3.url}/many")
    for key in keys:
        store.put(key, b"")
    bad_network.break_off(first(2, Fault.RESET, of="continuation-token"))

    assert [entry.key for entry in open_store(f"{s3.url}/many").list()] == keys

    again = ["continuation-token" in request for request in bad_network.requests]
    assert again == [False, True, True, True]


def test_a_deleted_object_is_gone_and_a_second_delete_is_no_error(store: Store) -> None:
    store.put("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")

    assert not store.exists("a/b")
    assert list(store.list()) == []


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_awkward_names_are_names(store: Store, key: str) -> None:
    assert store.put_if_absent(key, b"x")
    assert store.get(key) == b"x"
    assert [entry.key for entry in store.list()] == [key]
    inside = store.folder(key.rpartition("/")[0])
    assert inside.get(key.rpartition("/")[2]) == b"x"
    assert list(store.list_folders()) == [key.partition("/")[0]]


@pytest.mark.parametrize("key", LEAVING_KEYS)
def test_a_key_that_leaves_the_store_is_refused(store: Store, key: str, tmp_path: Path) -> None:
    for use in (
        lambda: store.get(key),
        lambda: store.put(key, b""),
        lambda: store.put_if_absent(key, b""),
        lambda: store.put_if_match(key, b"", "tag"),
        lambda: store.get_range(key, 0, 1),
        lambda: store.exists(key),
        lambda: store.delete(key),
        lambda: store.download(key, tmp_path / "out"),
    ):
        with pytest.raises(InvalidInput):
            use()


def test_a_folder_of_a_store_sees_only_its_own(store: Store) -> None:
    store.put("a/x", b"1")
    store.put("ab/x", b"2")
    inside = store.folder("a")

    assert [entry.key for entry in inside.list()] == ["x"]
    assert inside.url == f"{store.url}/a"
    assert open_store(inside.url).get("x") == b"1"


Keys = st.sampled_from(["a", "a b", "b/1", "b/2", "손/1", "b-"])
Operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), Keys, st.binary(max_size=20)),
        st.tuples(st.just("absent"), Keys, st.binary(max_size=20)),
        st.tuples(st.just("delete"), Keys, st.just(b"")),
    ),
    max_size=12,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=Operations)
def test_a_store_is_a_dictionary(store: Store, operations: list[tuple[str, str, bytes]]) -> None:
    fresh = store.folder(uuid.uuid4().hex)
    model: dict[str, bytes] = {}
    for operation, key, data in operations:
        if operation == "put":
            fresh.put(key, data)
            model[key] = data
        elif operation == "absent":
            assert fresh.put_if_absent(key, data) == (key not in model)
            model.setdefault(key, data)
        else:
            fresh.delete(key)
            model.pop(key, None)

    assert [(entry.key, entry.size) for entry in fresh.list()] == [
        (key, len(model[key])) for key in sorted(model)
    ]
    assert {key: fresh.get(key) for key in model} == model


def test_wrong_keys_are_not_allowed(s3: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    store = open_store(s3.url)

    for use in (lambda: store.get("x"), lambda: store.put("x", b""), lambda: list(store.list())):
        with pytest.raises(DeniedError, match="AWS_ACCESS_KEY_ID") as error:
            use()
        assert error.value.exit_code == 4
        assert "wrong-secret" not in str(error.value)


def test_no_keys_at_all_is_said_so(
    s3: S3Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(DeniedError, match="no S3 credentials"):
        open_store(s3.url).get("x")


def test_a_missing_bucket_is_not_found(s3: S3Place) -> None:
    store = open_store("s3://there-is-no-such-bucket/data")

    for use in (lambda: store.get("x"), lambda: store.put("x", b""), lambda: list(store.list())):
        with pytest.raises(NotFoundError, match="there-is-no-such-bucket") as error:
            use()
        assert error.value.exit_code == 3
    with pytest.raises(BucketMissing):
        store.get("x")


def test_a_server_that_is_down_is_unreachable_and_its_data_outlive_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.storage.s3_connection.ATTEMPTS", 2)
    with EmbeddedS3(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.create_bucket("data")
        store = open_store("s3://data")
        store.put("x", b"kept")
        server.kill()
        with pytest.raises(UnreachableError, match="AWS_ENDPOINT_URL") as error:
            store.get("x")
        assert error.value.exit_code == 4

    with EmbeddedS3(tmp_path / "s3") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.environment["AWS_ENDPOINT_URL"])
        assert open_store("s3://data").get("x") == b"kept"


READS: dict[str, Callable[[Store, Path], object]] = {
    "get": lambda store, folder: store.get("a/b"),
    "get_range": lambda store, folder: store.get_range("a/b", 1, 40_000),
    "get_tagged": lambda store, folder: store.get_tagged("a/b"),
    "get_many": lambda store, folder: list(store.get_many(["a/b", "a/b"])),
    "download": lambda store, folder: downloaded(store, folder / "file"),
    "list": lambda store, folder: list(store.list()),
    "list_folders": lambda store, folder: list(store.list_folders()),
}
LISTINGS = ("list", "list_folders")
WRITES: dict[str, Callable[[Store, Path], object]] = {
    "put": lambda store, folder: store.put("a/b", b""),
    "put_if_absent": lambda store, folder: store.put_if_absent("c", b""),
    "put_if_match": lambda store, folder: store.put_if_match("a/b", b"", "tag"),
    "upload": lambda store, folder: store.upload("a/b", Path(__file__)),
    "delete": lambda store, folder: store.delete("a/b"),
}
BREAKS = [
    (read, fault)
    for read in READS
    for fault in Fault
    # The length of an object is in its head alone; only a listing's XML has an end of its own.
    if (fault is not Fault.CUT_UNSEEN or read in LISTINGS)
    and (fault is not Fault.STALL or read in ("get", "list"))
]


def downloaded(store: Store, path: Path) -> bytes:
    store.download("a/b", path)
    return path.read_bytes()


@pytest.mark.parametrize(("read", "fault"), BREAKS, ids=lambda value: str(value))
def test_a_read_is_asked_for_again_where_its_answer_breaks_off(
    bad_network: FaultyS3, bucket: str, tmp_path: Path, read: str, fault: Fault
) -> None:
    store = open_store(f"s3://{bucket}")
    store.put("a/b", os.urandom(50_000))
    expected = READS[read](store, tmp_path)
    bad_network.break_off(first(2, fault, of="GET"))

    assert READS[read](store, tmp_path) == expected

    assert len([request for request in bad_network.requests if "GET" in request]) >= 3


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.CUT], ids=lambda fault: fault.name)
@pytest.mark.parametrize("read", READS)
def test_a_read_whose_answers_all_break_off_is_unreachable_after_its_tries(
    bad_network: FaultyS3,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: str,
    fault: Fault,
) -> None:
    monkeypatch.setattr("hbseg.storage.s3_connection.ATTEMPTS", 3)
    store = open_store(f"s3://{bucket}")
    store.put("a/b", os.urandom(50_000))
    bad_network.break_off(lambda request: fault if "GET" in request else None)

    with pytest.raises(UnreachableError, match=bucket) as error:
        READS[read](store, tmp_path)

    assert (error.value.exit_code, error.value.step_exit_code) == (4, 170)
    asked = [request for request in by_boto3(bad_network) if "GET" in request]
    assert len(asked) % 3 == 0  # get_many reads two objects
    assert not list(tmp_path.iterdir())


REFUSED = [
    *((verb, Fault.RESET) for verb in (READS | WRITES) if verb != "download"),
    ("get", Fault.STALL),
    ("put", Fault.STALL),
]
"""A download meets no refusal with a body: it asks for the head first."""


@pytest.mark.parametrize(("verb", "fault"), REFUSED, ids=lambda value: str(value))
def test_a_refusal_that_breaks_off_is_unreachable_too(
    bad_network: FaultyS3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    fault: Fault,
) -> None:
    monkeypatch.setattr("hbseg.storage.s3_connection.ATTEMPTS", 2)
    store = open_store("s3://there-is-no-such-bucket")
    bad_network.break_off(lambda request: fault)

    with pytest.raises(UnreachableError, match="there-is-no-such-bucket") as error:
        (READS | WRITES)[verb](store, tmp_path)

    assert (error.value.exit_code, error.value.step_exit_code) == (4, 170)


@pytest.mark.parametrize("verb", ["get", "list", "put", "upload", "delete"])
def test_a_refusal_whose_text_is_cut_is_told_by_its_status(
    bad_network: FaultyS3, tmp_path: Path, verb: str
) -> None:
    store = open_store("s3://there-is-no-such-bucket")
    bad_network.break_off(lambda request: Fault.CUT)

    with pytest.raises(NotFoundError, match="there-is-no-such-bucket"):
        (READS | WRITES)[verb](store, tmp_path)


def test_a_refusal_is_no_reason_to_ask_again(bad_network: FaultyS3, bucket: str) -> None:
    store = open_store(f"s3://{bucket}")
    with pytest.raises(NotFoundError):
        store.get("none")
    assert bad_network.requests == [f"GET /{bucket}/none"]


def test_two_clients_claim_one_name_once_on_s3(s3: S3Place) -> None:
    first, second = open_store(s3.url), open_store(s3.url)

    assert first.put_if_absent("run.json", b"first")
    assert not second.put_if_absent("run.json", b"second")


def test_a_listing_passes_over_what_is_no_file_or_has_no_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe"))
    folder.mkdir()
    (folder / "b").write_bytes(b"x")
    store = open_store(tmp_path)

    assert list(store.list()) == [Entry("a", 1)]
    assert list(store.list_folders()) == []


def test_a_folder_that_may_not_be_touched_is_denied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    store = open_store(tmp_path)
    store.put("a", b"x")
    for method, use, what in (
        ("open", lambda: store.download("a", tmp_path / "out"), "read"),
        ("open", lambda: store.put_if_match("a", b"y", "tag"), "write"),
        ("is_file", lambda: store.exists("a"), "read"),
        ("unlink", lambda: store.delete("a"), "write"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, refuse)
            with pytest.raises(DeniedError, match=f"no permission to {what} {tmp_path}"):
                use()


def test_a_full_disk_is_named_and_no_part_is_left(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.put("a", b"x")
    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr("s3transfer.utils.OSUtils.rename_file", full)
    with pytest.raises(DiskFullError, match=r"disk full .*out/a \(\d+ bytes free\)"):
        store.download("a", tmp_path / "out" / "a")
    assert list((tmp_path / "out").iterdir()) == []
