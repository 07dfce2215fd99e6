"""One process trains a small network on drawn discs, with every part real but the pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hbseg.anatomy import BONES
from hbseg.config.specs import DatasetBlock, ModelBlock, OptimBlock, RunBlock, TrainSpec
from hbseg.data.dataset import Dataset
from hbseg.errors import ContractError, NotFoundError, SpecError, Terminated
from hbseg.ml import trainer
from hbseg.ml.checkpoint import (
    AVERAGE_FILE,
    STATE,
    TRAINING_FILE,
    WEIGHTS,
    CheckpointFolder,
    TrainingState,
    load_model,
    load_weights,
    put_weights,
)
from hbseg.ml.distributed import World
from hbseg.ml.model import Segmenter
from hbseg.ml.samples import Batch, read_ahead
from hbseg.ml.trainer import StageInputs, Trained, learning_rate, train
from hbseg.runs.progress import Heartbeat, read_heartbeats
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import sha256_of, write_marker
from hbseg.storage.store import Store
from tests.trainings import Left, left_by

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
BLOCK = ModelBlock(encoder="tu-test_resnet", decoder_channels=(16, 16, 8, 8, 8))
SPEC = TrainSpec(
    stage=1,
    model=BLOCK,
    dataset=DatasetBlock(image_size=64),
    run=RunBlock(epochs=3, global_batch_size=3, precision="fp32"),
    optim=OptimBlock(lr=5e-3),
)


def setting(
    dataset: Dataset, root: Path, spec: TrainSpec = SPEC, identity: str = "i"
) -> StageInputs:
    return StageInputs(
        spec=spec,
        model_block=BLOCK,
        dataset=dataset,
        stage=FolderStore(root / "stage1"),
        work=root / "work",
        identity=identity,
        initial=lambda model: False,
        say=lambda line: None,
    )


def trained(given: StageInputs) -> Trained:
    result = train(given, ALONE)
    assert result is not None
    return result


class Cut(Exception):
    """Stands for a kill."""


@pytest.fixture
def cut_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Makes the training end without a word before the step of a number."""
    original = trainer._Training._step

    def arrange(number: int) -> None:
        def step(self: trainer._Training, batch: Batch) -> None:
            if self.progress.step == number:
                raise Cut
            original(self, batch)

        monkeypatch.setattr(trainer._Training, "_step", step)

    yield arrange
    monkeypatch.undo()


def newest_state(given: StageInputs) -> TrainingState:
    checkpoint = CheckpointFolder(given.stage, given.identity, given.work).newest_whole().checkpoint
    assert checkpoint is not None
    return checkpoint.state


def whole(given: StageInputs, result: Trained) -> tuple[dict[str, str], Left]:
    return result.outputs, left_by(given.stage)


@pytest.fixture(scope="module")
def undisturbed(
    drawn: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], Left]:
    torch.set_num_threads(1)
    given = setting(drawn, tmp_path_factory.mktemp("undisturbed"))
    return whole(given, trained(given))


