"""A network as a TensorRT engine: one plan for a static batch, on the GPU that compiles it.

This is the only module that needs torch_tensorrt; the plan is run without it.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hbseg.config.specs import CompileSpec
from hbseg.errors import SpecError
from hbseg.ml.engines.card import INPUT, OUTPUT, TensorRecord
from hbseg.ml.engines.kinds import Compiled
from hbseg.ml.engines.tensorrt_place import Gpu, first_line, this_gpu
from hbseg.ml.engines.tensorrt_plan import plan_header
from hbseg.ml.model import Segmenter, standardised

if TYPE_CHECKING:
    from hbseg.ml.checkpoint import LoadedModel

TIMING_CACHE = "timing_cache.bin"
"""File beside the engine; the library's default is one that all processes of a machine share."""

_TYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
_BUILDER_LOG = "torch_tensorrt [TensorRT Conversion Context]"
"""Logger of TensorRT's builder: it alone tells why a build failed."""
_OTHER_ENGINE = "use --engine onnx"


def compile_tensorrt(spec: CompileSpec, loaded: LoadedModel, path: Path) -> Compiled:
    """Write the engine of a network, see `Compiler`.

    The network stays on the CPU: TensorRT takes its weights from there.

    Raises:
        SpecError: no GPU or not the one that is asked for, no torch_tensorrt, or an operator that
            TensorRT does not have.
    """
    gpu = _gpu(spec)
    torch_tensorrt = load_compiler()
    size = loaded.card.image_size
    images = torch.zeros(spec.batch_size, 1, size, size)
    with torch.no_grad():
        program = torch.export.export(Typed(loaded.model, spec.precision).eval(), (images,))
    remove_ceil_mode(program)
    plan = _built(torch_tensorrt, program, images, spec, path.with_name(TIMING_CACHE))
    header = plan_header(plan)
    path.write_bytes(plan)
    return Compiled(
        versions={
            "tensorrt": header.version,
            "torch_tensorrt": torch_tensorrt.__version__,
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda),
        },
        device=gpu.name,
        compute_capability=gpu.compute_capability,
        flavour=header.flavour,
        optimization_level=spec.optimization_level,
        input=TensorRecord(name=INPUT, shape=tuple(images.shape)),
        output=TensorRecord(name=OUTPUT, shape=_output_shape(program)),
    )


def load_compiler() -> Any:
    """Return torch_tensorrt.

    Raises:
        SpecError: there is no GPU, which it asks for when it is imported, or it does not load.
    """
    _gpu_here()
    try:
        return importlib.import_module("torch_tensorrt")
    except (ImportError, OSError, RuntimeError) as error:
        raise SpecError(
            f"torch_tensorrt does not load here: {first_line(error)}",
            f"run the step in the tensorrt image, or {_OTHER_ENGINE}",
        ) from None


class Typed(nn.Module):
    """A network whose arithmetic has one type; what comes in and goes out stays float32.

    TensorRT 11 has no flags for precision: the types of the graph are final. The standardisation
    stays float32, since squares of grey levels do not fit float16.
    """

    def __init__(self, model: Segmenter, precision: str) -> None:
        super().__init__()
        self._dtype = _TYPES[precision]
        # Module.to works in place, and the caller's network stays float32.
        self.network = copy.deepcopy(model.network).to(self._dtype)

    def forward(self, images_b1hw: Tensor) -> Tensor:
        """Return logits, float32 [B, 29, h, w], of images in grey levels, float32 [B, 1, H, W]."""
        logits: Tensor = self.network(standardised(images_b1hw).to(self._dtype))
        return logits.float()


def remove_ceil_mode(program: torch.export.ExportedProgram) -> int:
    """Make average pools round down where both roundings agree; return how many.

    torch_tensorrt has no converter for pools that round up. timm's ResNet-D encoders (the demo's
    is one) have such pools, but over even planes they give the same bits.
    """
    changed = 0
    for node in program.graph.nodes:
        if node.target is not torch.ops.aten.avg_pool2d.default or len(node.args) < 5:
            continue
        images, kernel, stride, padding, rounds_up, *others = node.args
        if rounds_up and _fits(images.meta["val"].shape[-2:], kernel, stride or kernel, padding):
            node.args = (images, kernel, stride, padding, False, *others)
            changed += 1
    return changed


