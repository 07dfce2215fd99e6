"""Where the pictures of the infer step come from: a dataset, or a folder of any pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from hbseg.data.dataset import Dataset
from hbseg.data.picture_folder import Pictures
from hbseg.data.pictures import read_gray
from hbseg.data.raw import PICTURE_SUFFIXES, is_picture
from hbseg.data.shards import Sample
from hbseg.errors import NotFoundError
from hbseg.ml.predict import Source
from hbseg.ml.views import Picture
from hbseg.runs.steps import SHORT

MAX_LINES = 20
"""Skipped files that are named one by one."""


def dataset_sources(dataset: Dataset, samples: Sequence[Sample]) -> list[Source]:
    """Return samples of a dataset as pictures.

    Raises:
        NotFoundError: there are none.
    """
    if not samples:
        raise NotFoundError(f"dataset version {dataset.version[:SHORT]} has no images to infer")
    return [Source(sample.path, partial(dataset.picture, sample)) for sample in samples]


def folder_sources(folder: Pictures) -> list[Source]:
    """Return the pictures of a folder, or the single one; other files are skipped with a line.

    Raises:
        NotFoundError: there is none.
    """
    sources, skipped = [], []
    for entry in folder.list():
        if is_picture(entry.key):
            sources.append(Source(entry.key, _loader(folder, entry.key), tag=str(entry.size)))
        else:
            skipped.append(entry.key)
    for key in skipped[:MAX_LINES]:
        say(f"skipped {key}: not a picture ({', '.join(PICTURE_SUFFIXES)})")
    if len(skipped) > MAX_LINES:
        say(f"skipped {len(skipped) - MAX_LINES} more files that are no pictures")
    if not sources:
        expected = f"expected {', '.join(PICTURE_SUFFIXES)}"
        raise NotFoundError(f"no pictures in {folder.url}", expected)
    return sources


def _loader(folder: Pictures, key: str) -> Callable[[], Picture]:
    return lambda: read_gray(folder.get(key), source=key)


def say(line: str) -> None:
    """Print a line of the step's log."""
    print(line, flush=True)
