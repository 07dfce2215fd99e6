"""The one reader of submissions: row by row, in bounded memory, with what is wrong and where."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Generic, TypeVar

from hbseg.anatomy import BONES, NUM_BONES
from hbseg.codes import LeavesPictureError, longest_code
from hbseg.errors import DeniedError, InvalidInput, NotFoundError
from hbseg.submission.expected import Expected, MisplacedError
from hbseg.submission.table import HEADER, Image

if TYPE_CHECKING:
    from hbseg.rle import Runs

Mask = TypeVar("Mask")

_LONGEST_NAME: Final = 4096
"""Characters that a row may have besides its code."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Row(Generic[Mask]):
    """A row that is right."""

    number: int
    """Counted from 1, the header."""
    image: Image
    bone: str
    mask: Mask


@dataclass(frozen=True)
class Problem:
    """A row that is wrong."""

    row: int
    what: str
    outside: bool = False
    """Whether a run leaves the picture, which may be of another size than was thought."""

    def __str__(self) -> str:
        return f"row {self.row}{self.what}"


@dataclass(frozen=True)
class Hand:
    """An image and the runs of its 29 bones in class order."""

    image: Image
    runs: list[Runs]
    row: int = 0
    """Number of the first of its rows in the CSV."""


def scan(
    path: Path | str, expected: Expected, parse: Callable[[str, int], Mask]
) -> Iterator[Row[Mask] | Problem]:
    """Yield every row of a submission, right or wrong; one out of place is the last.

    `parse` gets a code and the number of pixels of its picture, and raises ValueError.

    Raises:
        NotFoundError, DeniedError, InvalidInput: the file cannot be opened (see `opened`).
    """
    with opened(path) as file:
        row = 1
        try:
            for item in _rows(file, expected, parse):
                row += 1
                if item is not None:
                    yield item
        except (MisplacedError, InvalidInput) as error:
            yield Problem(row, f": {error}")
        except csv.Error as error:
            yield Problem(row, f": not readable as CSV: {error}")


def read_hands(path: Path | str, expected: Expected) -> Iterator[Hand]:
    """Yield image by image what a submission says.

    Raises:
        InvalidInput: a row is wrong; the message names the file and the row.
        NotFoundError, DeniedError: see `opened`.
    """
    from hbseg.rle import from_text

    runs: list[Runs] = []
    for item in scan(path, expected, from_text):
        if isinstance(item, Problem):
            raise InvalidInput(f"{path}: {item}", f"see: hbseg submission validate {path}")
        runs.append(item.mask)
        if len(runs) == NUM_BONES:
            yield Hand(item.image, runs, item.number - NUM_BONES + 1)
            runs = []


def opened(path: Path | str) -> BinaryIO:
    """Return a file that was opened for reading.

    Raises:
        NotFoundError: there is none.
        DeniedError: it may not be read.
        InvalidInput: it is a folder, or cannot be read.
    """
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", "check the path") from None
    except PermissionError:
        raise DeniedError(f"no permission to read {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"{path}: cannot be read ({reason})", "give a CSV file") from None


def _rows(
    file: BinaryIO, expected: Expected, parse: Callable[[str, int], Mask]
) -> Iterator[Row[Mask] | Problem | None]:
    """Yield None for the header, then each row; what is wrong with a row's place is raised."""
    longest = longest_code(expected.pixels) + _LONGEST_NAME
    csv.field_size_limit(max(csv.field_size_limit(), longest))
    records = csv.reader(_lines(file, longest), strict=True)
    _check_header(next(records, None))
    yield None
    number, image, bone = 1, None, ""
    for number, fields in enumerate(records, start=2):
        if len(fields) != len(HEADER):
            raise MisplacedError(f"{len(fields)} fields, expected {len(HEADER)}")
        name, given, code = fields
        bone = BONES[(number - 2) % NUM_BONES]
        if bone == BONES[0] or image is None:
            image = expected.begin(name, given, number)
        if (name, given) != (image.name, bone):
            raise MisplacedError(_why_misplaced(name, given, image.name, bone))
        try:
            mask = parse(code, image.height * image.width)
        except ValueError as error:
            outside = isinstance(error, LeavesPictureError)
            yield Problem(number, f" ({image.name} {bone}): {error}", outside)
        else:
            yield Row(number, image, bone, mask)
    _check_end(expected, number, image)


def _lines(file: BinaryIO, longest: int) -> Iterator[str]:
    first = True
    while line := file.readline(longest + 1):
        if len(line) > longest:
            raise MisplacedError(f"more than {longest:,} bytes, longer than any code of a picture")
        if first and line.startswith(_BYTE_ORDER_MARK):
            raise MisplacedError("a byte order mark, expected UTF-8 without one")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise MisplacedError("not UTF-8 text") from None
        if "\0" in text:
            raise MisplacedError("a NUL byte, the file is damaged")
        if text.endswith("\r\n"):
            raise MisplacedError("ends with CR LF, expected LF")
        if not text.endswith("\n"):
            raise MisplacedError("no line end, the file may be cut off")
        yield text
        first = False


def _check_header(fields: list[str] | None) -> None:
    if fields is None:
        raise MisplacedError(f"header is '', expected {','.join(HEADER)!r}; the file is empty")
    if tuple(fields) != HEADER:
        raise MisplacedError(f"header is {','.join(fields)[:80]!r}, expected {','.join(HEADER)!r}")


def _check_end(expected: Expected, number: int, image: Image | None) -> None:
    """Refuse an end after row `number` where more rows must follow."""
    following = (number - 1) % NUM_BONES
    if following and image is not None:
        wanted = f"missing, expected {image.name} {BONES[following]}"
        raise MisplacedError(f"{wanted}; the file ends after {following} of its {NUM_BONES} rows")
    if left := expected.left(number + 1):
        raise MisplacedError(left)


def _why_misplaced(name: str, bone: str, image: str, wanted: str) -> str:
    why = "a row is missing, or out of order"
    if bone not in BONES:
        why = "unknown class"
    return f"{name[:80]} {bone[:40]}, expected {image} {wanted} ({why})"
