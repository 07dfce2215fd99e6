"""Picture files as gray pixels, and gray or colour pixels as PNG.

A picture is what every viewer shows of the file: a rotation that EXIF asks for is applied. Colour
becomes gray as luma (three equal channels keep their value exactly), alpha is ignored,
16 bits are stretched from the picture's own least to its own greatest value onto 0 to 255.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hbseg.data.formats import Header, inspect
from hbseg.errors import InvalidInput


def read_gray(data: bytes, *, source: str) -> NDArray[np.uint8]:
    """Return the gray pixels, uint8 [H, W] of 0 to 255, of a PNG, JPEG, TIFF, BMP or WebP file.

    8 or 16 bits a channel, 1 to 4 channels; see the module's text for what becomes of them.
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
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        pixels = _decoded(buffer)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise InvalidInput(f"{source}: the picture cannot be decoded; it is damaged")
    _check_size(pixels, header, source)
    if pixels.dtype == np.uint16:
        return _stretched(pixels.astype(np.uint16, copy=False))
    if pixels.dtype != np.uint8:
        raise InvalidInput(f"{source}: {pixels.dtype} values, expected 8 or 16 bits a channel")
    return pixels.astype(np.uint8, copy=False)


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


def _decoded(buffer: NDArray[np.uint8]) -> NDArray[Any] | None:
    if bytes(buffer[:2]) in (b"BM", b"RI"):
        # OpenCV's BMP and WebP decoders round gray otherwise: 37, 37, 37 may become 36.
        colour = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        return None if colour is None else cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    return cv2.imdecode(buffer, cv2.IMREAD_ANYDEPTH)  # half the time of colour, for PNG


def _stretched(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return round(255 (v - least) / (greatest - least)); a flat picture becomes black."""
    least, greatest = int(pixels.min()), int(pixels.max())
    scale = 255.0 / max(greatest - least, 1)
    table = np.rint((np.arange(65536) - least).clip(0) * scale).clip(0, 255).astype(np.uint8)
    return np.asarray(table[pixels], dtype=np.uint8)