def check_known(call: Callable[..., object], options: Mapping[str, object]) -> None:
    """Check that a function names each of its options.

    torch_tensorrt takes options that it does not know, and ignores them.

    Raises:
        TypeError: it does not; this version of it is not the one that this module is written for.
    """
    unknown = sorted(options.keys() - inspect.signature(call).parameters.keys())
    if unknown:
        raise TypeError(f"{call.__name__} has no option {unknown[0]}")


def _gpu_here() -> Gpu:
    gpu = this_gpu()
    if gpu is None:
        raise SpecError(
            "a TensorRT engine is compiled on the GPU that runs it, here is no NVIDIA GPU",
            _OTHER_ENGINE,
        )
    return gpu


def _gpu(spec: CompileSpec) -> Gpu:
    """Return the GPU here. TensorRT cannot compile for another one."""
    gpu = _gpu_here()
    if spec.device not in (None, gpu.name):
        raise SpecError(
            f"device {spec.device} is asked for, here is {gpu.name}",
            f"submit where that GPU is, or use --tensorrt-device '{gpu.name}'",
        )
    return gpu


def _built(
    torch_tensorrt: Any,
    program: torch.export.ExportedProgram,
    images: Tensor,
    spec: CompileSpec,
    timing_cache: Path,
) -> bytes:
    """Return the plan of a program: all of it in one engine."""
    convert = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    options = {
        "arg_inputs": (images,),
        "device": torch_tensorrt.Device(gpu_id=torch.cuda.current_device()),
        "disable_tf32": spec.precision != "tf32",
        "optimization_level": spec.optimization_level,
        "workspace_size": 2**20 * (spec.workspace_mib or 0),  # 0: TensorRT's default
        "timing_cache_path": str(timing_cache),
        "arg_input_binding_names": (INPUT,),
        "output_binding_names": OUTPUT,
    }
    check_known(convert, options)
    with _builder_errors() as errors:
        try:
            plan: bytes = convert(program, **options)
        except (RuntimeError, AssertionError) as error:
            raise SpecError(
                f"TensorRT cannot compile the network: {_cause(error, errors)}", _OTHER_ENGINE
            ) from None
    return plan


def _fits(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> bool:
    """Return whether a pool's windows end exactly where its (padded) plane ends."""
    places = zip(size, _pair(kernel), _pair(stride), _pair(padding), strict=True)
    return all((side + 2 * pad - window) % step == 0 for side, window, step, pad in places)


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    return (numbers[0], numbers[-1])


def _output_shape(program: torch.export.ExportedProgram) -> tuple[int, ...]:
    (result,) = program.graph.output_node().args[0]
    return tuple(int(number) for number in result.meta["val"].shape)


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _builder_errors() -> Iterator[list[str]]:
    """Collect what the builder says; keep torch_tensorrt from printing the whole graph."""
    errors = _Errors()
    builder = logging.getLogger(_BUILDER_LOG)
    converter = logging.getLogger("torch_tensorrt.dynamo._compiler")
    level, propagate = converter.level, builder.propagate
    builder.addHandler(errors)
    builder.propagate = False
    converter.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # It warns of operators without a converter, and raises the same afterwards.
            warnings.filterwarnings("ignore", category=UserWarning, module="torch_tensorrt")
            yield errors.messages
    finally:
        builder.removeHandler(errors)
        builder.propagate = propagate
        converter.setLevel(level)


def _cause(error: BaseException, errors: Sequence[str]) -> str:
    """Return one line: the builder's first error, or the innermost exception's first line."""
    coded = [message for message in errors if "Error Code" in message]  # others are notes
    if coded:
        return coded[0].partition("\n")[0]
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
