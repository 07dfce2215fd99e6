"""Our own compile code makes real engines of TensorRT-RTX."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hbseg.config.specs import CompileSpec, ModelBlock, TrainSpec
from hbseg.errors import ContractError, SpecError
from hbseg.ml.checkpoint import LoadedModel, ModelCard
from hbseg.ml.engines import tensorrt_compile
from hbseg.ml.engines.card import CARD, EngineCard, Images, Logits, check_card
from hbseg.ml.engines.compile import compile_engine
from hbseg.ml.engines.gate import eager_logits
from hbseg.ml.engines.kinds import KINDS, Compiled
from hbseg.ml.engines.opening import open_engine
from hbseg.ml.engines.tensorrt_compile import compile_tensorrt
from hbseg.ml.engines.tensorrt_plan import check_plan
from hbseg.ml.model import Segmenter
from hbseg.storage.folder import FolderStore
from hbseg.storage.markers import sha256_of_file
from hbseg_jobs import configs
from tests.engines import grey, write_card

from .conftest import RTX, Built

DEMO = ModelBlock(encoder="tu-test_resnet", decoder_channels=(96, 48, 32, 24, 16), output_stride=2)
SMALL = ModelBlock(encoder="tu-test_resnet", decoder_channels=(16, 16, 8, 8, 8))
BATCH, SIZE = 2, 64
SPEC = CompileSpec(engine="tensorrt", batch_size=BATCH)

Shipped = tuple[str, ModelBlock, int]


def shipped() -> list[Shipped]:
    """Preset, network and input size of each stage of the specs that hbseg brings."""
    found: list[Shipped] = []
    root = Path(configs.__file__).parent
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        texts = [folder / f"train_stage{stage}.yaml" for stage in (1, 2)]
        specs = [TrainSpec.from_text(p.read_text(), source=p.name) for p in texts if p.is_file()]
        block = next((spec.model for spec in specs if spec.model), None)
        name = folder.name if folder != root else "base"
        found += [(f"{name}-{spec.dataset.image_size}", block, spec.dataset.image_size)
                  for spec in specs if block]  # fmt: skip
    return found


def loaded(block: ModelBlock = SMALL, size: int = SIZE) -> LoadedModel:
    torch.manual_seed(0)
    card = ModelCard(model=block, image_size=size, weights_sha256="a" * 64)
    return LoadedModel(Segmenter(block).eval(), card)


@pytest.fixture(scope="module")
def small() -> LoadedModel:
    return loaded()


Compile = Callable[..., Compiled]


@pytest.fixture
def compiled(trt: Any, small: LoadedModel, tmp_path: Path) -> Compile:
    """Compile the small network, or another one; the plan is `model.engine`."""

    def run(model: LoadedModel = small, **changes: Any) -> Compiled:
        spec = SPEC.model_copy(update=changes)
        return compile_tensorrt(spec, model, tmp_path / "model.engine")

    return run


def test_the_specs_that_hbseg_brings_are_found() -> None:
    assert [name for name, _, _ in shipped()] == [
        "base-512", "base-1024", "demo-96", "demo-192", "demo-bf16-128", "demo-bf16-224",
    ]  # fmt: skip


@pytest.mark.parametrize("case", shipped(), ids=lambda case: case[0])
def test_each_shipped_network_is_one_engine(
    compiled: Compile, builds: list[Built], tmp_path: Path, case: Shipped
) -> None:
    _, block, size = case
    model = loaded(block, size)
    begin = time.perf_counter()
    result = compiled(model, batch_size=1)
    seconds = time.perf_counter() - begin
    (build,) = builds  # an operator without a converter would be refused, or make two of them
    assert (build.network.num_inputs, build.network.num_outputs) == (1, 1)
    weights = sum(value.numel() * 4 for value in model.model.parameters())
    plan = (tmp_path / "model.engine").stat().st_size
    assert plan > weights
    stride = block.output_stride
    assert result.input is not None
    assert result.output is not None
    assert result.input.shape == (1, 1, size, size)
    assert result.output.shape == (1, 29, size // stride, size // stride)
    print(json.dumps({"network": case[0], "plan": plan, "weights": weights, "seconds": seconds}))


def test_the_result_names_all_that_the_engine_is_for(
    trt: Any, compiled: Compile, builds: list[Built]
) -> None:
    result = compiled(optimization_level=4)
    assert (result.device, result.compute_capability) == RTX
    assert (result.flavour, result.optimization_level) == ("tensorrt_rtx", 4)
    assert result.versions["tensorrt"] == trt.__version__
    assert result.versions["torch"] == torch.__version__
    assert set(result.versions) == set(KINDS["tensorrt"].libraries)
    (build,) = builds
    image, logits = build.network.get_input(0), build.network.get_output(0)
    for tensor, record in ((image, result.input), (logits, result.output)):
        assert record is not None
        assert (tensor.name, tuple(tensor.shape)) == (record.name, record.shape)
        assert (tensor.dtype, record.dtype) == (trt.float32, "float32")


def test_equal_weights_give_equal_bytes(compiled: Compile, tmp_path: Path) -> None:
    digests = []
    for _ in range(2):
        compiled()
        digests.append(sha256_of_file(tmp_path / "model.engine"))
    other = loaded()
    with torch.no_grad():
        other.model.head.weight[0, 0, 0, 0] += 1
    compiled(other)
    assert digests[0] == digests[1] != sha256_of_file(tmp_path / "model.engine")


@pytest.mark.parametrize(
    ("precision", "typed", "tf32"),
    [
        ("fp32", "float32", False),
        ("tf32", "float32", True),
        ("fp16", "float16", False),
        ("bf16", "bfloat16", False),
    ],
)
def test_a_precision_reaches_every_convolution(
    trt: Any, compiled: Compile, builds: list[Built], precision: str, typed: str, tf32: bool
) -> None:
    compiled(precision=precision)
    (build,) = builds
    layers = [build.network.get_layer(index) for index in range(build.network.num_layers)]
    kinds = {
        layer.get_output(0).dtype for layer in layers if layer.type == trt.LayerType.CONVOLUTION
    }
    assert kinds == {getattr(trt, typed)}
    assert build.config.get_flag(trt.BuilderFlag.TF32) is tf32


@pytest.mark.parametrize("level", [0, 5])
def test_an_optimization_level_reaches_the_builder(
    compiled: Compile, builds: list[Built], level: int
) -> None:
    compiled(optimization_level=level)
    (build,) = builds
    assert build.config.builder_optimization_level == level


def test_a_workspace_reaches_the_builder(trt: Any, compiled: Compile, builds: list[Built]) -> None:
    compiled()
    compiled(workspace_mib=64)
    pool = trt.MemoryPoolType.WORKSPACE
    whole, limited = (build.config.get_memory_pool_limit(pool) for build in builds)
    assert limited == 64 * 2**20 < whole


def test_the_timing_cache_is_one_of_our_own(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-RTX times nothing, and has no such cache; TensorRT is told this path."""
    from torch_tensorrt.dynamo.conversion._TRTInterpreter import TRTInterpreter

    paths: list[str] = []
    for name in ("_create_timing_cache", "_save_timing_cache"):
        monkeypatch.setattr(TRTInterpreter, name, lambda self, config, path: paths.append(path))
    compiled()
    assert paths == [str(tmp_path / "timing_cache.bin")] * 2