def test_a_stage_leaves_a_network_its_figures_and_its_spec(drawn: Dataset, tmp_path: Path) -> None:
    given = setting(drawn, tmp_path)
    result = trained(given)
    lines = [json.loads(line) for line in given.stage.get("metrics.jsonl").splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["step"] == 9
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert set(lines[-1]["dice_per_bone"]) == set(BONES)
    assert result.metrics["dice"] == max(line["dice"] for line in lines)
    assert TrainSpec.from_text(given.stage.get("spec.yaml"), source="s") == SPEC
    with pytest.raises(NotFoundError):
        load_model(given.stage)  # not before the marker is there
    write_marker(given.stage, step="stage1", spec_hash="", inputs={}, outputs=result.outputs)
    loaded = load_model(given.stage)
    assert loaded.card.model == BLOCK
    assert not loaded.model.training


def test_a_training_in_bf16_keeps_its_weights_in_fp32(drawn: Dataset, tmp_path: Path) -> None:
    run = SPEC.run.model_copy(update={"epochs": 1})
    weights, losses = [], []
    for precision in ("bf16", "fp32"):
        changed = run.model_copy(update={"precision": precision})
        given = setting(drawn, tmp_path / precision, SPEC.model_copy(update={"run": changed}))
        trained(given)
        weights.append(safetensors.torch.load(given.stage.get(WEIGHTS)))
        losses.append(json.loads(given.stage.get("metrics.jsonl"))["loss"])

    rounded, exact = weights
    assert {value.dtype for value in rounded.values()} <= {torch.float32, torch.int64}
    head = "network.segmentation_head.0.weight"
    assert not torch.equal(rounded[head], exact[head])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("step", [1, 3, 4, 8])
def test_a_training_that_was_cut_goes_on_to_the_same_weights(
    drawn: Dataset,
    tmp_path: Path,
    undisturbed: tuple[dict[str, str], Left],
    cut_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    step: int,
) -> None:
    cut_at(step)
    with pytest.raises(Cut):
        train(setting(drawn, tmp_path), ALONE)
    monkeypatch.undo()
    given = setting(drawn, tmp_path)
    assert whole(given, trained(given)) == undisturbed


def test_sigterm_keeps_the_step_and_goes_on_to_the_same_weights(
    drawn: Dataset,
    tmp_path: Path,
    undisturbed: tuple[dict[str, str], Left],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = trainer._Training._loss

    def loss(self: trainer._Training, batch: Batch, chosen: slice) -> torch.Tensor:
        self.terminated = self.progress.step == 4
        return original(self, batch, chosen)

    monkeypatch.setattr(trainer._Training, "_loss", loss)
    given = setting(drawn, tmp_path)
    with pytest.raises(Terminated, match="after step 5; it is kept"):
        train(given, ALONE)
    monkeypatch.undo()
    state = newest_state(given)
    assert (state.epoch, state.position, state.step) == (1, 2, 5)
    assert whole(given, trained(given)) == undisturbed


def test_a_training_that_is_killed_in_a_validation_repeats_no_step(
    drawn: Dataset,
    tmp_path: Path,
    undisturbed: tuple[dict[str, str], Left],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: object) -> None:
        raise Cut

    monkeypatch.setattr("hbseg.ml.validation.Validation.mean_dice", killed)
    given = setting(drawn, tmp_path)
    with pytest.raises(Cut):
        train(given, ALONE)
    monkeypatch.undo()
    state = newest_state(given)
    assert (state.epoch, state.position, state.step) == (0, 3, 3)

    told: list[str] = []
    again = train(replace(given, say=told.append), ALONE)

    assert "resuming from step 3" in told[1]
    assert again is not None
    assert whole(given, again) == undisturbed


def test_a_training_on_windows_that_was_cut_resumes_to_the_same_weights(
    drawn: Dataset,
    tmp_path: Path,
    cut_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = DatasetBlock(image_size=64, view="window")
    run = SPEC.run.model_copy(update={"epochs": 2})
    spec = SPEC.model_copy(update={"stage": 2, "dataset": block, "run": run})
    alone = setting(drawn, tmp_path / "alone", spec)
    expected = whole(alone, trained(alone))

    given = setting(drawn, tmp_path / "cut", spec)
    cut_at(4)
    with pytest.raises(Cut):
        train(given, ALONE)
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "_reading_threads", lambda world: 5)
    result = trained(given)

    assert whole(given, result) == expected
    write_marker(given.stage, step="stage2", spec_hash="", inputs={}, outputs=result.outputs)
    assert load_weights(given.stage)[0].view == "window"


def test_checkpoints_of_another_spec_are_not_gone_on_from(drawn: Dataset, tmp_path: Path) -> None:
    first = trained(setting(drawn, tmp_path, identity="one"))
    spec = SPEC.model_copy(update={"run": SPEC.run.model_copy(update={"seed": 1})})
    second = trained(setting(drawn, tmp_path, spec, identity="two"))
    assert first.outputs[WEIGHTS] != second.outputs[WEIGHTS]


def test_only_the_last_and_the_best_checkpoints_are_kept(drawn: Dataset, tmp_path: Path) -> None:
    given = setting(drawn, tmp_path)
    trained(given)
    folder = CheckpointFolder(given.stage, "i", tmp_path)
    assert len(folder.steps()) <= SPEC.run.keep_checkpoints + 1
    assert max(folder.steps()) == 9


DAMAGES: dict[str, Callable[[Store, str], None]] = {
    "a changed byte": lambda stage, key: stage.put(key, changed(stage.get(key))),
    "emptied": lambda stage, key: stage.put(key, b""),
    "cut off": lambda stage, key: stage.put(key, stage.get(key)[: len(stage.get(key)) // 2]),
    "gone": lambda stage, key: stage.delete(key),
}
DAMAGED = [
    (name, damage)
    for name in (TRAINING_FILE, AVERAGE_FILE, STATE)
    for damage in DAMAGES
    # A state has no checksum of its own; one that is gone was cut while it was written.
    if name != STATE or damage in ("emptied", "cut off")
]


def changed(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.fixture
def cut_at_8(
    drawn: Dataset,
    tmp_path: Path,
    cut_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> StageInputs:
    """A training of 9 steps that was killed before the last, with checkpoints of steps 3 and 6."""
    given = setting(drawn, tmp_path)
    cut_at(8)
    with pytest.raises(Cut):
        train(given, ALONE)
    monkeypatch.undo()
    assert list(steps_of(given)) == [3, 6]
    return given


def steps_of(given: StageInputs) -> dict[int, int | None]:
    """Return the steps of the checkpoints in storage, each with the best step that it names."""
    folder = CheckpointFolder(given.stage, given.identity, given.work)
    return {step: folder.read(step).best_step for step in sorted(folder.steps())}


def resumed(given: StageInputs) -> tuple[Trained, list[str]]:
    """Train what is left; return the result, and the lines that say where it started."""
    told: list[str] = []
    result = trained(replace(given, say=told.append))
    return result, [line for line in told if "resuming from" in line]


@pytest.mark.parametrize(("name", "damage"), DAMAGED)
def test_a_training_with_a_damaged_newest_checkpoint_resumes_from_the_one_before(
    cut_at_8: StageInputs,
    undisturbed: tuple[dict[str, str], Left],
    name: str,
    damage: str,
) -> None:
    DAMAGES[damage](cut_at_8.stage, f"checkpoints/00000006/{name}")

    result, told = resumed(cut_at_8)

    [line] = told
    assert line.endswith("; resuming from step 3 of 9")
    assert f"checkpoints/00000006/{name}" in line
    assert whole(cut_at_8, result) == undisturbed


def test_a_training_whose_checkpoints_are_all_damaged_starts_again(
    cut_at_8: StageInputs, undisturbed: tuple[dict[str, str], Left]
) -> None:
    for step in (3, 6):
        DAMAGES["emptied"](cut_at_8.stage, f"checkpoints/{step:08}/{TRAINING_FILE}")

    result, told = resumed(cut_at_8)

    [line] = told
    assert line.endswith("resuming from step 0 of 9")
    assert "00000003" in line
    assert "00000006" in line
    assert whole(cut_at_8, result) == undisturbed


@pytest.fixture
def best_at_3(
    drawn: Dataset,
    tmp_path: Path,
    cut_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> StageInputs:
    """As `cut_at_8`, of a training whose first checkpoint stays the best."""
    given = setting(drawn, tmp_path)
    first_is_best(monkeypatch)
    cut_at(8)
    with pytest.raises(Cut):
        train(given, ALONE)
    monkeypatch.undo()
    first_is_best(monkeypatch)
    assert steps_of(given) == {3: 3, 6: 3}
    return given


def first_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    original = trainer._Training._validated

    def validated(self: trainer._Training) -> dict[str, float]:
        first = self.progress.step == 3
        return dict.fromkeys(original(self), 0.9 if first else 0.1)

    monkeypatch.setattr(trainer._Training, "_validated", validated)


@pytest.mark.parametrize(("name", "damage"), [*DAMAGED[len(DAMAGES) :], (STATE, "gone")])
def test_a_training_that_lost_its_best_checkpoint_trains_it_again(
    best_at_3: StageInputs, name: str, damage: str
) -> None:
    expected = best_at_3.stage.get(f"checkpoints/00000003/{AVERAGE_FILE}")
    DAMAGES[damage](best_at_3.stage, f"checkpoints/00000003/{name}")

    result, told = resumed(best_at_3)

    [line] = told
    assert line.endswith("resuming from step 0 of 9")
    assert "00000006 has lost its best checkpoint: " in line
    assert result.metrics["dice"] == pytest.approx(0.9)
    assert result.outputs[WEIGHTS] == sha256_of(expected)


def test_a_checkpoint_without_a_state_was_cut_and_is_no_damage(
    cut_at_8: StageInputs, undisturbed: tuple[dict[str, str], Left]
) -> None:
    cut_at_8.stage.delete(f"checkpoints/00000006/{STATE}")

    result, told = resumed(cut_at_8)

    assert told == ["resuming from step 3 of 9"]
    assert whole(cut_at_8, result) == undisturbed


def test_the_best_of_a_kept_checkpoint_is_kept_with_it(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a training that goes back to it would have lost the network that it may end with."""
    original = trainer._Training._validated
    dice = {3: 0.3, 6: 0.2, 9: 0.9}
    monkeypatch.setattr(
        trainer._Training,
        "_validated",
        lambda self: dict.fromkeys(original(self), dice[self.progress.step]),
    )
    run = SPEC.run.model_copy(update={"keep_checkpoints": 2})
    given = setting(drawn, tmp_path, SPEC.model_copy(update={"run": run}))
    trained(given)
    assert steps_of(given) == {3: 3, 6: 3, 9: 9}


def test_ranks_load_the_checkpoint_that_rank_0_chose(cut_at_8: StageInputs) -> None:
    class Second(World):
        """Rank 1 of two, which are told that rank 0 chose step 3."""

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values + 3

    training = trainer._Training(cut_at_8, Second(1, 1, torch.device("cpu")))
    checkpoint = training._agreed_checkpoint()

    assert checkpoint is not None
    assert checkpoint.state.step == 3


def test_a_checkpoint_that_is_damaged_before_the_end_is_named(
    cut_at_8: StageInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trainer._Training._finish

    def finish(self: trainer._Training) -> Trained:
        best = self.progress.best_step
        DAMAGES["a changed byte"](cut_at_8.stage, f"checkpoints/{best:08}/{AVERAGE_FILE}")
        return original(self)

    monkeypatch.setattr(trainer._Training, "_finish", finish)
    with pytest.raises(ContractError, match=f"{AVERAGE_FILE} is damaged"):
        trained(cut_at_8)


def test_micro_batches_give_the_gradients_of_the_whole_batch(
    drawn: Dataset, tmp_path: Path
) -> None:
    """True without batch statistics, and for cross-entropy, which is a mean over images."""

    def gradients(micro_batch_size: int | None) -> list[torch.Tensor]:
        run = SPEC.run.model_copy(update={"micro_batch_size": micro_batch_size})
        optim = SPEC.optim.model_copy(update={"dice_weight": 0.0})
        spec = SPEC.model_copy(update={"run": run, "optim": optim})
        training = trainer._Training(setting(drawn, tmp_path, spec), ALONE)
        training._build()
        training.network.eval()
        for batch in read_ahead(training.reader, [(0, 1, 2)], threads=1):
            training._accumulated_gradients(batch)
        return [p.grad for p in training.model.parameters() if p.grad is not None]

    for whole, parts in zip(gradients(None), gradients(1), strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-7)


def test_a_batch_that_does_not_divide_among_processes_is_refused(
    drawn: Dataset, tmp_path: Path
) -> None:
    world = World(rank=0, size=2, device=torch.device("cpu"))
    with pytest.raises(SpecError, match="global_batch_size 3 does not divide among 2 processes"):
        train(setting(drawn, tmp_path), world)


def test_a_loss_that_is_not_finite_ends_the_training_with_advice(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        trainer, "segmentation_loss", lambda logits, *_, **__: logits.sum() * float("nan")
    )
    with pytest.raises(SpecError, match=r"loss is not finite at step 0; lower optim\.lr"):
        train(setting(drawn, tmp_path), ALONE)


def test_the_learning_rate_rises_and_then_falls_to_a_hundredth() -> None:
    spec = SPEC.model_copy(update={"optim": OptimBlock(lr=1.0, warmup_fraction=0.1)})
    rates = [learning_rate(spec, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(rates[9], rel=0.03)
    assert rates[-1] == pytest.approx(0.01)


def test_weights_of_another_architecture_are_refused_with_both_names(
    drawn: Dataset, tmp_path: Path
) -> None:
    given = setting(drawn, tmp_path)
    result = trained(given)
    write_marker(given.stage, step="stage1", spec_hash="", inputs={}, outputs=result.outputs)
    card, weights = load_weights(given.stage)
    other = ModelBlock(architecture="FPN", encoder="resnet34")
    with pytest.raises(ContractError, match=r"are not those of FPN with encoder resnet34"):
        put_weights(Segmenter(other), weights, source=given.stage.url, block=other)
    given.stage.put(WEIGHTS, safetensors.torch.save({"x": torch.zeros(1)}))
    with pytest.raises(ContractError, match="is damaged"):
        load_weights(given.stage)
    assert card.image_size == 64


def test_a_training_says_how_far_it_is(drawn: Dataset, tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "progress", rank=2)
    trained(replace(setting(drawn, tmp_path), heartbeat=heartbeat))
    heartbeat.flush()

    (last,) = read_heartbeats(tmp_path / "progress")

    assert (last.rank, last.done, last.total, last.unit) == (2, 9, 9, "steps")
    assert (last.epoch, last.epochs) == (3, 3)
