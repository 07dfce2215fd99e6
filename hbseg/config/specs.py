"""What determines a result: one spec for each kind of step.

A spec is hashed; the hash is part of the marker that says a step is done. Where and with what a
step runs is its placement (`hbseg.config.placement`) and is never hashed.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from hbseg.documents import Block, Count, Document, nearest

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
ImageSize = Annotated[int, Field(ge=64, le=4096, multiple_of=32)]
ViewName = Literal["whole", "window"]
"""What a network sees of a picture: all of it, scaled to the input, or parts at native size."""


class Spec(Document):
    """What determines the result of a step; each kind of step has its own (`hbseg.runs.steps`)."""

    by_people = True


class PrepareSpec(Spec):
    """How a raw folder becomes a dataset version."""

    kind: Literal["PrepareSpec"] = "PrepareSpec"
    seed: int = 0
    """Seed of the split."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Number of folds; a person's two hands are always in the same fold."""
    images_per_shard: Count = 32
    """Images in one shard."""


class ModelBlock(Block):
    """The network: an architecture of segmentation-models-pytorch, one channel in, 29 out."""

    architecture: Literal["Unet", "UnetPlusPlus", "FPN", "Linknet", "UPerNet", "MAnet"] = "Unet"
    """Class name in segmentation-models-pytorch."""
    encoder: str = "resnet18"
    """Encoder name in segmentation-models-pytorch or timm (`tu-...`)."""
    encoder_weights: str | None = None
    """URL or path of safetensors for the encoder; none trains from scratch."""
    decoder_channels: tuple[Count, ...] | None = None
    """Channels of the decoder's blocks, deepest first; none takes the library's default."""
    output_stride: Literal[1, 2, 4] = 1
    """Network pixels of one logit; above 1 (Unet only) the last decoder blocks are left out,
    whose work on full-size planes costs most and adds little to interpolated logits."""


class AugmentBlock(Block):
    """Random changes of a batch, on image and masks together; a strength of 0 switches one off.

    Grey levels count as 0 to 1 here. The defaults are what carried over from synthetic to real
    radiographs best (docs/training.md).
    """

    flip_probability: Fraction = 0.5
    """Probability of a horizontal flip: a mirrored hand is the other hand, with the same bones."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest rotation to either side, in degrees."""
    smallest_scale: Annotated[float, Field(gt=0, le=1)] = 0.78
    largest_scale: Annotated[float, Field(ge=1, le=4)] = 1.42
    """Smallest and largest factor of size; even in its logarithm."""
    aspect: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    """Largest |log| of the stretch of rows against columns, halved."""
    shift: Annotated[float, Field(ge=0, le=1)] = 0.12
    """Largest shift along each axis, as a fraction of the side."""
    gamma: Annotated[float, Field(ge=0, le=3)] = 0.7
    """Largest |log gamma|."""
    sharpness: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Largest share of a 3 x 3 mean that is mixed in (blur) or taken off (sharpening)."""
    shading: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Largest deviation of a smooth field, as log of a factor; a third of it is added."""
    contrast: Annotated[float, Field(ge=0, le=3)] = 0.4
    """Largest |log contrast|."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Largest change of level."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Largest deviation of pixel noise."""
    outside_probability: Fraction = 0.5
    """Probability that what the picture does not cover is one flat level, not its edge repeated."""
    border_probability: Fraction = 0.3
    """Probability, for each side, of a straight edge of collimation or letterbox; bones beyond it
    are gone from the masks."""
    cutout_probability: Fraction = 0.3
    """Probability of each of two flat rectangles; the bones below them stay in the masks."""


class DatasetBlock(Block):
    """What a training reads."""

    version: str | None = None
    """Hash of the dataset version; none is pinned to the current one when it is submitted."""
    fold: Annotated[int, Field(ge=0)] = 0
    """Fold that is held out for validation."""
    image_size: ImageSize = 256
    """Side of the network's square input, in pixels."""
    view: ViewName = "whole"
    """What the network sees: the whole picture, scaled to `image_size`, or (stage 2 only) windows
    of `image_size` native pixels."""
    augment: AugmentBlock = AugmentBlock()


