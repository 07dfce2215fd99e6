from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbseg.data.formats import Header, inspect
from hbseg.data.pictures import decode_gray, encode_png, read_gray
from hbseg.errors import InvalidInput

FORMATS = (".png", ".jpg", ".tiff", ".bmp", ".webp")


def gray_picture() -> np.ndarray:
    across = np.linspace(0, 255, 80).astype(np.uint8)
    return np.add.outer(np.arange(60, dtype=np.uint8), across // 2).astype(np.uint8)


def encoded(pixels: np.ndarray, suffix: str, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options)
    assert done
    return data.tobytes()


def three(pixels: np.ndarray) -> np.ndarray:
    return cv2.merge([pixels, pixels, pixels])


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossless_gray_is_read_exactly_from_1_3_and_4_channels(suffix: str, channels: int) -> None:
    gray = gray_picture()
    alpha = np.full_like(gray, 255)
    pixels = gray if channels == 1 else cv2.merge([gray] * 3 + [alpha] * (channels - 3))
    np.testing.assert_array_equal(read_gray(encoded(pixels, suffix), source="x"), gray)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_are_read_nearly_so(suffix: str) -> None:
    gray = gray_picture()
    found = read_gray(encoded(three(gray), suffix), source="x")
    assert found.shape == gray.shape
    assert np.abs(found.astype(int) - gray).mean() < 3


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_off_file_is_refused(suffix: str, share: float) -> None:
    data = encoded(three(gray_picture()), suffix)
    with pytest.raises(InvalidInput, match=r"^hand: .*(cut off|damaged|not a PNG)"):
        read_gray(data[: int(len(data) * share)], source="hand")


def test_the_header_tells_size_depth_and_channels() -> None:
    for suffix in FORMATS:
        header = inspect(encoded(three(gray_picture()), suffix), source="x")
        assert (header.height, header.width, header.bits, header.channels) == (60, 80, 8, 3)
    deep = inspect(encoded(gray_picture().astype(np.uint16), ".png"), source="x")
    assert (deep.bits, deep.channels) == (16, 1)


def test_zeros_and_a_preview_after_a_jpegs_end_do_no_harm() -> None:
    data = encoded(gray_picture(), ".jpg")
    expected = read_gray(data, source="x")
    for tail in (bytes(5000), data[: len(data) // 2]):
        np.testing.assert_array_equal(read_gray(data + tail, source="x"), expected)


def test_a_progressive_jpeg_is_whole_only_with_all_its_scans() -> None:
    data = encoded(gray_picture(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert read_gray(data, source="x").shape == (60, 80)
    with pytest.raises(InvalidInput, match="cut off"):
        read_gray(data[:-40], source="x")


def test_a_changed_byte_in_a_png_is_found_by_its_checksum() -> None:
    data = bytearray(encoded(gray_picture(), ".png"))
    data[len(data) // 2] ^= 1
    with pytest.raises(InvalidInput, match="wrong PNG checksum"):
        read_gray(bytes(data), source="x")


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width: int, height: int, pixels: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(InvalidInput, match="60000 x 60000 pixels"):
        read_gray(png(60_000, 60_000, zlib.compress(b"")), source="x")


SMALL, LARGE = (10, 10), (300, 200)
"""Width and height: a decoder fills in the rows that a file does not have."""


def jpeg_parts() -> tuple[bytes, bytes, bytes, bytes]:
    """Return a small gray JPEG in four parts: up to its SOF, the SOF, its first table, the rest."""
    data = encoded(np.full((32, 32), 90, np.uint8), ".jpg")
    sof, table = data.index(b"\xff\xc0"), data.index(b"\xff\xc4")
    end = table + 2 + struct.unpack_from(">H", data, table + 2)[0]
    return data[:sof], data[sof:table], data[table:end], data[end:]


def sized(sof: bytes, size: tuple[int, int]) -> bytes:
    return sof[:5] + struct.pack(">HH", size[1], size[0]) + sof[9:]


def hidden(segment: bytes) -> bytes:
    """Return a segment behind TEM, which stands alone, and what looks like TEM's length."""
    return b"\xff\x01" + struct.pack(">H", len(segment) + 2) + segment


def jpegs_of_two_sizes() -> dict[str, bytes]:
    head, sof, table, rest = jpeg_parts()
    first, second = sized(sof, LARGE), sized(sof, SMALL)
    return {
        "one after the other": head + first + second + table + rest,
        "a table between": head + first + table + second + rest,
        "after the scan": head + first + table + rest[:-2] + second + rest[-2:],
        "after the scan, progressive": head
        + first
        + table
        + rest[:-2]
        + b"\xff\xc2"
        + second[2:]
        + rest[-2:],
        "first behind TEM": head + hidden(first) + table + rest[:-2] + second + rest[-2:],
        "equal": head + second + table + rest[:-2] + second + rest[-2:],
    }


@pytest.mark.parametrize("data", jpegs_of_two_sizes().values(), ids=jpegs_of_two_sizes())
def test_a_jpeg_that_states_its_size_twice_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="the JPEG states its size twice"):
        inspect(data, source="x")


def test_a_size_behind_a_marker_that_stands_alone_is_judged() -> None:
    head, sof, table, rest = jpeg_parts()
    data = head + hidden(sized(sof, (32_000, 32_000))) + table + rest
    with pytest.raises(InvalidInput, match="32000 x 32000 pixels"):
        read_gray(data, source="x")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([SMALL, LARGE, (32, 32)]),
            st.sampled_from(["plain", "hidden", "restart", "comment", "cut"]),
            st.sampled_from(["before", "table", "scan", "after"]),
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=200, deadline=None)
def test_the_size_of_a_jpeg_that_is_judged_is_the_size_that_is_decoded(
    sizes: list[tuple[tuple[int, int], str, str]],
) -> None:
    """Sizes stand in every place and behind every kind of marker; a refusal is as good."""
    head, sof, table, rest = jpeg_parts()
    wraps: dict[str, Callable[[bytes], bytes]] = {
        "plain": lambda part: part,
        "hidden": hidden,
        "restart": lambda part: hidden(part).replace(b"\xff\x01", b"\xff\xd3"),
        "comment": lambda part: hidden(part).replace(b"\xff\x01", b"\xff\xfe"),
        "cut": lambda part: part[:4],
    }
    places = dict.fromkeys(("before", "table", "scan", "after"), b"")
    for size, wrap, place in sizes:
        places[place] += wraps[wrap](sized(sof, size))
    scan = rest[: len(rest) // 2], rest[len(rest) // 2 : -2]
    data = head + places["before"] + table + places["table"] + scan[0] + places["scan"] + scan[1]
    data += places["after"] + rest[-2:]
    try:
        header = inspect(data, source="x")
    except InvalidInput:
        return
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH)
    assert pixels is None or pixels.shape == (header.height, header.width)


def tiff(*tags: tuple[int, int, int]) -> bytes:
    """Return a gray TIFF of 300 x 200 zeros; `tags` (tag, type, value) come before equal ones."""
    own = [(257, 3, 200), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 400), (277, 3, 1)]
    own += [(278, 3, 200), (279, 4, 60_000)]
    entries = sorted([*tags, *own], key=lambda entry: entry[0])
    packed = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries]
    head = b"II*\x00" + struct.pack("<IH", 8, len(entries)) + b"".join(packed) + bytes(4)
    return head.ljust(400, b"\x00") + bytes(60_000)


@pytest.mark.parametrize("kind", [3, 4, 8, 9, 16])
def test_a_tiff_that_states_its_width_twice_is_refused(kind: int) -> None:
    assert read_gray(tiff((256, 3, 300)), source="x").shape == (200, 300)
    for first, second in ((300, 10), (10, 300)):
        with pytest.raises(InvalidInput, match="tag 256 twice"):
            read_gray(tiff((256, kind, first), (256, 3, second)), source="x")
    with pytest.raises(InvalidInput, match="tag 257 twice"):
        read_gray(tiff((256, 3, 300), (257, kind, 10)), source="x")


def test_a_tiff_without_any_number_of_bits_is_no_bug() -> None:
    data = tiff((256, 3, 300))
    entry = struct.pack("<HHI", 258, 3, 1)
    none = data.replace(entry, struct.pack("<HHI", 258, 3, 0))
    assert inspect(none, source="x").bits == 1


def test_the_first_page_of_a_tiff_is_judged_and_decoded() -> None:
    pages = [np.full((20, 30), 7, np.uint8), np.full((200, 300), 9, np.uint8)]
    done, data = cv2.imencodemulti(".tiff", pages)
    assert done
    np.testing.assert_array_equal(read_gray(data.tobytes(), source="x"), pages[0])
    assert inspect(data.tobytes(), source="x").width == 30


def test_a_png_whose_size_is_not_its_first_and_only_one_is_refused() -> None:
    data = png(4, 4, zlib.compress(bytes(20)))
    signature, header, rest = data[:8], data[8:33], data[33:]
    assert read_gray(data, source="x").shape == (4, 4)
    with pytest.raises(InvalidInput, match="does not start with its header"):
        read_gray(signature + chunk(b"zzZz", header[8:21]) + header + rest, source="x")
    with pytest.raises(InvalidInput, match="states its size twice"):
        read_gray(signature + header + header + rest, source="x")


def test_a_webp_that_starts_with_something_else_is_refused() -> None:
    data = encoded(three(gray_picture()), ".webp")
    with pytest.raises(InvalidInput, match="not with a picture"):
        read_gray(data[:12] + b"JUNK" + data[16:], source="x")


def test_pixels_of_another_size_than_the_judged_one_are_refused() -> None:
    data = encoded(gray_picture(), ".png")
    judged = inspect(data, source="x")
    turned = Header("PNG", judged.width, judged.height, 8, 1)
    assert decode_gray(data, turned, source="x").shape == (60, 80)
    with pytest.raises(InvalidInput, match="decoded to 80 x 60 pixels, its header says 80 x 61"):
        decode_gray(data, Header("PNG", 61, 80, 8, 1), source="x")


def test_millions_of_empty_parts_are_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hbseg.data.formats.MAX_PARTS", 1000)
    head = png(4, 4, b"")[:33]
    with pytest.raises(InvalidInput, match="too many chunks"):
        read_gray(head + chunk(b"IDAT", b"") * 2000, source="x")
    with pytest.raises(InvalidInput, match="no size"):
        read_gray(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2000, source="x")


def test_half_the_pixels_behind_sound_checksums_are_refused() -> None:
    half = zlib.compress(bytes(51 * 25))
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        read_gray(png(50, 50, half), source="x")


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF89a"]
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^hand: "):
        read_gray(data, source="hand")


def test_floating_point_pictures_are_refused() -> None:
    with pytest.raises(InvalidInput, match="float32 values"):
        read_gray(encoded(np.ones((9, 9), dtype=np.float32), ".tiff"), source="x")


@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255))))
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_give_pixels_or_a_refusal(
    suffix: str, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(encoded(three(gray_picture()), suffix))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        found = read_gray(bytes(data), source="x")
    except InvalidInput:
        return
    assert found.dtype == np.uint8
    assert found.ndim == 2


def test_png_round_trip_keeps_gray_and_rgb() -> None:
    gray = gray_picture()
    np.testing.assert_array_equal(read_gray(encode_png(gray), source="x"), gray)
    colour = np.dstack([gray, gray // 2, 255 - gray])
    found = cv2.imdecode(np.frombuffer(encode_png(colour), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(found, colour[:, :, ::-1])


def test_other_arrays_are_no_picture() -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        encode_png(np.zeros((4, 4, 2), dtype=np.uint8))
