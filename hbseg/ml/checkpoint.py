"""Checkpoints: what a training resumes from, and what later steps load.

A checkpoint is a folder `checkpoints/<step>` with safetensors and, written last, `state.json`,
which carries their sha256. No pickle is written or read. The finished network is in
`checkpoints/final`.

A training resumes from its newest whole checkpoint: its files have the sha256 of its state, and so
have the weights of the best checkpoint that the state names, which may be the ones that the stage
ends with. A newer one that is damaged is passed over. Nothing is lost by that but time: an older
checkpoint, or none, leads to the same best weights again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from hbseg.anatomy import BONES
from hbseg.config.specs import ModelBlock, ViewName
from hbseg.documents import Document
from hbseg.errors import ContractError, NotFoundError, SpecError
from hbseg.ml.model import Segmenter
from hbseg.storage.files import write_error
from hbseg.storage.markers import check_outputs, read_marker, sha256_of, sha256_of_file, verified
from hbseg.storage.store import Store

FINAL = "checkpoints/final"
CARD = f"{FINAL}/model.json"
WEIGHTS = f"{FINAL}/weights.safetensors"
STATE = "state.json"
TRAINING_FILE = "training.safetensors"
"""File of a checkpoint: the weights and the optimiser's moments."""
AVERAGE_FILE = "weights.safetensors"
"""File of a checkpoint: the weights' moving average, which is what is validated and kept."""


class ModelCard(Document):
    """`model.json`: what the weights are of."""

    kind: Literal["ModelCard"] = "ModelCard"
    model: ModelBlock
    image_size: int
    """Side of the network's input, in pixels."""
    view: ViewName = "whole"
    """What the network was trained to see of a picture."""
    classes: tuple[str, ...] = BONES
    weights_sha256: str


class TrainingState(Document):
    """`state.json`: where a training stands; it is written when the rest is in storage."""

    kind: Literal["TrainingState"] = "TrainingState"
    identity: str
    """Digest of spec and inputs; a checkpoint of another training is not gone on from."""
    epoch: int
    """Epoch that comes next, or is in work."""
    step: int
    """Optimiser steps done."""
    position: int
    """Batches done of that epoch."""
    loss_sum: float
    """Sum of their losses."""
    best_step: int | None
    """Checkpoint with the best validation Dice."""
    best_dice: float
    history: tuple[dict[str, Any], ...]
    """Lines of metrics.jsonl."""
    files: dict[str, str]
    """File name: sha256."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, read and verified."""

    state: TrainingState
    training: dict[str, Tensor]
    """Tensors of `TRAINING_FILE`."""
    average: dict[str, Tensor]
    """Tensors of `AVERAGE_FILE`."""


@dataclass(frozen=True)
class Newest:
    """What a training resumes from."""

    checkpoint: Checkpoint | None
    """The newest whole one; none where there is none."""
    damaged: tuple[str, ...]
    """What is wrong with each newer one, a clause for people."""


@dataclass(frozen=True)
class LoadedModel:
    """A finished network, in evaluation mode, float32, on the CPU."""

    model: Segmenter
    card: ModelCard

    @property
    def weights_sha256(self) -> str:
        """sha256 (hex) of the weights' file."""
        return self.card.weights_sha256


def load_model(stage: Store) -> LoadedModel:
    """Return the finished network of a training stage.

    Raises:
        NotFoundError: the stage is not done.
        ContractError: a file is damaged, or the weights are another architecture's.
    """
    card, weights = load_weights(stage)
    model = Segmenter(card.model)
    put_weights(model, weights, source=stage.url, block=card.model)
    return LoadedModel(model.eval(), card)


def load_weights(stage: Store) -> tuple[ModelCard, dict[str, Tensor]]:
    """Return the card and the weights of a finished stage, verified. Raises as `load_model`."""
    marker = read_marker(stage)
    check_outputs(stage, marker, (CARD, WEIGHTS))
    card_bytes = verified(stage.get(CARD), marker.outputs[CARD], source=f"{stage.url}/{CARD}")
    try:
        card = ModelCard.from_text(card_bytes, source=f"{stage.url}/{CARD}")
    except SpecError as error:
        raise ContractError(error.message) from None
    if card.classes != BONES:
        raise ContractError(f"{stage.url} was trained for other classes than the 29 bones")
    data = verified(stage.get(WEIGHTS), card.weights_sha256, source=f"{stage.url}/{WEIGHTS}")
    return card, _tensors(data, source=f"{stage.url}/{WEIGHTS}")


def put_weights(
    model: Segmenter, weights: Mapping[str, Tensor], *, source: str, block: ModelBlock
) -> None:
    """Put weights into a network. Raises ContractError where they are another architecture's."""
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))
        raise ContractError(
            f"the weights of {source} are not those of {block.architecture} with encoder "
            f"{block.encoder}: {first[:200]}"
        ) from None


