"""Size, depth and wholeness of a picture file, read from its bytes before anything is decoded.

OpenCV (some versions) returns what it could decode of a cut-off file, and believes the size that a
header claims. So the structure is walked here first: PNG chunks with their checksums to IEND,
JPEG segments and scans to EOI, TIFF strips, BMP rows and RIFF sizes that must lie in the file.

The size that is judged must be the size that is decoded. A file that states it twice is refused:
decoders disagree about which one counts (libjpeg and libtiff take the first).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hbseg.errors import InvalidInput

MAX_PIXELS: Final = 100_000_000
"""Largest picture that is decoded, in pixels (10,000 x 10,000): a guard against bombs."""


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself."""

    format: str
    """`PNG`, `JPEG`, `TIFF`, `BMP` or `WebP`."""
    height: int
    """Rows as stored, before any rotation that EXIF asks for."""
    width: int
    bits: int
    """Bits per channel."""
    channels: int
    """Channels with alpha; a palette counts as 3, a transparent colour of a PNG as alpha."""
    alpha: bool = False
    """Whether pixels are transparent, which decoders leave to their caller."""
    clear_level: int | None = None
    """Level, of 8 or 16 bits, that is transparent in a gray PNG."""
    orientation: int = 1
    """EXIF's number, 1 to 8, of a PNG or WebP with alpha; decoders turn all others themselves."""
    white_is_zero: bool = False
    """Whether 0 is white, in a TIFF of more than 8 bits; decoders turn all others themselves."""
    colour_space: bool = False
    """Whether a PNG in colour says what its colours are; decoders weigh them otherwise then."""


READING: Final = 3
"""Number of the way in which pictures become gray: what is made of pictures follows it. 2: 16 bits
are not stretched, transparent pixels are black, a PNG's colour space changes nothing. 3: the depth
is that of the visible pixels."""

MAX_PARTS: Final = 1_000_000
"""Most PNG chunks or JPEG segments that are walked, about a second's work."""


class _BrokenError(Exception):
    """The bytes are not a whole file of their format, or of a kind that is not read."""


def inspect(data: bytes, *, source: str) -> Header:
    """Return the header of a whole PNG, JPEG, TIFF, BMP or WebP file; `source` names it in errors.

    Raises:
        InvalidInput: another format, cut off or damaged, or of more than `MAX_PIXELS` pixels.
    """
    if not data:
        raise InvalidInput(f"{source}: the file is empty")
    read = next((reader for magic, reader in _READERS if magic.match(data)), None)
    if read is None:
        raise InvalidInput(f"{source}: not a PNG, JPEG, TIFF, BMP or WebP picture")
    try:
        header = read(data)
    except _BrokenError as error:
        raise InvalidInput(f"{source}: {error}") from None
    except (struct.error, IndexError, KeyError):
        raise InvalidInput(f"{source}: the picture is cut off or damaged") from None
    if header.height < 1 or header.width < 1 or header.height * header.width > MAX_PIXELS:
        raise InvalidInput(
            f"{source}: {header.width} x {header.height} pixels, "
            f"expected 1 to {MAX_PIXELS:,} in all"
        )
    return header


_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


def _png(data: bytes) -> Header:
    if data[8:16] != b"\x00\x00\x00\x0dIHDR":
        raise _BrokenError("damaged: the PNG does not start with its header (IHDR)")
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    view, position = memoryview(data), 8
    found: dict[bytes, bytes] = {}
    for _ in range(MAX_PARTS):
        if position + 12 > len(data):
            raise _BrokenError("cut off: the PNG has no end (IEND)")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            raise _BrokenError(f"cut off in the middle: {len(data)} bytes of the PNG are there")
        if zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise _BrokenError(f"damaged: wrong PNG checksum at byte {position}")
        if kind == b"IHDR" and position > 8:
            raise _BrokenError("damaged: the PNG states its size twice (IHDR)")
        if kind in _PNG_TELLING and (kind == b"eXIf" or b"IDAT" not in found):
            found.setdefault(kind, b"" if kind == b"IDAT" else bytes(view[position + 8 : end]))
        position = end + 4
        if kind == b"IEND":
            break
    else:
        raise _BrokenError("damaged: the PNG has too many chunks")
    return _png_header(height, width, bits, colour, found)