def test_half_precision_halves_the_plan(compiled: Compile, tmp_path: Path) -> None:
    sizes = {}
    model = loaded(ModelBlock(encoder="resnet18", decoder_channels=(32, 16, 16, 16, 16)))
    for precision in ("fp32", "fp16"):
        compiled(model, precision=precision)
        sizes[precision] = (tmp_path / "model.engine").stat().st_size
    assert sizes["fp16"] < 0.6 * sizes["fp32"]


@pytest.mark.parametrize("architecture", ["UnetPlusPlus", "FPN", "Linknet", "UPerNet", "MAnet"])
def test_each_architecture_is_one_engine(compiled: Compile, architecture: Any) -> None:
    model = loaded(ModelBlock(architecture=architecture, encoder="tu-test_resnet"))
    output = compiled(model).output
    assert output is not None
    assert output.shape == (BATCH, 29, SIZE, SIZE)


def test_an_operator_without_a_converter_is_named(
    compiled: Compile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tensorrt_compile, "remove_ceil_mode", lambda program: 0)
    with pytest.raises(SpecError) as caught:
        compiled()
    assert str(caught.value) == (
        "TensorRT cannot compile the network: Conversion of function "
        "torch._ops.aten.aten::avg_pool2d not currently supported!; use --engine onnx"
    )
    told = capfd.readouterr()
    assert "forward(" not in told.out + told.err  # it would print the whole graph
    assert not list(tmp_path.iterdir())