class CheckpointFolder:
    """The checkpoints of one training stage in storage, written by rank 0 alone."""

    def __init__(self, stage: Store, identity: str, work: Path) -> None:
        self._stage = stage
        self._identity = identity
        self._work = work

    def newest_whole(self) -> Newest:
        """Return the newest whole checkpoint of this very training, and what newer ones lack."""
        damaged: list[str] = []
        for step in sorted(self.steps(), reverse=True):
            try:
                if self._is_own(step):
                    return Newest(self.whole(step), tuple(damaged))
            except (ContractError, NotFoundError) as error:
                damaged.append(error.message)
        return Newest(None, tuple(damaged))

    def whole(self, step: int) -> Checkpoint:
        """Return a checkpoint with its tensors.

        Raises:
            ContractError, NotFoundError: it is damaged, or the best checkpoint of its state is.
        """
        state = self.read(step)
        training, average = (self.load(state, name) for name in (TRAINING_FILE, AVERAGE_FILE))
        if state.best_step is not None and state.best_step != step:
            self._check_best(step, state.best_step)
        return Checkpoint(state, training, average)

    def read(self, step: int) -> TrainingState:
        """Return the state of one checkpoint. Raises ContractError where it is not whole."""
        state = self._state(step)
        if state is None:
            raise ContractError(
                f"{self._stage.url}/{_folder(step)} is not a whole checkpoint",
                "submit the stage again: it resumes from a whole one",
            )
        return state

    def steps(self) -> set[int]:
        """Return the steps of which something is in storage."""
        names = self._stage.list_folders("checkpoints")
        return {int(name) for name in names if name.isdecimal()}

    def load(self, state: TrainingState, name: str) -> dict[str, Tensor]:
        """Return the tensors of one of a checkpoint's files.

        Raises:
            ContractError: the file is damaged.
            NotFoundError: it is gone.
        """
        key = f"{_folder(state.step)}/{name}"
        source = f"{self._stage.url}/{key}"
        return _tensors(
            verified(self._stage.get(key), state.files.get(name, "none"), source=source), source
        )

    def save(
        self, state: TrainingState, tensors: Mapping[str, Mapping[str, Tensor]]
    ) -> TrainingState:
        """Write a checkpoint: the files of `tensors` (name: tensors), then its state."""
        files = {}
        for name, content in tensors.items():
            files[name] = self._upload(f"{_folder(state.step)}/{name}", content)
        state = state.model_copy(update={"files": files})
        self.update(state)
        return state

    def update(self, state: TrainingState) -> None:
        """Replace the state of a checkpoint; its other files stay."""
        self._stage.put(f"{_folder(state.step)}/{STATE}", state.to_json())

    def finish(
        self, weights: Mapping[str, Tensor], block: ModelBlock, image_size: int, view: ViewName
    ) -> dict[str, str]:
        """Write the finished network; returns its keys with their sha256."""
        digest = self._upload(WEIGHTS, weights)
        card = ModelCard(model=block, image_size=image_size, view=view, weights_sha256=digest)
        self._stage.put(CARD, card.to_json())
        return {WEIGHTS: digest, CARD: sha256_of(card.to_json())}

    def keep(self, steps: Iterable[int]) -> None:
        """Remove all checkpoints but those of `steps` and the best ones that these name.

        The best of an older one is kept, too: a training that resumes there may end with it.
        """
        kept = set(steps)
        states = [self._state_or_none(step) for step in kept]
        self._remove_others(kept | {state.best_step for state in states if state is not None})

    def clear_foreign(self) -> None:
        """Remove checkpoints of another spec or of other inputs, and those without a state."""
        states = {step: self._state_or_none(step) for step in self.steps()}
        self._remove_others(
            {step for step, state in states.items() if state and state.identity == self._identity}
        )

    def _remove_others(self, kept: Set[int | None]) -> None:
        for step in self.steps() - kept:
            self._stage.delete(f"{_folder(step)}/{STATE}")  # first: from now on it is not whole
            for entry in list(self._stage.list(f"{_folder(step)}/")):
                self._stage.delete(entry.key)

    def _is_own(self, step: int) -> bool:
        state = self._state(step)
        return state is not None and state.identity == self._identity

    def _check_best(self, step: int, best: int) -> None:
        """Refuse a checkpoint whose best one is damaged: the stage could not end with it."""
        try:
            self.load(self.read(best), AVERAGE_FILE)
        except (ContractError, NotFoundError) as error:
            raise ContractError(
                f"{self._stage.url}/{_folder(step)} has lost its best checkpoint: {error.message}"
            ) from None

    def _state(self, step: int) -> TrainingState | None:
        """Return a checkpoint's state; none where it was not written any more.

        Raises:
            ContractError: it is damaged.
            VersionError: a newer hbseg wrote it.
        """
        key = f"{_folder(step)}/{STATE}"
        try:
            return TrainingState.from_text(self._stage.get(key), source=f"{self._stage.url}/{key}")
        except NotFoundError:
            return None
        except (SpecError, ValidationError):
            raise ContractError(f"{self._stage.url}/{key} is not readable") from None

    def _state_or_none(self, step: int) -> TrainingState | None:
        try:
            return self._state(step)
        except ContractError:
            return None

    def _upload(self, key: str, tensors: Mapping[str, Tensor]) -> str:
        self._work.mkdir(parents=True, exist_ok=True)
        path = self._work / "upload.safetensors"
        try:
            save_tensors(tensors, path)
            self._stage.upload(key, path)
            return sha256_of_file(path)
        finally:
            path.unlink(missing_ok=True)


def _folder(step: int) -> str:
    return f"checkpoints/{step:08d}"


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, *, metadata: dict[str, str] | None = None
) -> None:
    """Write a file of tensors. Raises DiskFullError and DeniedError (see `write_error`)."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        safetensors.torch.save_file(plain, path, metadata)
    except SafetensorError as error:
        # It tells the system's error in its text only: "I/O error: ... (os error 28)".
        number = re.search(r"\(os error ([0-9]+)\)", str(error))
        if number is None:
            raise
        raise write_error(OSError(int(number[1]), str(error)), path) from error


def _tensors(data: bytes, source: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise ContractError(f"{source} is not readable as safetensors: {error}") from None
