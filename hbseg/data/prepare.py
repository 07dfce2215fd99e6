"""From a raw folder to a dataset version in storage.

Two passes: the first reads, hashes and checks every file (4 ms a hand), which gives the version's
hash; the second decodes, compresses and writes shards (58 ms a hand, two thirds of it PNG). Pixels
are decoded once only: where the second pass finds a picture that cannot be decoded in spite of
sound checksums, the version is planned again without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hbseg.config.specs import PrepareSpec
from hbseg.data.check import Problem, in_order, problems_of, set_problems
from hbseg.data.dataset import open_version
from hbseg.data.evidence import gather
from hbseg.data.formats import READING
from hbseg.data.places import version_folder
from hbseg.data.raw import RawImage, scan
from hbseg.data.splits import assign_folds
from hbseg.data.versions import (
    DATASET,
    Counts,
    DatasetRecord,
    FoldRecord,
    ShardRecord,
    VersionEntry,
    publish,
    read_index,
    version_hash,
)
from hbseg.data.workers import Progress, parallel_map
from hbseg.data.writing import Hand, ShardPlan, finished_shards, write_shard
from hbseg.errors import BucketMissing, InvalidInput, NotFoundError
from hbseg.storage.markers import MARKER, sha256_of, write_marker
from hbseg.storage.store import Store


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did."""

    version: str
    """Hash of the version, 16 hexadecimal digits."""
    counts: Counts
    """How much is in it."""
    left_out: tuple[Problem, ...]
    """Why pictures were left out (with `skip_bad`), sorted by picture."""
    unchanged: bool
    """Whether the version was finished already and nothing was written."""


