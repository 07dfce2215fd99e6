"""One training stage: from a spec and a dataset to a finished network in storage.

Reads from top to bottom: set up, then epochs of steps, each epoch validated and kept. All that is
random is drawn from (seed, epoch, sample), all that decides the next step is in the checkpoint:
a training interrupted anywhere resumes to the same weights, bit for bit, on the same machine,
threads and number of processes.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hbseg.config.specs import ModelBlock, TrainSpec
from hbseg.data.dataset import Dataset
from hbseg.errors import SpecError, Terminated
from hbseg.ml.augment import Draws, augmented
from hbseg.ml.checkpoint import (
    AVERAGE_FILE,
    TRAINING_FILE,
    Checkpoint,
    CheckpointFolder,
    TrainingState,
)
from hbseg.ml.distributed import World
from hbseg.ml.loss import segmentation_loss
from hbseg.ml.model import Segmenter
from hbseg.ml.samples import Batch, SampleReader, epoch_batches, log_odds, read_ahead
from hbseg.ml.validation import Validation
from hbseg.runs.progress import Heartbeat
from hbseg.storage.markers import sha256_of
from hbseg.storage.store import Store

METRICS = "metrics.jsonl"
SPEC = "spec.yaml"
PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class StageInputs:
    """What a training stage is given."""

    spec: TrainSpec
    model_block: ModelBlock
    """The network: the spec's own, or inherited from the checkpoint."""
    dataset: Dataset
    stage: Store
    """Folder of the outputs."""
    work: Path
    """Local folder for files."""
    identity: str
    """Digest of spec and inputs."""
    initial: Callable[[Segmenter], bool]
    """Puts weights into the new network; returns whether the head is trained already."""
    say: Callable[[str], None]
    """Prints a line for people; silent on ranks above 0."""
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    """Where the process says how far it is."""


@dataclass(frozen=True)
class Trained:
    """What a finished stage leaves."""

    outputs: dict[str, str]
    records: dict[str, str]
    metrics: dict[str, float]


@dataclass
class TrainingProgress:
    """Where the training stands; the part of a checkpoint that is no tensor."""

    epoch: int = 0
    step: int = 0
    position: int = 0
    loss_sum: float = 0.0
    best_step: int | None = None
    best_dice: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(setting: StageInputs, world: World) -> Trained | None:
    """Train the stage, or what is left of it; returns what rank 0 put in storage.

    Raises:
        SpecError: the spec does not fit the data, the processes, or the loss is not finite.
        Terminated: SIGTERM arrived; a checkpoint was written.
    """
    return _Training(setting, world).run()


