"""`hbseg submission`: tools for the CSV of masks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hbseg.exit_codes import CommandExit
from hbseg_cli.groups import OUTPUT, Group, grouped
from hbseg_cli.output import Format, Result, document, progress, say

if TYPE_CHECKING:
    from hbseg.data.picture_folder import PictureFolder
    from hbseg.submission.difference import Agreement
    from hbseg.submission.expected import Expected

app = typer.Typer(
    help="Check, combine, compare, show and convert the CSV of masks.", no_args_is_help=True
)

Csv = Annotated[Path, typer.Argument(metavar="CSV", help="Masks in the submission's format.")]
Images = Annotated[
    str | None,
    typer.Option("--images", metavar="DIR", help="Folder of the pictures, or s3://BUCKET/FOLDER."),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="HxW", help="Pixels of all pictures; default 2048x2048, or see --images."
    ),
]
FORMATS = "csv|coco|masks|labelme"


class Pictures:
    """What is known of the pictures that a CSV is of: a folder, or one size."""

    def __init__(self, images: str | None, size: str | None) -> None:
        """Raise UsageError where both are given."""
        from hbseg.errors import UsageError

        if images is not None and size is not None:
            raise UsageError("--size does not go with --images", "leave one out")
        self._size = None if size is None else _parsed(size)
        self._images = images
        self._folder: PictureFolder | None = None

    @property
    def folder(self) -> "PictureFolder | None":
        """The folder, if one is given. Raises NotFoundError, InvalidInput."""
        if self._images is not None and self._folder is None:
            self._folder = _opened(self._images)
        return self._folder

    def all(self) -> "Expected":
        """Return that a CSV must cover all pictures, in order; of any where no folder is given."""
        from hbseg.submission.expected import Listed

        return self.some() if self.folder is None else Listed(self.folder.images())

    def some(self) -> "Expected":
        """Return that a CSV may cover any of the pictures."""
        from hbseg.submission.expected import of_one_size

        return of_one_size(*self._size or ()) if self.folder is None else self.folder.expected()

    def next_step(self, outside: bool) -> str:
        """Return what a person can do about a wrong row; `outside`: a run leaves its picture."""
        if outside and self._images is None and self._size is None:
            return "give --images or --size if the pictures are not 2048x2048"
        return "correct the row, or make the CSV again"


def _opened(images: str) -> "PictureFolder":
    from hbseg.data.picture_folder import PictureFolder, open_pictures

    return PictureFolder(open_pictures(images))


def _parsed(size: str) -> tuple[int, int]:
    from hbseg.data.formats import MAX_PIXELS
    from hbseg.errors import InvalidInput

    height, _, width = size.partition("x")
    numbers = [int(n) for n in (height, width) if n.isdecimal() and n.isascii() and len(n) < 10]
    if len(numbers) != 2 or not 1 <= numbers[0] * numbers[1] <= MAX_PIXELS:
        raise InvalidInput(
            f"--size {size[:40]!r}, expected HEIGHTxWIDTH in pixels, at most {MAX_PIXELS:,} in all",
            "give it as in 2048x2048",
        )
    return numbers[0], numbers[1]


PICTURES = Group({"images": (Images, None), "size": (Size, None)}, Pictures)


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="submission")


@app.command()
@grouped(pictures=PICTURES, output=OUTPUT)
def validate(csv: Csv, pictures: Pictures, output: Format) -> Result:
    """Check every row of a CSV; exit 5 if one is wrong.

    With --images it must cover all pictures of the folder in the order of their paths; without, any
    images of one size, each with its 29 rows.
    """
    from hbseg.submission.validation import check

    verdict = check(csv, pictures.all())
    problems = [{"file": str(csv), "problem": problem} for problem in verdict.problems]
    if problems:
        step = pictures.next_step(verdict.outside)
        say(f"error: {csv}: {verdict.problems[0]}; {step}", level=-1)
    else:
        say(f"{csv}: {verdict.num_images} images, every row is right")
    content = document(
        "SubmissionCheck",
        path=str(csv),
        images=verdict.num_images,
        problems=verdict.problems,
    )
    code = CommandExit.REFUSED if problems else CommandExit.DONE
    return Result(content, problems, [] if problems else [str(csv)], output, exit_code=code)


@app.command()
@grouped(pictures=PICTURES, output=OUTPUT)
def vote(
    csvs: Annotated[list[Path], typer.Argument(metavar="CSV...", help="At least two CSVs.")],
    pictures: Pictures,
    output: Format,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="CSV to write.")],
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="W,W,...", help="One number a CSV; default 1 each."),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="[BONE=]SHARE",
            help="Share of the weights that a pixel must exceed, 0 up to below 1; default 0.5, the "
            "majority. For one bone: Ulna=0.4. Repeatable.",
        ),
    ] = None,
) -> Result:
    """Combine CSVs of the same images: a pixel is in the mask where most of them have it."""
    from hbseg.errors import UsageError
    from hbseg.exchange.convert import write_text
    from hbseg.submission.voting import rule
    from hbseg.submission.voting import vote as voted

    if len(csvs) < 2:
        raise UsageError("a vote needs at least two CSVs", "give more")
    of = rule(len(csvs), weights, threshold or ())
    write_text(to, voted(csvs, of, pictures.some))
    return _wrote(to, output)


@app.command()
@grouped(pictures=PICTURES, output=OUTPUT)
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A CSV.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another CSV of the same images.")],
    pictures: Pictures,
    output: Format,
    by: Annotated[
        str, typer.Option("--by", metavar="bone|image", help="Rows of the table.")
    ] = "bone",
) -> Result:
    """Compare two CSVs by Dice, per bone and image; 1 is equal.

    `-o json` and `-o yaml` have each bone of each image, `-o name` the images that differ, the
    lowest mean first.
    """
    from hbseg.errors import UsageError
    from hbseg.submission.difference import agreements

    if by not in ("bone", "image"):
        raise UsageError(f"--by {by[:40]!r}, expected bone or image")
    found = list(agreements(a, b, pictures.some))
    rows = _by_bone(found) if by == "bone" else _by_image(found)
    differing = sorted((item for item in found if min(item.dice) < 1), key=lambda item: item.mean)
    say(f"{len(found)} images, {len(differing)} differ, mean Dice {_mean(found):.4f}")
    names = [item.image.name for item in differing]
    return Result(_diff_document(a, b, found), rows, names, output)


@app.command()
@grouped(output=OUTPUT)
def show(
    csv: Csv,
    images: Annotated[str, typer.Option("--images", metavar="DIR", help="Folder of the pictures.")],
    output: Format,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder to write.")] = Path(
        "overlays"
    ),
) -> Result:
    """Draw the masks of a CSV on their pictures, one PNG each."""
    from hbseg.report.drawing import draw_overlays
    from hbseg.submission.scanning import read_hands

    folder, paths = _opened(images), []
    with progress() as tell:
        for path in draw_overlays(read_hands(csv, folder.expected()), folder, to):
            paths.append(str(path))
            tell("overlays", len(paths), len(folder.paths))
    say(f"wrote {len(paths)} overlays to {to}")
    content = document("Overlays", path=str(to), overlays=paths)
    return Result(content, names=paths, format=output)


@app.command()
@grouped(pictures=PICTURES, output=OUTPUT)
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A CSV, COCO JSON, or a folder of masks.")
    ],
    pictures: Pictures,
    output: Format,
    to: Annotated[
        Path, typer.Option("--to", metavar="PATH", help="File, or new folder, to write.")
    ],
    given: Annotated[str, typer.Option("--from", metavar=FORMATS, help="Format of SRC.")] = "csv",
    into: Annotated[str, typer.Option("--into", metavar=FORMATS, help="Format to write.")] = "csv",
) -> Result:
    """Convert masks without loss: COCO JSON, one PNG mask a bone, labelme JSON, or the CSV.

    A CSV names its images without their sizes: give --images or --size where they are not
    2048x2048. With --images the images of a new CSV come in the order of their paths.
    """
    from hbseg.errors import UsageError
    from hbseg.exchange import convert as exchange

    kinds = _format(given, "--from"), _format(into, "--into")
    if kinds[0] is kinds[1]:
        raise UsageError(f"--from and --into are both {given}", f"give two of {FORMATS}")
    folder = pictures.folder
    hands = exchange.read(kinds[0], source, pictures.some(), folder)
    exchange.write(kinds[1], hands, to, folder)
    return _wrote(to, output)


def _format(text: str, flag: str) -> Any:
    from hbseg.errors import UsageError
    from hbseg.exchange.convert import Format as MaskFormat

    if text not in list(MaskFormat):
        raise UsageError(f"{flag} {text[:40]!r}, expected one of {FORMATS}")
    return MaskFormat(text)


def _wrote(target: Path, output: Format) -> Result:
    say(f"wrote {target}")
    return Result(document("Written", path=str(target)), names=[str(target)], format=output)


def _mean(found: "list[Agreement]") -> float:
    return sum(item.mean for item in found) / len(found)


def _by_bone(found: "list[Agreement]") -> list[dict[str, object]]:
    from hbseg.anatomy import BONES

    rows: list[dict[str, object]] = []
    for index, bone in enumerate(BONES):
        lowest = min(found, key=lambda item: item.dice[index])
        mean = sum(item.dice[index] for item in found) / len(found)
        rows.append(
            {"bone": bone, "dice": mean, "lowest": lowest.dice[index], "image": lowest.image.name}
        )
    return rows


def _by_image(found: "list[Agreement]") -> list[dict[str, object]]:
    from hbseg.anatomy import BONES

    rows: list[dict[str, object]] = []
    for item in found:
        lowest = min(item.dice)
        bone = BONES[item.dice.index(lowest)]
        rows.append({"image": item.image.name, "dice": item.mean, "lowest": lowest, "bone": bone})
    return rows


def _diff_document(a: Path, b: Path, found: "list[Agreement]") -> dict[str, Any]:
    from hbseg.anatomy import BONES

    bones = {bone: row["dice"] for bone, row in zip(BONES, _by_bone(found), strict=True)}
    images = [
        {
            "image": item.image.name,
            "dice": item.mean,
            "bones": dict(zip(BONES, item.dice, strict=True)),
        }
        for item in found
    ]
    content = {"dice": _mean(found), "bones": bones, "images": images}
    return document("SubmissionDiff", a=str(a), b=str(b), **content)
