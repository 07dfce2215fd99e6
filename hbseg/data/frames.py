"""The frames of a shard: pictures and polygons as bytes, compressed by zstd with a checksum.

Polygons are little-endian int32: number of outlines; for each its bone (0 to 28) and number of
points; then all points x, y. Equal samples give equal bytes with the same version of the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from hbseg.anatomy import BONES, INDEX, NUM_BONES
from hbseg.data.annotation import FARTHEST, Polygon, Polygons
from hbseg.data.shards import AGAIN
from hbseg.errors import ContractError

LEVEL: Final = 3
"""zstd level: 15 ms and 1.6 MB a hand; level 1 is 5 ms faster and 5 % larger, 5 twice as slow."""

MAX_POLYGON_BYTES: Final = 64 << 20


def pack_picture(pixels: NDArray[np.uint8]) -> bytes:
    """Return the frame of a gray picture, uint8 [H, W]."""
    return _compressed(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes())


def unpack_picture(frame: bytes, shape: tuple[int, int], *, source: str) -> NDArray[np.uint8]:
    """Return the gray picture, uint8 [H, W] of `shape`, read-only, in a frame.

    Raises:
        ContractError: the frame is damaged or of another size.
    """
    data = _decompressed(frame, shape[0] * shape[1], source)
    if len(data) != shape[0] * shape[1]:
        raise ContractError(f"{source} is damaged: {len(data)} pixels, not {shape}", AGAIN)
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def pack_polygons(polygons: Polygons) -> bytes:
    """Return the frame of polygons, in class order."""
    outlines = [(INDEX[bone], points) for bone in BONES for points in polygons.get(bone, ())]
    counts = [[bone, len(points)] for bone, points in outlines]
    parts = [np.array([len(outlines)]), np.array(counts), *(points for _, points in outlines)]
    numbers = np.concatenate([part.ravel().astype("<i4") for part in parts])
    return _compressed(numbers.tobytes())


def unpack_polygons(frame: bytes, *, source: str) -> Polygons:
    """Return the polygons in a frame.

    Raises:
        ContractError: the frame is damaged or its numbers make no sense.
    """
    data = _decompressed(frame, MAX_POLYGON_BYTES, source)
    numbers = np.frombuffer(data[: len(data) // 4 * 4], dtype="<i4").astype(np.int32)
    total = int(numbers[0]) if len(numbers) else -1
    if not 0 <= total <= (len(numbers) - 1) // 2:
        raise ContractError(f"{source} is damaged: its polygons have no beginning", AGAIN)
    counts = numbers[1 : 1 + 2 * total].reshape(total, 2)
    points = numbers[1 + 2 * total :]
    fits = (
        len(points) == 2 * int(counts[:, 1].sum(dtype=np.int64))
        and (counts[:, 1] >= 3).all()
        and ((counts[:, 0] >= 0) & (counts[:, 0] < NUM_BONES)).all()
        and (np.abs(points.astype(np.int64)) <= FARTHEST).all()
    )
    if not fits:
        raise ContractError(f"{source} is damaged: its polygons do not add up", AGAIN)
    return _by_bone(counts, points.reshape(-1, 2))


def _by_bone(counts: NDArray[np.int32], points: NDArray[np.int32]) -> Polygons:
    ends: Sequence[int] = np.cumsum(counts[:, 1]).tolist()
    polygons: Polygons = {}
    for (bone, number), end in zip(counts.tolist(), ends, strict=True):
        outline: Polygon = points[end - number : end]
        polygons.setdefault(BONES[bone], []).append(outline)
    return polygons


def _compressed(data: bytes) -> bytes:
    return bytes(zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(data))


def _decompressed(frame: bytes, most: int, source: str) -> bytes:
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= most:
            raise ContractError(f"{source} is damaged: {size} bytes, expected {most}", AGAIN)
        return bytes(zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False))
    except zstandard.ZstdError as error:
        reason = " ".join(str(error).split())[:120]
        raise ContractError(f"{source} is damaged: {reason}", AGAIN) from None