def prepare(
    raw: Path,
    data: Store,
    spec: PrepareSpec,
    *,
    skip_bad: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Prepared:
    """Return the finished dataset version of the raw set at `raw`, made current in `data`'s index.

    Does nothing where the version is finished already; shards that an earlier, killed call wrote
    whole are kept. `workers` processes share the work, each with one shard on its disk at a time.

    Raises:
        NotFoundError: there is no raw folder, or no bucket.
        InvalidInput: it is not in the raw layout, has errors (and not `skip_bad`), has fewer
            persons than folds or two test pictures of one name, or changes meanwhile.
        DiskFullError, DeniedError, UnreachableError: the storage does not take it.
    """
    images = scan(raw)
    _check_test_names(images)
    _reach(data)
    hands, problems = _survey(raw, images, workers, progress)
    problems = [p for p in [*set_problems(raw, images), *problems] if p.severity == "error"]
    while True:
        problems = in_order(problems)
        if problems and not skip_bad:
            raise _refusal(raw, problems)
        bad = {problem.image for problem in problems}
        plan = _plan(spec, [hand for hand in hands if hand.image.path not in bad], raw)
        folder = version_folder(data, plan.version)
        unchanged = folder.exists(MARKER)
        spoiled = [] if unchanged else _write(raw, folder, plan, workers, progress)
        if not spoiled:
            counts = open_version(data, plan.version).record.counts
            publish(data, VersionEntry(version=plan.version, counts=counts))
            return Prepared(plan.version, counts, tuple(problems), unchanged)
        problems += spoiled


@dataclass(frozen=True)
class _Plan:
    """What a version will hold."""

    version: str
    spec: PrepareSpec
    hands: tuple[Hand, ...]
    """With their folds."""
    shards: tuple[ShardPlan, ...]


def _check_test_names(images: Iterable[RawImage]) -> None:
    seen: dict[str, str] = {}
    for path in (image.path for image in images if image.split == "test"):
        name = path.rpartition("/")[2]
        if name in seen:
            raise InvalidInput(
                f"two test pictures are called {name}: {seen[name]} and {path}",
                "a submission names pictures without folder: rename one",
            )
        seen[name] = path


def _reach(data: Store) -> None:
    """Have storage, or an index, that cannot be used say so before the long work."""
    try:
        read_index(data)
    except BucketMissing:
        raise
    except NotFoundError:
        return  # no dataset so far


def _survey(
    root: Path, images: Sequence[RawImage], workers: int, progress: Progress | None
) -> tuple[list[Hand], list[Problem]]:
    hands, problems = [], []
    for hand, of_hand in parallel_map(partial(_survey_one, root), images, workers=workers):
        hands.append(hand)
        problems += of_hand
        if progress is not None:
            progress("check", len(hands), len(images))
    return hands, problems


def _survey_one(root: Path, image: RawImage) -> tuple[Hand, list[Problem]]:
    evidence = gather(root, image, decode=False)
    colour = evidence.header is not None and evidence.header.colour_space
    hand = Hand(
        image,
        evidence.picture_sha256 or "",
        evidence.annotation_sha256,
        reading=READING if colour else None,
    )
    return hand, problems_of(evidence)


def _refusal(raw: Path, errors: Sequence[Problem]) -> InvalidInput:
    first = errors[0]
    return InvalidInput(
        f"{raw} has {len(errors)} errors, the first in {first.image}: {first.message}",
        f"see: hbseg data check {raw}, or leave such pictures out with --skip-bad",
    )


def _plan(spec: PrepareSpec, hands: Sequence[Hand], raw: Path) -> _Plan:
    if not hands:
        raise InvalidInput(f"no picture of {raw} is without errors", f"see: hbseg data check {raw}")
    images: dict[str, int] = Counter(h.image.person for h in hands if h.image.split == "train")
    folds = assign_folds(images, folds=spec.folds, seed=spec.seed)
    used = ((hand.image.path, hand.picture_key, hand.annotation_sha256) for hand in hands)
    train = [replace(h, fold=folds[h.image.person]) for h in hands if h.image.split == "train"]
    test = [hand for hand in hands if hand.image.split == "test"]
    shards = (*_shards(train, "train", spec), *_shards(test, "test", spec))
    return _Plan(version_hash(spec, used), spec, (*train, *test), shards)


def _shards(hands: Sequence[Hand], split: str, spec: PrepareSpec) -> list[ShardPlan]:
    size = spec.images_per_shard
    return [
        ShardPlan(f"shards/{split}-{number:05d}.bin", tuple(hands[start : start + size]))
        for number, start in enumerate(range(0, len(hands), size))
    ]


def _write(
    root: Path, folder: Store, plan: _Plan, workers: int, progress: Progress | None
) -> list[Problem]:
    """Write the version, or return the pictures that cannot be decoded and write no marker."""
    records = finished_shards(folder, plan.shards)
    missing = [shard for shard in plan.shards if shard.key not in records]
    done, spoiled = sum(record.samples for record in records.values()), []
    # Another process opens storage for itself: a client of S3 cannot be sent there.
    where = folder if workers <= 1 or len(missing) < 2 else folder.url
    written = parallel_map(partial(write_shard, root, where), missing, workers=workers)
    for shard, result in zip(missing, written, strict=True):
        if isinstance(result, ShardRecord):
            records[shard.key] = result
        else:
            spoiled += result
        done += len(shard.hands)
        if progress is not None:
            progress("prepare", done, len(plan.hands))
    if spoiled:
        _remove(folder)
    else:
        _finish(folder, plan, [records[shard.key] for shard in plan.shards])
    return spoiled


def _finish(folder: Store, plan: _Plan, shards: Sequence[ShardRecord]) -> None:
    record = DatasetRecord(
        version=plan.version,
        spec=plan.spec,
        counts=_counts(plan),
        folds=_fold_records(plan),
        shards=tuple(shards),
    )
    content = record.to_json()
    folder.put(DATASET, content)
    outputs = {DATASET: sha256_of(content)}
    outputs |= {shard.key: shard.sha256 for shard in shards}
    outputs |= {shard.table: shard.table_sha256 for shard in shards}
    write_marker(folder, step="prepare", spec_hash=plan.spec.digest(), inputs={}, outputs=outputs)


def _remove(folder: Store) -> None:
    for entry in folder.list("shards/"):
        folder.delete(entry.key)


def _counts(plan: _Plan) -> Counts:
    train = [hand.image.person for hand in plan.hands if hand.image.split == "train"]
    test = [hand.image.person for hand in plan.hands if hand.image.split == "test"]
    return Counts(
        train_images=len(train),
        train_persons=len(set(train)),
        test_images=len(test),
        test_persons=len(set(test)),
        shards=len(plan.shards),
    )


def _fold_records(plan: _Plan) -> tuple[FoldRecord, ...]:
    persons: list[Counter[str]] = [Counter() for _ in range(plan.spec.folds)]
    for hand in plan.hands:
        if hand.fold is not None:
            persons[hand.fold][hand.image.person] += 1
    return tuple(FoldRecord(persons=len(p), images=p.total()) for p in persons)