def test_a_build_that_fails_tells_the_builder_s_reason(
    trt: Any, compiled: Compile, builds: list[Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trt.Builder.build_serialized_network

    def refittable(self: Any, network: Any, config: Any) -> Any:
        config.set_flag(trt.BuilderFlag.REFIT)  # TensorRT-RTX needs a GPU for that
        return plain(self, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", refittable)
    with pytest.raises(SpecError, match="network: IBuilder::buildSerializedNetwork: Error Code"):
        compiled()


@pytest.fixture
def stored(trt: Any, small: LoadedModel, tmp_path: Path) -> FolderStore:
    """A real engine in storage, as the step compile leaves it.

    The eager network stands in for the engine where both are compared: that needs a GPU.
    """

    class Eager:
        def __init__(self, path: Path, card: EngineCard, threads: int) -> None:
            check_plan(path, card)
            self.card = card

        def logits(self, images_bhw: Images) -> Logits:
            return eager_logits(small.model, images_bhw)

    with pytest.MonkeyPatch.context() as patch:
        kind = replace(KINDS["tensorrt"], load_opener=lambda: Eager)
        patch.setitem(KINDS, "tensorrt", kind)
        card = compile_engine(SPEC, small, [grey(0)], tmp_path, fold=1)
    folder = FolderStore(tmp_path / "engine")
    folder.upload(card.model, tmp_path / card.model)
    write_card(folder, card.to_mapping())
    return folder


def test_a_real_engine_comes_back_from_storage_and_its_card_holds(
    stored: FolderStore, tmp_path: Path
) -> None:
    card = EngineCard.from_text(stored.get(CARD), source=CARD)
    assert (card.flavour, card.optimization_level, card.fold) == ("tensorrt_rtx", 3, 1)
    check_card(
        card,
        batch_size=BATCH,
        kind="tensorrt",
        device=RTX.name,
        precision="fp32",
        size=SIZE,
        checkpoint_sha256="a" * 64,
    )
    stored.download(card.model, tmp_path / "again.engine")
    assert sha256_of_file(tmp_path / "again.engine") == card.model_sha256
    check_plan(tmp_path / "again.engine", card)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"device": "NVIDIA L4"}, "engine was compiled for NVIDIA L4, here is NVIDIA GeForce RTX"),
        ({"compute_capability": "9.0"}, "for compute capability 9.0, here is compute capability 8"),
        ({"flavour": "tensorrt"}, "was written by tensorrt_rtx .*, engine.json says tensorrt "),
    ],
)
def test_a_real_engine_is_refused_in_another_place(
    stored: FolderStore, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    card = EngineCard.from_text(stored.get(CARD), source=CARD)
    write_card(stored, card.to_mapping() | changes)
    with pytest.raises(ContractError, match=sentence):
        open_engine(stored, tmp_path / "work", batch_size=BATCH)


NEEDED = {
    "Runtime": ["deserialize_cuda_engine"],
    "ICudaEngine": [
        "create_execution_context", "get_tensor_dtype", "get_tensor_mode", "get_tensor_name",
        "get_tensor_shape", "num_io_tensors",
    ],
    "IExecutionContext": ["execute_async_v3", "set_tensor_address"],
    "ILogger": ["ERROR", "INTERNAL_ERROR", "log"],
    "TensorIOMode": ["INPUT", "OUTPUT"],
    "DataType": ["FLOAT"],
}  # fmt: skip
"""All of TensorRT that an engine of ours uses; TensorRT 11.1 has it under the same names."""


def test_an_engine_uses_what_tensorrt_has(trt: Any) -> None:
    real = trt._target_module
    missing = [
        f"{kind}.{name}"
        for kind, names in NEEDED.items()
        for name in names
        if not hasattr(getattr(real, kind), name)
    ]
    assert missing == []