class RunBlock(Block):
    """How long and how exactly to train."""

    seed: Annotated[int, Field(ge=0, lt=2**20)] = 0
    """Seed of everything random: weights, order, augmentation."""
    epochs: Count = 10
    """Passes over the training split."""
    global_batch_size: Count = 8
    """Images of one optimiser step, over all processes."""
    micro_batch_size: Count | None = None
    """Images that one process takes at a time; none: all of its share. Fewer save memory."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Type of the network's arithmetic; weights and loss stay fp32."""
    process_group: Literal["auto", "gloo", "nccl"] = "auto"
    """torch.distributed backend: nccl on NVIDIA GPUs, gloo on CPUs; auto: nccl where a GPU is."""
    sync_batch_norm: bool = False
    """Whether batch statistics are shared by all processes."""
    validate_every: Count = 1
    """Epochs between validations, each with a checkpoint; the last epoch always has one."""
    keep_checkpoints: Count = 2
    """Latest checkpoints that are kept, beside the best one that each of them names."""


class OptimBlock(Block):
    """AdamW with warm-up and cosine decay, and the loss."""

    lr: Positive = 1e-3
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Decay of matrices and kernels; biases and norms have none."""
    warmup_fraction: Fraction = 0.1
    """Share of all steps in which the learning rate rises from 0."""
    clip_norm: Positive = 1.0
    """Largest norm of all gradients together."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.98
    """Decay of the moving average of the weights, per step; 0 switches it off."""
    bce_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of binary cross-entropy."""
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the soft Dice loss."""


class TrainSpec(Spec):
    """A training stage."""

    kind: Literal["TrainSpec"] = "TrainSpec"
    stage: Literal[1, 2] = 1
    """1 starts from scratch or encoder weights, 2 from a checkpoint."""
    init_from: str | None = None
    """Checkpoint folder that stage 2 starts from; none: stage 1 of the same run."""
    model: ModelBlock | None = None
    """The network; none (stage 2 only) inherits the checkpoint's."""
    dataset: DatasetBlock = DatasetBlock()
    run: RunBlock = RunBlock()
    optim: OptimBlock = OptimBlock()

    @model_validator(mode="after")
    def _stage_fits(self) -> Self:
        if self.stage == 1 and self.model is None:
            raise ValueError("stage 1 needs a model block")
        if self.stage == 1 and self.init_from is not None:
            raise ValueError("init_from is for stage 2; stage 1 takes model.encoder_weights")
        if self.stage == 1 and self.dataset.view == "window":
            raise ValueError(
                "dataset.view window is for stage 2; stage 1 learns from whole hands which bone "
                "is which"
            )
        return self


_TENSORRT_HINT: Final = "give --engine tensorrt (a pipeline: --set compile.engine=tensorrt)"


class CompileSpec(Spec):
    """How a checkpoint becomes an engine."""

    kind: Literal["CompileSpec"] = "CompileSpec"
    engine: Literal["onnx", "tensorrt", "eager"] = "onnx"
    """Kind of engine: ONNX Runtime on CPUs, TensorRT on NVIDIA GPUs, or the network itself, run by
    torch on either. Commands put in what the place offers where none is named."""
    batch_size: Count = 8
    """Images of one call; fixed in the engine."""
    precision: Literal["fp32", "tf32", "fp16", "bf16"] = "fp32"
    """Type of the network's arithmetic; other than fp32 for TensorRT only."""
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    """Effort of the compiler."""
    workspace_mib: Annotated[int, Field(ge=1, le=2**20)] | None = None
    """Largest GPU memory that TensorRT may use beside weights and tensors; none: all there is."""
    device: str | None = None
    """GPU model that must compile, for TensorRT only; none: whichever does."""
    largest_difference: Positive | None = None
    """Largest |logit difference| to the eager network that is accepted where |eager logit| < 2;
    none: the default of the precision (fp32 0.01, tf32 and fp16 0.1, bf16 0.8)."""
    smallest_dice: Fraction | None = None
    """Smallest Dice of a bone's masks against the eager network's that is accepted, at native size;
    none: the default of the precision (fp32 0.999, tf32 and fp16 0.995, bf16 0.95)."""

    @model_validator(mode="after")
    def _kind_fits(self) -> Self:
        if self.engine == "tensorrt":
            return self
        if self.precision != "fp32":
            raise ValueError(
                f"precision {self.precision} is for TensorRT, {self.engine} engines are fp32; "
                f"{_TENSORRT_HINT}, or leave the precision out"
            )
        if self.device is not None:
            raise ValueError(
                f"device {self.device!r:.60} is for TensorRT, {self.engine} engines are for any "
                f"machine; {_TENSORRT_HINT}, or leave the device out"
            )
        return self