class _Training:
    def __init__(self, setting: StageInputs, world: World) -> None:
        self.setting, self.spec, self.world = setting, setting.spec, world
        self.progress = TrainingProgress()
        self.share = _share_of_batch(self.spec, world)
        self.precision = PRECISIONS[self.spec.run.precision]
        dataset, block = setting.dataset, self.spec.dataset
        self.reader = SampleReader(
            dataset,
            dataset.samples("train", block.fold),
            block.image_size,
            setting.work / "samples",
            view=block.view,
            seed=self.spec.run.seed,
        )
        self.validation = Validation(
            dataset,
            dataset.samples("validation", block.fold),
            block.image_size,
            world,
            setting.heartbeat,
            view=block.view,
        )
        self.steps_per_epoch = max(1, len(self.reader) // self.spec.run.global_batch_size)
        self.total_steps = self.steps_per_epoch * self.spec.run.epochs
        self.checkpoints = CheckpointFolder(setting.stage, setting.identity, setting.work)
        self.terminated = False
        self.kept_step: int | None = None
        self.kept_files: dict[str, str] = {}

    def run(self) -> Trained | None:
        self._build()
        self._resume()
        signal.signal(signal.SIGTERM, self._on_sigterm)
        while self.progress.epoch < self.spec.run.epochs:
            self._epoch()
        return self._finish() if self.world.is_main else None

    # -- set up ---------------------------------------------------------------------------------

    def _build(self) -> None:
        torch.manual_seed(self.spec.run.seed)
        model = Segmenter(self.setting.model_block)
        if not self.setting.initial(model):
            model.set_head_bias(log_odds(self.reader))
        if self.spec.run.sync_batch_norm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        self.model: Segmenter = model.to(self.world.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = _optimiser(self.model, self.spec)
        self.network: nn.Module = self.model
        if self.world.size > 1:
            self.network = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
        count = sum(parameter.numel() for parameter in self.model.parameters())
        seen = "at" if self.spec.dataset.view == "whole" else "windows of"
        self.setting.say(
            f"stage {self.spec.stage}: {len(self.reader)} images, {self.total_steps} steps of "
            f"{self.spec.run.global_batch_size} {seen} {self.spec.dataset.image_size} px, "
            f"{count / 1e6:.1f} M parameters, {self.world.size} processes"
        )

    def _resume(self) -> None:
        checkpoint = self._agreed_checkpoint()
        if checkpoint is None:
            return
        state = checkpoint.state
        _restore(checkpoint.training, self.model, self.optimiser)
        self.average.load_state_dict(checkpoint.average)
        self.progress = TrainingProgress(
            epoch=state.epoch,
            step=state.step,
            position=state.position,
            loss_sum=state.loss_sum,
            best_step=state.best_step,
            best_dice=state.best_dice,
            history=list(state.history),
        )
        self.kept_step, self.kept_files = state.step, state.files

    def _agreed_checkpoint(self) -> Checkpoint | None:
        """Return what rank 0 chooses to resume from; the other ranks load the same checkpoint."""
        mine = self._chosen_checkpoint() if self.world.is_main else None
        step = 0 if mine is None else mine.state.step  # no checkpoint is written before step 1
        agreed = int(self.world.sum(torch.tensor(step)).item())
        return mine if step == agreed else self.checkpoints.whole(agreed)

    def _chosen_checkpoint(self) -> Checkpoint | None:
        newest = self.checkpoints.newest_whole()
        self.checkpoints.clear_foreign()
        step = 0 if newest.checkpoint is None else newest.checkpoint.state.step
        if newest.damaged or step:
            clauses = (*newest.damaged, f"resuming from step {step} of {self.total_steps}")
            self.setting.say("; ".join(clauses))
        return newest.checkpoint

    # -- one epoch ------------------------------------------------------------------------------

    def _epoch(self) -> None:
        progress, started = self.progress, time.monotonic()
        batches = epoch_batches(
            count=len(self.reader),
            global_batch_size=self.spec.run.global_batch_size,
            seed=self.spec.run.seed,
            epoch=progress.epoch,
            rank=self.world.rank,
            world_size=self.world.size,
        )[progress.position :]
        self.network.train()
        threads = _reading_threads(self.world)
        for batch in read_ahead(self.reader, batches, threads=threads, epoch=progress.epoch):
            self._step(batch)
        seconds = time.monotonic() - started
        self._close_epoch(len(batches) * self.spec.run.global_batch_size / max(seconds, 1e-9))

    def _step(self, batch: Batch) -> None:
        progress = self.progress
        self._beat()
        # A network with dropout draws from torch's generator: the same numbers after a resume.
        torch.manual_seed((self.spec.run.seed << 40) + (progress.step << 16) + self.world.rank)
        lr = learning_rate(self.spec, progress.step, self.total_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        loss = self._accumulated_gradients(batch)
        stop = self._agree(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.optim.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._average_weights()
        progress.step += 1
        progress.position += 1
        if stop:
            self._save()
            raise Terminated(f"ended by SIGTERM after step {progress.step}; it is kept")

    def _beat(self) -> None:
        progress, epochs = self.progress, self.spec.run.epochs
        epoch = min(progress.epoch + 1, epochs)
        self.setting.heartbeat.beat(
            progress.step, self.total_steps, "steps", epoch=epoch, epochs=epochs
        )

    def _accumulated_gradients(self, batch: Batch) -> float:
        micro = self.spec.run.micro_batch_size or self.share
        parts = -(-self.share // micro)
        total = 0.0
        for part in range(parts):
            last = part == parts - 1
            chosen = slice(part * micro, (part + 1) * micro)
            weight = len(batch.indices[chosen]) / self.share
            with nullcontext() if last or self.world.size == 1 else self.network.no_sync():  # type: ignore[operator]
                loss = self._loss(batch, chosen) * weight
                self.setting.heartbeat.touch(waiting_for_peers=last and self.world.size > 1)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total

    def _loss(self, batch: Batch, chosen: slice) -> Tensor:
        device = self.world.device
        seed, epoch = self.spec.run.seed, self.progress.epoch
        part = batch[chosen]
        images, targets = augmented(
            *part.tensors(device),
            self.spec.dataset.augment,
            Draws([(seed, epoch, index) for index in part.indices], device),
            stride=self.setting.model_block.output_stride,
        )
        images = images.contiguous(memory_format=torch.channels_last)
        enabled = self.precision is not torch.float32
        with torch.autocast(device.type, self.precision, enabled=enabled):
            logits = self.network(images)
        return segmentation_loss(
            logits,
            targets,
            bce_weight=self.spec.optim.bce_weight,
            dice_weight=self.spec.optim.dice_weight,
        )

    def _agree(self, loss: float) -> bool:
        """Add the loss of all processes up; return whether any of them was told to end."""
        mine = torch.tensor([loss, float(self.terminated)], dtype=torch.float64)
        total, stop = self.world.sum(mine).tolist()
        if not math.isfinite(total):
            raise SpecError(
                f"the loss is not finite at step {self.progress.step}",
                "lower optim.lr or set run.precision=fp32",
            )
        self.progress.loss_sum += total / self.world.size
        return bool(stop)

    def _average_weights(self) -> None:
        # The average follows closely at first, or it would stay near the random start for long.
        step = self.progress.step
        decay = min(self.spec.optim.ema_decay, (step + 1) / (step + 10))
        mine, average = self.model.state_dict(), self.average.state_dict()
        floating = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [average[name] for name in floating], [mine[name] for name in floating], 1 - decay
        )
        for name in mine.keys() - set(floating):
            average[name].copy_(mine[name])

    # -- the end of an epoch --------------------------------------------------------------------

    def _close_epoch(self, images_per_second: float) -> None:
        progress = self.progress
        line: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "loss": progress.loss_sum / self.steps_per_epoch,
            "lr": learning_rate(self.spec, progress.step - 1, self.total_steps),
            "images_per_second": round(images_per_second, 3),
        }
        last = progress.epoch + 1 == self.spec.run.epochs
        validates = last or (progress.epoch + 1) % self.spec.run.validate_every == 0
        if validates:
            self._save()  # a kill in the validation, which may take long, loses no step
            per_bone = self._validated()
            line["dice"] = math.fsum(per_bone.values()) / len(per_bone)
            line["dice_per_bone"] = per_bone
        progress.history.append(line)
        progress.epoch, progress.position, progress.loss_sum = progress.epoch + 1, 0, 0.0
        self.setting.say(_spoken(line, self.spec.run.epochs))
        if validates:
            if line["dice"] > progress.best_dice:
                progress.best_step, progress.best_dice = progress.step, line["dice"]
            self._save()

    def _validated(self) -> dict[str, float]:
        # Batch statistics differ between processes: rank 0's, which are kept, are the ones judged.
        self.world.copy_from_main(list(self.average.buffers()))
        return self.validation.mean_dice(self.average, self.precision)

    def _save(self) -> None:
        """Keep weights and progress as they are; of a step that is kept already, the progress."""
        self._beat()
        if self.world.is_main:
            self._write(self._state())
            self.setting.stage.put(METRICS, _lines(self.progress.history))
            self._forget_old()
        self.setting.heartbeat.touch(waiting_for_peers=self.world.size > 1)
        self.world.wait()

    def _write(self, state: TrainingState) -> None:
        if state.step == self.kept_step:
            self.checkpoints.update(state)
            return
        tensors = {
            TRAINING_FILE: _training_tensors(self.model, self.optimiser),
            AVERAGE_FILE: self.average.state_dict(),
        }
        self.kept_files = self.checkpoints.save(state, tensors).files
        self.kept_step = state.step

    def _state(self) -> TrainingState:
        progress = self.progress
        return TrainingState(
            identity=self.setting.identity,
            epoch=progress.epoch,
            step=progress.step,
            position=progress.position,
            loss_sum=progress.loss_sum,
            best_step=progress.best_step,
            best_dice=progress.best_dice,
            history=tuple(progress.history),
            files=self.kept_files if progress.step == self.kept_step else {},
        )

    def _forget_old(self) -> None:
        # a folder may still show the empty places of another training's later steps
        mine = sorted(step for step in self.checkpoints.steps() if step <= self.progress.step)
        kept = mine[-self.spec.run.keep_checkpoints :]
        best = [] if self.progress.best_step is None else [self.progress.best_step]
        self.checkpoints.keep({*kept, *best})

    def _finish(self) -> Trained:
        progress = self.progress
        self._beat()
        best = self.checkpoints.read(progress.best_step or 0)
        weights = self.checkpoints.load(best, AVERAGE_FILE)
        outputs = self.checkpoints.finish(
            weights,
            self.setting.model_block,
            self.spec.dataset.image_size,
            self.spec.dataset.view,
        )
        resolved = self.spec.model_copy(update={"model": self.setting.model_block})
        spec = resolved.to_yaml().encode()
        self.setting.stage.put(SPEC, spec)
        metrics = _lines(progress.history)
        self.setting.stage.put(METRICS, metrics)
        return Trained(
            outputs={**outputs, SPEC: sha256_of(spec)},
            records={METRICS: sha256_of(metrics)},
            metrics={"dice": progress.best_dice, "loss": progress.history[-1]["loss"]},
        )

    def _on_sigterm(self, signum: int, frame: object) -> None:
        self.terminated = True


def learning_rate(spec: TrainSpec, step: int, total_steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine to 1 % of the peak."""
    warmup = max(1.0, spec.optim.warmup_fraction * total_steps)
    rise = min(1.0, (step + 1) / warmup)
    fall = 0.5 * (1 + math.cos(math.pi * step / total_steps))
    return spec.optim.lr * rise * (0.01 + 0.99 * fall)


def _reading_threads(world: World) -> int:
    """Return how many threads read samples: where a GPU trains, all of the process's."""
    return 2 if world.device.type == "cpu" else max(2, torch.get_num_threads())


def _share_of_batch(spec: TrainSpec, world: World) -> int:
    share, rest = divmod(spec.run.global_batch_size, world.size)
    if rest:
        raise SpecError(
            f"run.global_batch_size {spec.run.global_batch_size} does not divide among "
            f"{world.size} processes",
            "change it or -j",
        )
    return share


def _optimiser(model: Segmenter, spec: TrainSpec) -> torch.optim.AdamW:
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": spec.optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.optim.lr, fused=True)


def _training_tensors(model: Segmenter, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
    return tensors


def _restore(
    tensors: dict[str, Tensor], model: Segmenter, optimiser: torch.optim.Optimizer
) -> None:
    weights = {
        name.removeprefix("model."): value
        for name, value in tensors.items()
        if name.startswith("model.")
    }
    model.load_state_dict(weights)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = _laid_out(value, parameters[int(index)])
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _laid_out(moment: Tensor, parameter: Tensor) -> Tensor:
    """Return a moment with the strides of its parameter.

    A file has rows first, the network channels last; the fused optimiser goes through both in the
    order of memory, and would pair each value with another one's moment.
    """
    if moment.shape != parameter.shape:
        return moment  # the count of steps
    return torch.empty_like(parameter, dtype=moment.dtype).copy_(moment)


def _lines(history: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in history).encode()


def _spoken(line: dict[str, Any], epochs: int) -> str:
    dice = f", validation Dice {line['dice']:.4f}" if "dice" in line else ""
    return (
        f"epoch {line['epoch']}/{epochs}: loss {line['loss']:.4f}{dice}, "
        f"{line['images_per_second']:.1f} images/s"
    )
