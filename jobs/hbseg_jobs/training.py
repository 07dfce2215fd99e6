"""The work of a training stage, in each of its processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from hbseg.config.specs import ModelBlock, TrainSpec
from hbseg.data.dataset import open_version
from hbseg.errors import ContractError
from hbseg.ml.checkpoint import load_weights, put_weights
from hbseg.ml.distributed import World, world
from hbseg.ml.model import Segmenter, load_encoder
from hbseg.ml.trainer import StageInputs, train
from hbseg.runs.task import identity
from hbseg.system.cpu import has_bf16, usable_threads
from hbseg_jobs.entry import StepContext


def work(context: StepContext) -> None:
    """Train the stage that the spec describes and write its marker."""
    spec = context.spec(TrainSpec)
    threads = usable_threads()
    torch.set_num_threads(threads)
    inputs = context.task.input_digests()
    digest = identity(spec.digest(), inputs)
    with world(spec.run.process_group) as here:
        print_line(f"rank {here.rank} of {here.size} on {here.device}, {threads} CPU threads")
        if here.is_main and here.device.type == "cpu":
            _warn_of_emulation(spec)
        here.check_same(digest)
        trained = train(_setting(context, spec, digest, here), here)
        if trained is not None:
            context.finish(
                trained.outputs, records=trained.records, metrics=trained.metrics, inputs=inputs
            )
        # Rank 0's end counts as the job's: the others stay until the marker is written.
        here.wait()


def _warn_of_emulation(spec: TrainSpec) -> None:
    if spec.run.precision == "bf16" and not has_bf16():
        print_line(
            "this CPU is not known to compute bfloat16, and to emulate it takes several times as "
            "long; faster here: --set run.precision=fp32 "
            f"(in a pipeline stage{spec.stage}.run.precision=fp32)"
        )


def _setting(context: StepContext, spec: TrainSpec, digest: str, here: World) -> StageInputs:
    say = print_line if here.is_main else _silent
    block, initial = _start(context, spec, say)
    version = context.input("dataset").url.rpartition("/")[2]
    return StageInputs(
        spec=spec,
        model_block=block,
        dataset=open_version(context.data, version),
        stage=context.task.folder,
        work=context.work,
        identity=digest,
        initial=initial,
        say=say,
        heartbeat=context.heartbeat,
    )


def _start(
    context: StepContext, spec: TrainSpec, say: Callable[[str], None]
) -> tuple[ModelBlock, Callable[[Segmenter], bool]]:
    """Return the network's description, and what puts the first weights into it."""
    if spec.stage == 1 and spec.model is not None:
        return spec.model, _encoder_start(spec.model)
    stage = context.input("checkpoint")
    card, weights = load_weights(stage)
    if spec.model is not None and spec.model != card.model:
        raise ContractError(
            f"the spec's model is {_named(spec.model)}, the checkpoint's is {_named(card.model)}",
            "leave the model block out to inherit it",
        )
    say(f"inherited model={_named(card.model)} and weights from {stage.url}")

    def put(model: Segmenter) -> bool:
        put_weights(model, weights, source=stage.url, block=card.model)
        return True

    return card.model, put


def _encoder_start(block: ModelBlock) -> Callable[[Segmenter], bool]:
    def put(model: Segmenter) -> bool:
        if block.encoder_weights is not None:
            load_encoder(model, _encoder_weights(block.encoder_weights))
        return False

    return put


def _encoder_weights(url: str) -> dict[str, torch.Tensor]:
    import safetensors
    import safetensors.torch

    from hbseg.storage.opening import open_store

    folder, _, name = url.rpartition("/")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "encoder.safetensors"
        open_store(folder or ("/" if url.startswith("/") else ".")).download(name, path)
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ContractError(f"{url} is not readable as safetensors: {error}") from None


def _named(block: ModelBlock) -> str:
    return f"{block.architecture}/{block.encoder}"


def print_line(line: str) -> None:
    """Print a line at once, so that the log shows it while the step runs."""
    print(line, flush=True)


def _silent(line: str) -> None:
    del line
