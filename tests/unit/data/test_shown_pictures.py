"""Pictures of every kind come out as a viewer shows them: against pixels worked out here."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hbseg.data.formats import inspect
from hbseg.data.pictures import read_gray
from hbseg.errors import InvalidInput

Pixels = NDArray[np.int64]

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (11, 13))
RGB = RNG.integers(0, 256, (11, 13, 3))
ALPHA = RNG.integers(0, 256, (11, 13))
LUMA = RGB @ np.array([0.299, 0.587, 0.114])
INTERLACED = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Adam7: first column and row, and steps of each pass (source: PNG, section 8.2)."""


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def packed(pixels: Pixels, bits: int, order: str = ">") -> list[bytes]:
    """Return the rows of pixels as files have them."""
    rows = pixels.reshape(len(pixels), -1)
    if bits in (8, 16):
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in rows]
    planes = [[(int(v) >> bit) & 1 for v in row for bit in range(bits - 1, -1, -1)] for row in rows]
    return [np.packbits(plane).tobytes() for plane in planes]


def png(
    pixels: Pixels,
    bits: int,
    colour: int,
    *before: bytes,
    interlaced: bool = False,
    after: bytes = b"",
) -> bytes:
    """Return a PNG of pixels [H, W] or [H, W, channels]; chunks stand before or after them."""
    passes = INTERLACED if interlaced else ((0, 0, 1, 1),)
    parts = [pixels[y::down, x::across] for x, y, across, down in passes]
    rows = [b"\0" + row for part in parts if part.size for row in packed(part, bits)]
    head = struct.pack(">IIBBBBB", pixels.shape[1], len(pixels), bits, colour, 0, 0, interlaced)
    body = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + b"".join(before) + body + after + chunk(b"IEND", b"")


def tiff(pixels: Pixels, bits: int, photometric: int, **tags: int) -> bytes:
    """Return an uncompressed TIFF; `tags` are further ones of the type SHORT, as `t274=6`."""
    height, width = pixels.shape[:2]
    channels = pixels.size // (height * width)
    data = b"".join(packed(pixels, bits, "<"))
    values = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8}
    values |= {277: channels, 278: height, 279: len(data)}
    values |= {int(name[1:]): value for name, value in tags.items()}
    depths = struct.pack("<HHHH", *[bits] * 4)
    end = 8 + len(data) + len(data) % 2
    entries = b""
    for tag, value in sorted(values.items()):
        if tag == 258 and channels > 2:
            entries += struct.pack("<HHII", tag, 3, channels, end)
        else:
            entries += struct.pack("<HHII", tag, 3 if value < 65536 else 4, 1, value)
    folder = struct.pack("<H", len(values)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", end + 8) + data.ljust(end - 8, b"\0") + depths + folder


def exif(orientation: int, order: str = ">") -> bytes:
    """Return EXIF data that turns a picture."""
    head = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(f"{order}HHHIHH", 1, 274, 3, 1, orientation, 0)
    return head + struct.pack(f"{order}I", 8) + entry + bytes(4)


def jpeg(pixels: Pixels, *options: int) -> bytes:
    done, data = cv2.imencode(".jpg", pixels.astype(np.uint8), options)
    assert done
    return data.tobytes()


def webp(pixels: Pixels) -> bytes:
    """Return a lossless WebP of pixels [H, W, 3 or 4] in the order RGB."""
    bgr = pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]].astype(np.uint8)
    done, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert done
    return data.tobytes()


