"""Picture files as gray pixels, and gray or colour pixels as PNG.

A picture is what viewers show of the file (docs/data.md has the table). A rotation that EXIF asks
for is applied. Colour becomes gray as luma (ITU-R BT.601; three equal channels keep their value
exactly). Transparent pixels let black through, as air is in a radiograph. 16 bits are divided by
257; where no visible pixel needs more than 8, 10, 12 or 14 of them, the picture is one of so many
bits. What a file says of its colour space (gamma, profiles) changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.data.formats import Header, inspect
from hbseg.errors import InvalidInput


def read_gray(data: bytes, *, source: str) -> NDArray[np.uint8]:
    """Return the gray pixels, uint8 [H, W] of 0 to 255, of a PNG, JPEG, TIFF, BMP or WebP file.

    1 to 16 bits a channel, 1 to 4 channels; see the module's text for what becomes of them.
    `source` names the file in errors.

    Raises:
        InvalidInput: another format, cut off, damaged, more than 100 megapixels, or floating
            point values.
    """
    return decode_gray(data, inspect(data, source=source), source=source)


def decode_gray(data: bytes, header: Header, *, source: str) -> NDArray[np.uint8]:
    """Return what `read_gray` does, of a file whose `header` is what `inspect` returned for it.

    Raises:
        InvalidInput: damaged in spite of that, of another size than its header says, or floating
            point values.
    """
    try:
        pixels = _decoded(np.frombuffer(data, dtype=np.uint8), header)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise InvalidInput(f"{source}: {_why_not(header)}")
    _check_size(pixels, header, source)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InvalidInput(f"{source}: {pixels.dtype} values, expected 8 or 16 bits a channel")
    return _shown(pixels, header)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return `image`, uint8 [H, W] gray or [H, W, 3] RGB, as a PNG file.

    Raises:
        ValueError: the array is of another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"expected uint8 [H, W] or [H, W, 3], found {image.dtype} {image.shape}")
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be written as PNG")
    return encoded.tobytes()


def _check_size(pixels: NDArray[Any], header: Header, source: str) -> None:
    """Refuse pixels of another size than the one that was judged; EXIF may turn them."""
    height, width = pixels.shape[:2]
    if (header.height, header.width) not in ((height, width), (width, height)):
        raise InvalidInput(
            f"{source}: decoded to {width} x {height} pixels, "
            f"its header says {header.width} x {header.height}; it is damaged"
        )


def _decoded(buffer: NDArray[np.uint8], header: Header) -> NDArray[Any] | None:
    if header.alpha:
        return cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    if header.format in ("BMP", "WebP") or header.colour_space:
        # OpenCV's BMP and WebP decoders round gray otherwise: 37, 37, 37 may become 36. Its PNG
        # decoder weighs colours in linear light where the file states their space.
        return cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    return cv2.imdecode(buffer, cv2.IMREAD_ANYDEPTH)  # half the time of colour, for PNG


def _why_not(header: Header) -> str:
    if header.bits == 8 or (header.bits == 16 and header.format != "JPEG"):
        return "the picture cannot be decoded; it is damaged"
    return (
        f"a {header.format} of {header.bits} bits a channel cannot be decoded; "
        "export it as an 8 or 16 bit PNG"
    )


def _shown(pixels: NDArray[Any], header: Header) -> NDArray[np.uint8]:
    """Return decoded pixels, uint8 or uint16 [H, W] or [H, W, 3 or 4], as viewers show them."""
    alpha = None
    if pixels.ndim == 3:
        alpha = pixels[:, :, 3] if pixels.shape[2] == 4 else None
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY if alpha is None else cv2.COLOR_BGRA2GRAY)
        if alpha is not None:
            pixels[alpha == 0] = 0  # a level that is not shown must not decide the depth
    if header.clear_level is not None:
        pixels[pixels == header.clear_level] = 0
    gray = pixels if pixels.dtype == np.uint8 else _of_eight_bits(pixels, header.bits)
    if header.white_is_zero:
        gray = 255 - gray
    if alpha is not None:
        gray = np.rint(gray * (alpha / np.float32(np.iinfo(alpha.dtype).max)))
    return np.ascontiguousarray(_TURNS[header.orientation](gray), dtype=np.uint8)


_TURNS: Final[tuple[Callable[[NDArray[Any]], NDArray[Any]], ...]] = (
    lambda gray: gray,  # EXIF counts from 1
    lambda gray: gray,
    np.fliplr,
    lambda gray: np.rot90(gray, 2),
    np.flipud,
    np.transpose,
    lambda gray: np.rot90(gray, -1),
    lambda gray: np.rot90(gray, 2).T,
    np.rot90,
)
"""By EXIF's number: what makes the stored pixels the picture (source: TIFF 6.0, Orientation)."""


def _of_eight_bits(pixels: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Return 8 bits of 16, or of the 8, 10, 12 or 14 that hold all values.

    Values of a file that says it has fewer than 16 `bits` are decoded to 16.
    """
    greatest = int(pixels.max()) if bits == 16 else 65535
    full = next(2**used - 1 for used in (8, 10, 12, 14, 16) if greatest < 2**used)
    levels = np.arange(full + 1, dtype=np.float64)
    return np.asarray(np.rint(levels * (255 / full)).astype(np.uint8)[pixels], dtype=np.uint8)
