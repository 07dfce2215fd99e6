"""What is known of one hand of a raw set: its picture's header, its annotation, and their bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hbseg.data.annotation import Annotation, parse
from hbseg.data.formats import Header, inspect
from hbseg.data.pictures import decode_gray
from hbseg.data.raw import RawImage
from hbseg.errors import InvalidInput

MAX_BYTES: Final = 512 << 20
"""Largest file that is read, in bytes."""


@dataclass(frozen=True)
class Evidence:
    """What the rules of `hbseg.data.check` judge. A `_fault` says why the value is none."""

    image: RawImage
    picture_sha256: str | None
    header: Header | None
    picture_fault: str | None
    annotation_sha256: str | None
    annotation: Annotation | None
    annotation_fault: str | None


def gather(root: Path, image: RawImage, *, decode: bool) -> Evidence:
    """Return the evidence of one hand; both files are read once.

    The picture's structure is walked in any case; `decode` also decodes its pixels (about 50 ms).
    """
    header, picture_sha256, picture_fault = _picture(root, image.path, decode)
    annotation, annotation_sha256, annotation_fault = _annotation(root, image.annotation)
    return Evidence(
        image,
        picture_sha256,
        header,
        picture_fault,
        annotation_sha256,
        annotation,
        annotation_fault,
    )


def read_file(root: Path, path: str) -> bytes:
    """Return a file's bytes.

    Raises:
        InvalidInput: it is gone, may not be read, or has more than `MAX_BYTES`.
    """
    try:
        with (root / path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{path}: more than {MAX_BYTES:,} bytes")
    return data


def _picture(root: Path, path: str, decode: bool) -> tuple[Header | None, str | None, str | None]:
    digest = None
    try:
        data = read_file(root, path)
        digest = hashlib.sha256(data).hexdigest()
        header = inspect(data, source=path)
        if decode:
            decode_gray(data, header, source=path)
    except InvalidInput as error:
        return None, digest, _without(path, error)
    return header, digest, None


def _annotation(root: Path, path: str | None) -> tuple[Annotation | None, str | None, str | None]:
    if path is None:
        return None, None, None
    digest = None
    try:
        data = read_file(root, path)
        digest = hashlib.sha256(data).hexdigest()
        return parse(data, source=path), digest, None
    except InvalidInput as error:
        return None, digest, _without(path, error)


def _without(path: str, error: InvalidInput) -> str:
    return error.message.removeprefix(f"{path}: ")
