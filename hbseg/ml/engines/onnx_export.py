"""A network as an ONNX model: one file with its weights inside, for a static batch.

The exporter's notes on each node (stack traces with local paths) are removed, so that equal weights
and equal library versions give equal bytes.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime
import torch
from torch import nn

from hbseg.config.specs import CompileSpec
from hbseg.errors import SpecError
from hbseg.ml.engines.card import INPUT, OUTPUT, TensorRecord
from hbseg.ml.engines.kinds import Compiled

if TYPE_CHECKING:
    from hbseg.ml.checkpoint import LoadedModel  # it imports all encoders, which takes seconds


ONNX_OPSET = 20
"""ONNX operator set; ONNX Runtime 1.17 and later run it."""
MAX_ONNX = 2_000_000_000
"""Bytes of weights at most: one protobuf message ends at 2 GiB."""


def compile_onnx(spec: CompileSpec, loaded: LoadedModel, path: Path) -> Compiled:
    """Write the engine of a network, see `Compiler`.

    Raises:
        SpecError: the weights do not fit one file.
    """
    first, last = export_onnx(
        loaded.model, path, batch_size=spec.batch_size, size=loaded.card.image_size
    )
    return Compiled(
        versions={
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        input=first,
        output=last,
    )


def export_onnx(
    model: nn.Module, path: Path, *, batch_size: int, size: int
) -> tuple[TensorRecord, TensorRecord]:
    """Write the network as ONNX and return its input and output.

    The input is `images`, float32 [B, 1, size, size], the output `logits`.

    Raises:
        SpecError: the weights do not fit one file.
    """
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    if weights > MAX_ONNX:
        raise SpecError(
            f"the weights are {weights:,} bytes, an ONNX file holds {MAX_ONNX:,} at most",
            "choose a smaller encoder",
        )
    images = torch.zeros(batch_size, 1, size, size)
    with _terminated_later():
        program = torch.onnx.export(
            model,
            (images,),
            dynamo=True,
            verbose=False,
            opset_version=ONNX_OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    proto = program.model_proto
    _remove_notes(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return _record(proto.graph.input[0]), _record(proto.graph.output[0])


def _record(value: onnx.ValueInfoProto) -> TensorRecord:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = tuple(axis.dim_value for axis in tensor.shape.dim)
    return TensorRecord(name=value.name, shape=shape, dtype=dtype.name)


@contextmanager
def _terminated_later() -> Iterator[None]:
    """Keep SIGTERM for the end of a block.

    The exporter takes any exception, one that SIGTERM's handler raises included, for a failure of
    one of its ways to capture a network, and tries the next.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        if arrived:
            signal.raise_signal(signal.SIGTERM)


def _remove_notes(proto: onnx.ModelProto) -> None:
    graph = proto.graph
    values = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for part in (proto, graph, *graph.node, *values):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