def extended_webp(plain: bytes, width: int, height: int, orientation: int) -> bytes:
    """Return a lossless WebP with EXIF data (source: WebP container, VP8X)."""

    def part(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    start = plain.index(b"VP8L")
    (length,) = struct.unpack_from("<I", plain, start + 4)
    size = [(side - 1).to_bytes(3, "little") for side in (width, height)]
    alpha = plain[start + 12] >> 4 & 1
    flags = bytes([0x08 | alpha << 4, 0, 0, 0])
    body = b"WEBP" + part(b"VP8X", flags + b"".join(size))
    body += part(b"VP8L", plain[start + 8 : start + 8 + length]) + part(b"EXIF", exif(orientation))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def over_black(
    levels: Pixels | NDArray[np.float64], alpha: Pixels, full: int = 255
) -> NDArray[np.float64]:
    return np.asarray(levels * alpha / full, dtype=np.float64)


def shown(data: bytes) -> NDArray[np.int64]:
    return read_gray(data, source="x").astype(np.int64)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_gray_png_of_few_bits_has_all_levels_from_black_to_white(
    bits: int, interlaced: bool
) -> None:
    levels = RNG.integers(0, 2**bits, (11, 13))
    found = shown(png(levels, bits, 0, interlaced=interlaced))
    np.testing.assert_array_equal(found, levels * 255 // (2**bits - 1))


PALETTE = RNG.integers(0, 256, (16, 3))
GRAYS = np.repeat(np.arange(0, 256, 17)[:, None], 3, axis=1)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("palette", [PALETTE, GRAYS], ids=["colour", "gray"])
@pytest.mark.parametrize("alpha", [(), (0, 128, 200)], ids=["whole", "transparent"])
def test_a_palette_is_looked_up(bits: int, palette: Pixels, alpha: tuple[int, ...]) -> None:
    index = RNG.integers(0, 16, (11, 13))
    chunks = [chunk(b"PLTE", palette.astype(np.uint8).tobytes())]
    chunks += [chunk(b"tRNS", bytes(alpha))] if alpha else []
    levels = palette @ np.array([0.299, 0.587, 0.114])
    through = np.array([*alpha, *[255] * (16 - len(alpha))])
    expected = over_black(levels, through)[index]
    np.testing.assert_allclose(shown(png(index, bits, 3, *chunks)), expected, atol=1)


DEEP_ALPHA = RNG.integers(0, 65536, (11, 13))
TRANSPARENT: Mapping[str, tuple[bytes, NDArray[np.float64]]] = {
    "gray and alpha": (png(np.dstack([GRAY, ALPHA]), 8, 4), over_black(GRAY, ALPHA)),
    "gray and alpha, interlaced": (
        png(np.dstack([GRAY, ALPHA]), 8, 4, interlaced=True),
        over_black(GRAY, ALPHA),
    ),
    "16 bit gray and alpha": (
        png(np.dstack([GRAY * 257, DEEP_ALPHA]), 16, 4),
        over_black(GRAY, DEEP_ALPHA, 65535),
    ),
    "colour and alpha": (png(np.dstack([RGB, ALPHA]), 8, 6), over_black(LUMA, ALPHA)),
    "16 bit colour and alpha": (
        png(np.dstack([RGB * 257, DEEP_ALPHA]), 16, 6),
        over_black(LUMA, DEEP_ALPHA, 65535),
    ),
    "a transparent gray": (
        png(GRAY, 8, 0, chunk(b"tRNS", struct.pack(">H", GRAY[3, 4]))),
        np.where(GRAY[3, 4] == GRAY, 0, GRAY),
    ),
    "a transparent gray of 4 bits": (
        png(GRAY % 16, 4, 0, chunk(b"tRNS", struct.pack(">H", 9))),
        np.where(GRAY % 16 == 9, 0, GRAY % 16 * 17),
    ),
    "a transparent gray of 16 bits": (
        png(GRAY * 257, 16, 0, chunk(b"tRNS", struct.pack(">H", GRAY[3, 4] * 257))),
        np.where(GRAY[3, 4] == GRAY, 0, GRAY),
    ),
    "a transparent colour": (
        png(RGB, 8, 2, chunk(b"tRNS", struct.pack(">HHH", *RGB[3, 4]))),
        np.where((RGB[3, 4] == RGB).all(axis=2), 0, LUMA),
    ),
    "TIFF": (tiff(np.dstack([RGB, ALPHA]), 8, 2, t338=2), over_black(LUMA, ALPHA)),
    "16 bit TIFF": (
        tiff(np.dstack([RGB * 257, DEEP_ALPHA]), 16, 2, t338=2),
        over_black(LUMA, DEEP_ALPHA, 65535),
    ),
    "TIFF, multiplied already": (tiff(np.dstack([RGB, ALPHA]), 8, 2, t338=1), LUMA),
    "WebP": (
        webp(np.dstack([RGB, np.full_like(ALPHA, 102)])),
        over_black(LUMA, np.full_like(ALPHA, 102)),
    ),
}


@pytest.mark.parametrize(("data", "expected"), TRANSPARENT.values(), ids=TRANSPARENT)
def test_transparent_pixels_let_black_through(data: bytes, expected: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(shown(data), expected, atol=1)


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 8, 10, 12, 14, 16])
def test_a_tiff_whose_0_is_white_is_no_negative(bits: int, photometric: int) -> None:
    levels = RNG.integers(0, 2**bits, (11, 13))
    levels[0, 0] = 2**bits - 1
    expected = levels * 255 / (2**bits - 1)
    expected = expected if photometric == 1 else 255 - expected
    np.testing.assert_allclose(shown(tiff(levels, bits, photometric)), expected, atol=0.75)


@pytest.mark.parametrize("file", [lambda v: png(v, 16, 0), lambda v: tiff(v, 16, 1)])
@pytest.mark.parametrize("used", [8, 10, 12, 14, 16])
def test_16_bits_are_divided_by_what_they_use(file: Callable[[Pixels], bytes], used: int) -> None:
    full = 2**used - 1
    levels = RNG.integers(full // 3, full // 2, (11, 13))
    levels[5, 5] = full
    np.testing.assert_allclose(shown(file(levels)), levels * 255 / full, atol=0.51)


DETECTOR = RNG.integers(0, 4096, (11, 13))
DETECTOR[5, 5] = 4095
BORDER = np.zeros_like(DETECTOR, dtype=bool)
BORDER[:2] = True
BORDERED = np.where(BORDER, 65535, DETECTOR)
UNSEEN: Mapping[str, bytes] = {
    "a transparent gray": png(BORDERED, 16, 0, chunk(b"tRNS", b"\xff\xff")),
    "gray and alpha": png(np.dstack([BORDERED, np.where(BORDER, 0, 65535)]), 16, 4),
    "colour and alpha": png(np.dstack([*[BORDERED] * 3, np.where(BORDER, 0, 65535)]), 16, 6),
    "TIFF": tiff(np.dstack([*[BORDERED] * 3, np.where(BORDER, 0, 65535)]), 16, 2, t338=2),
}
"""Pictures of 12 bits with a transparent border that needs 16."""


@pytest.mark.parametrize("data", UNSEEN.values(), ids=UNSEEN)
def test_transparent_pixels_do_not_decide_the_depth(data: bytes) -> None:
    expected = np.where(BORDER, 0, DETECTOR * 255 / 4095)
    np.testing.assert_allclose(shown(data), expected, atol=0.51)


def test_16_bits_are_not_stretched_to_the_pictures_own_range() -> None:
    levels = RNG.integers(20_000, 30_000, (11, 13))
    np.testing.assert_allclose(shown(png(levels, 16, 0)), levels / 257, atol=0.51)
    assert not shown(png(np.zeros_like(levels), 16, 0)).any()


def test_three_equal_channels_of_16_bits_are_gray() -> None:
    levels = GRAY * 257
    np.testing.assert_array_equal(shown(png(np.dstack([levels] * 3), 16, 2)), GRAY)


COLOUR_SPACES = {
    "gAMA": chunk(b"gAMA", struct.pack(">I", 45455)),
    "linear gAMA": chunk(b"gAMA", struct.pack(">I", 100_000)),
    "sRGB": chunk(b"sRGB", b"\0"),
    "cHRM": chunk(
        b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    ),
}


@pytest.mark.parametrize("space", COLOUR_SPACES.values(), ids=COLOUR_SPACES)
def test_the_colour_space_of_a_png_changes_nothing(space: bytes) -> None:
    np.testing.assert_array_equal(shown(png(GRAY, 8, 0, space)), GRAY)
    np.testing.assert_array_equal(shown(png(np.dstack([GRAY] * 3), 8, 2, space)), GRAY)
    np.testing.assert_allclose(shown(png(RGB, 8, 2, space)), LUMA, atol=1)
    np.testing.assert_allclose(shown(png(RGB * 257, 16, 2, space)), LUMA, atol=1)


WAVE = np.add.outer(np.arange(16) * 6, np.arange(24) * 5)
TURNED: Mapping[int, Callable[[Pixels], Pixels]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.T,
    6: lambda p: p[::-1].T,
    7: lambda p: p[::-1, ::-1].T,
    8: lambda p: p[:, ::-1].T,
}
"""Row 0 is shown on top (1, 2), at the bottom (3, 4), on the left (5, 8) or right (6, 7)."""


@pytest.mark.parametrize("orientation", TURNED)
def test_a_turn_that_exif_or_tiff_asks_for_is_done(orientation: int) -> None:
    expected = TURNED[orientation](WAVE)
    told = b"Exif\0\0" + exif(orientation, "<")
    app1 = b"\xff\xe1" + struct.pack(">H", len(told) + 2) + told
    plain, half = jpeg(WAVE), np.full_like(WAVE, 128)
    chunked = chunk(b"eXIf", exif(orientation))
    gray3, gray4 = np.dstack([WAVE] * 3), np.dstack([WAVE] * 3 + [half])
    whole = [
        png(WAVE, 8, 0, chunked),
        png(WAVE, 8, 0, after=chunked),
        tiff(WAVE, 8, 1, t274=orientation),
        tiff(WAVE * 257, 16, 1, t274=orientation),
        extended_webp(webp(gray3), 24, 16, orientation),
    ]
    for data in whole:
        np.testing.assert_array_equal(shown(data), expected)
    np.testing.assert_allclose(shown(plain[:2] + app1 + plain[2:]), expected, atol=8)
    through = [
        png(np.dstack([WAVE, half]), 8, 4, chunked),
        png(gray4, 8, 6, after=chunked),
        tiff(gray4 * 257, 16, 2, t338=2, t274=orientation),
        extended_webp(webp(gray4), 24, 16, orientation),
    ]
    for data in through:
        np.testing.assert_allclose(shown(data), over_black(expected, expected * 0 + 128), atol=1)


@pytest.mark.parametrize("told", [b"", b"MM", exif(9), exif(6)[:12], exif(0), b"nothing" * 9])
def test_exif_that_says_nothing_of_use_turns_nothing(told: bytes) -> None:
    data = png(np.dstack([WAVE, np.full_like(WAVE, 255)]), 8, 4, chunk(b"eXIf", told))
    np.testing.assert_array_equal(shown(data), WAVE)


CMYK = (
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwACAQEBAQECAQEBAgICAgIEAwICAgIFBAQDBAYFBgYGBQYGBgcJCAYHCQcGBggLCAkK"
    "CgoKCgYICwwLCgwJCgoK/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAgJ/8QAFBABAAAAAAAA"
    "AAAAAAAAAAAAAP/aAA4EQwBNAFkASwAAPwCwheD2q4//2Q=="
)
"""A JPEG of 8 x 8 pixels of cyan 30, magenta 80, yellow 160 and black 40, of 255, as Adobe does."""


def test_a_cmyk_jpeg_is_light_where_there_is_no_ink() -> None:
    inks = np.array([30, 80, 160])
    expected = (255 - inks) * (255 - 40) / 255 @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(shown(base64.b64decode(CMYK)), np.full((8, 8), expected), atol=2)


def test_a_progressive_jpeg_is_the_sequential_one() -> None:
    progressive = jpeg(WAVE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert b"\xff\xc2" in progressive
    np.testing.assert_array_equal(shown(progressive), shown(jpeg(WAVE)))


@pytest.mark.parametrize("is_default", [True, False])
def test_an_animated_png_is_its_still_picture(is_default: bool) -> None:
    """Of an animation, or the one that is for viewers that know none (source: APNG)."""

    def control(number: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 13, 11, 0, 0, 1, 10, 0, 0))

    other = zlib.compress(b"".join(b"\0" + row for row in packed(255 - GRAY, 8)))
    frames = 1 + is_default
    before = [chunk(b"acTL", struct.pack(">II", frames, 0)), *[control(0)] * is_default]
    data = chunk(b"fdAT", struct.pack(">I", frames) + other)
    animated = png(GRAY, 8, 0, *before, after=control(frames - 1) + data)
    np.testing.assert_array_equal(shown(animated), GRAY)


REFUSED = {
    "BigTIFF": (b"II\x2b\0\x08\0\0\0" + bytes(16), "a BigTIFF, which is not read"),
    "signed": (tiff(GRAY, 16, 1, t339=2), "a TIFF of signed values"),
    "2 bits": (tiff(GRAY % 4, 2, 1), "a TIFF of 2 bits a channel cannot be decoded"),
    "JPEG-LS": (b"\xff\xd8\xff\xf7\0\x0b" + bytes(20) + b"\xff\xd9", "a JPEG-LS picture"),
    "12 bits": (
        jpeg(WAVE).replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b\x0c"),
        "a JPEG of 12 bits a channel cannot be decoded",
    ),
}


@pytest.mark.parametrize(("data", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_whole_picture_that_is_not_read_is_not_called_damaged(data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=f"^x: {sentence}.*export it as an 8 or 16 bit PNG$"):
        read_gray(data, source="x")


@pytest.mark.parametrize("alpha", [(), (255, 255)])
def test_a_transparent_palette_counts_as_alpha_and_a_whole_one_does_not(
    alpha: tuple[int, ...],
) -> None:
    palette = chunk(b"PLTE", GRAYS.astype(np.uint8).tobytes())
    whole = [chunk(b"tRNS", bytes(alpha))] * bool(alpha)
    assert inspect(png(GRAY % 16, 4, 3, palette, *whole), source="x").channels == 3
    data = png(GRAY % 16, 4, 3, palette, chunk(b"tRNS", b"\0"))
    assert inspect(data, source="x").channels == 4