class InferSpec(Spec):
    """How masks are made."""

    kind: Literal["InferSpec"] = "InferSpec"
    mode: Literal["submission", "valid", "images"] = "submission"
    """Which images: the dataset's test split, its validation fold, or a folder of pictures."""
    images: str | None = None
    """Picture or folder of pictures (URL or path), for the mode images."""
    batch_size: Count = 8
    """Batch size of the engine that is used."""
    members: tuple[str, ...] = ()
    """Folders (URLs) of other runs' engines; their logits and those of the run's own engine are
    averaged."""
    flip: bool = False
    """Whether logits are averaged with those of the mirrored picture: a mirrored hand is the other
    hand, with the same bones."""
    threshold: Probability = 0.5
    """Probability above which a pixel belongs to a bone."""
    thresholds: dict[str, Probability] | None = None
    """By bone: the probability that replaces `threshold`."""
    one_piece: bool = False
    """Whether only the largest connected part of each bone is kept, and its holes filled."""

    @model_validator(mode="after")
    def _images_fit(self) -> Self:
        if (self.mode == "images") != (self.images is not None):
            raise ValueError("images goes with the mode images")
        return self

    @model_validator(mode="after")
    def _bones_are_known(self) -> Self:
        from hbseg.anatomy import BONES

        for bone in self.thresholds or {}:
            if bone not in BONES:
                raise ValueError(f"thresholds: no bone {bone:.40}; {nearest(bone, BONES)}")
        return self

    @property
    def bone_thresholds(self) -> list[float]:
        """The threshold of each bone, in class order."""
        from hbseg.anatomy import BONES

        return [(self.thresholds or {}).get(bone, self.threshold) for bone in BONES]


class EfficiencySpec(Spec):
    """How latency, throughput and memory are measured."""

    kind: Literal["EfficiencySpec"] = "EfficiencySpec"
    batch_size: Count = 1
    """Batch size of the engine whose latency is measured."""
    throughput_batch_size: Count | None = None
    """Batch size of the engine whose throughput is measured; none: the one of the step infer in a
    chain, the one of the run's latest larger engine elsewhere. It is set when it is submitted."""
    warmup: Annotated[int, Field(ge=0)] = 5
    """Calls that are not counted, for each number of images of a call."""
    iterations: Count = 30
    """Calls that are counted, for each number of images of a call."""
    seconds: Positive = 2.0
    """Time in seconds after which fewer calls than these are enough, for each number of images of
    a call; three are always counted."""

    def with_throughput(self, batch_size: int) -> Self:
        """Return the spec with a batch size for the throughput where it names none."""
        if self.throughput_batch_size is not None:
            return self
        return self.model_copy(update={"throughput_batch_size": batch_size})


class ReportSpec(Spec):
    """What the report shows."""

    kind: Literal["ReportSpec"] = "ReportSpec"
    pictures: Annotated[int, Field(ge=0, le=100)] = 6
    """Validation hands (half of them the worst, half the best) and test hands that are drawn with
    their masks; 0 makes a report that shows and names no image."""