_PNG_TELLING: Final = frozenset(
    (b"IDAT", b"tRNS", b"eXIf", b"cHRM", b"gAMA", b"sRGB", b"iCCP", b"cICP")
)
"""Chunks that say how pixels are shown, before the first IDAT (eXIf: anywhere)."""
_GRAY, _RGB, _PALETTE = 0, 2, 3
"""Colour types of a PNG without alpha."""


def _png_header(
    height: int, width: int, bits: int, colour: int, found: dict[bytes, bytes]
) -> Header:
    """Return the header of a PNG; `found` are its telling chunks."""
    channels, clear, level = _PNG_CHANNELS[colour], found.get(b"tRNS", b""), None
    if colour == _GRAY and len(clear) == 2:
        full = (1 << bits) - 1
        level = (int.from_bytes(clear, "big") & full) * (255 // full if bits < 8 else 1)
    has_clear = level is not None or (colour == _RGB and len(clear) == 6)
    has_clear |= colour == _PALETTE and any(value < 255 for value in clear)
    alpha = colour in (4, 6) or (has_clear and colour != _GRAY)
    return Header(
        "PNG",
        height,
        width,
        8 if colour == _PALETTE else bits,
        channels + has_clear,
        alpha=alpha,
        clear_level=level,
        orientation=_orientation(found.get(b"eXIf", b"")) if alpha else 1,
        colour_space=channels >= 3 and not found.keys() <= {b"IDAT", b"tRNS", b"eXIf"},
    )


def _orientation(exif: bytes) -> int:
    """Return EXIF's number for how a picture is turned; 1 where it does not say."""
    exif = exif.removeprefix(b"Exif\x00\x00")
    try:
        tags = _tiff_tags(exif, "<" if exif[:2] == b"II" else ">")
        found = tags[274][0]
    except (_BrokenError, struct.error, IndexError, KeyError):
        return 1
    return found if 1 <= found <= 8 else 1


_JPEG_SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SEGMENT: Final = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker that a length follows, or EOI. TEM (1) and the restarts (0xD0 to 0xD7) stand alone: what
follows them is read by every decoder, so it must not be skipped as their content."""


def _jpeg(data: bytes) -> Header:
    # What follows the EOI (zeros, previews of phones) is no part of the picture.
    header, position = None, 2
    for _ in range(MAX_PARTS):
        position = _jpeg_marker(data, position)
        marker = data[position + 1]
        if marker == 0xD9:
            break
        if marker == 0xF7:
            raise _BrokenError(f"a JPEG-LS picture, which is not read; {_EXPORT}")
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _JPEG_SIZES:
            if header is not None:
                raise _BrokenError("damaged: the JPEG states its size twice (SOF)")
            bits, height, width, channels = struct.unpack_from(">BHHB", data, position + 4)
            header = Header("JPEG", height, width, bits, channels)
        position += 2 + length
    if header is None:
        raise _BrokenError("damaged: the JPEG states no size")
    return header


def _jpeg_marker(data: bytes, position: int) -> int:
    """Return where the next segment starts; escaped bytes and markers without one are skipped."""
    found = _JPEG_SEGMENT.search(data, position)
    if found is None:
        raise _BrokenError("cut off: the JPEG has no end (EOI)")
    return found.start()


_EXPORT: Final = "export it as an 8 or 16 bit PNG"
_TIFF_TYPES: Final = {1: "B", 3: "H", 4: "I"}


def _tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    tags = _tiff_tags(data, order)
    for offsets, lengths in ((273, 279), (324, 325)):
        for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False):
            if offset + length > len(data):
                raise _BrokenError(f"cut off: {len(data)} bytes of the TIFF are there")
    if _SIGNED in tags.get(339, ()):
        raise _BrokenError(f"a TIFF of signed values, expected unsigned ones; {_EXPORT}")
    bits, channels = max(tags.get(258, (1,)), default=1), tags.get(277, (1,))[0]
    deep = bits > 8
    return Header(
        "TIFF",
        tags[257][0],
        tags[256][0],
        bits,
        channels,
        alpha=deep and channels == 4 and tags.get(338) == (_UNASSOCIATED_ALPHA,),
        white_is_zero=deep and tags.get(262) == (0,),
    )


_SIGNED: Final = 2
"""Of the tag SampleFormat."""
_UNASSOCIATED_ALPHA: Final = 2
"""Of the tag ExtraSamples: colours are not multiplied by alpha yet. In 8 bits decoders do it."""


def _big_tiff(data: bytes) -> Header:
    raise _BrokenError(f"a BigTIFF, which is not read; {_EXPORT}")


def _tiff_tags(data: bytes, order: str) -> dict[int, tuple[int, ...]]:
    """Return the whole-number tags of the first picture in the file, the one that is decoded."""
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    tags: dict[int, tuple[int, ...]] = {}
    seen: set[int] = set()
    for position in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, position)
        if tag in seen:  # of any type: libtiff reads a width that is a signed number, too
            raise _BrokenError(f"damaged: the TIFF has tag {tag} twice")
        seen.add(tag)
        if kind not in _TIFF_TYPES:
            continue
        size = number * struct.calcsize(_TIFF_TYPES[kind])
        where = position + 8
        if size > 4:
            (where,) = struct.unpack_from(f"{order}I", data, position + 8)
        if where + size > len(data):
            raise _BrokenError(f"cut off: {len(data)} bytes of the TIFF are there")
        tags[tag] = struct.unpack_from(f"{order}{number}{_TIFF_TYPES[kind]}", data, where)
    return tags


def _bmp(data: bytes) -> Header:
    start, size = struct.unpack_from("<II", data, 10)
    packed = 0
    if size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, depth, packed = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)
    needed = struct.unpack_from("<I", data, 2)[0]
    if packed in (0, 3):
        needed = start + (width * depth + 31) // 32 * 4 * height
    if needed > len(data):
        raise _BrokenError(f"cut off: {len(data)} of {needed} bytes of the BMP are there")
    return Header("BMP", height, width, 8, {32: 4, 16: 3}.get(depth, 3))


def _webp(data: bytes) -> Header:
    needed = struct.unpack_from("<I", data, 4)[0] + 8
    if needed > len(data):
        raise _BrokenError(f"cut off: {len(data)} of {needed} bytes of the WebP are there")
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        alpha = bool(data[20] & 0x10)
        turn = _webp_turn(data) if alpha else 1
        return Header("WebP", height, width, 8, 3 + alpha, alpha, orientation=turn)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        height, width = (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1
        alpha = bool(packed >> 28 & 1)
        return Header("WebP", height, width, 8, 3 + alpha, alpha)
    if kind != b"VP8 ":
        raise _BrokenError(f"damaged: the WebP starts with {kind!r}, not with a picture")
    width, height = struct.unpack_from("<HH", data, 26)
    return Header("WebP", height & 0x3FFF, width & 0x3FFF, 8, 3)


def _webp_turn(data: bytes) -> int:
    """Return EXIF's number for how a WebP is turned."""
    position = 12
    for _ in range(MAX_PARTS):
        kind = data[position : position + 4]
        if len(kind) < 4:
            return 1
        (length,) = struct.unpack_from("<I", data, position + 4)
        if kind == b"EXIF":
            return _orientation(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    return 1


_READERS: Final[tuple[tuple[re.Pattern[bytes], Callable[[bytes], Header]], ...]] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n", re.DOTALL), _png),
    (re.compile(rb"\xff\xd8\xff", re.DOTALL), _jpeg),
    (re.compile(rb"II\x2a\x00|MM\x00\x2a", re.DOTALL), _tiff),
    (re.compile(rb"II\x2b\x00|MM\x00\x2b", re.DOTALL), _big_tiff),
    (re.compile(rb"BM", re.DOTALL), _bmp),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
)
