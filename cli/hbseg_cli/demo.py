"""`hbseg demo`: the whole chain on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from hbseg_cli import options
from hbseg_cli.output import Format, Result, document, progress, say
from hbseg_cli.pipeline import tell

VARIANT, WITH_BF16 = "demo", "demo-bf16"
"""Folders of the demo's configs: for any CPU, and for one that computes bfloat16."""


def add_to(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command()(demo)


def demo(
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Folder for all that the demo makes.")
    ] = Path("hbseg-demo"),
    hands: Annotated[
        int | None, typer.Option("--hands", help="Synthetic training pictures; an even number.")
    ] = None,
    test_hands: Annotated[
        int | None, typer.Option("--test-hands", help="Synthetic test pictures; an even number.")
    ] = None,
    raw: Annotated[
        Path | None, typer.Option("--raw", metavar="RAW", help="A set in the raw layout instead.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Also make masks of these hand pictures."),
    ] = None,
    output: options.Output = Format.TABLE,
) -> Result:
    """Run the whole chain here, against a real S3 server that the demo starts and stops."""
    from hbseg.config.specs import PrepareSpec
    from hbseg.control.specs import chain_specs, spec_of
    from hbseg.demo import HANDS, TEST_HANDS, Listener, fitted, run_demo
    from hbseg.errors import UsageError
    from hbseg.runs.steps import Step
    from hbseg.system.cpu import has_bf16

    if raw is not None and (hands is not None or test_hands is not None):
        raise UsageError("--raw does not go with --hands or --test-hands", "leave one out")
    hands = HANDS if hands is None else hands
    variant = WITH_BF16 if has_bf16() else VARIANT
    if variant == VARIANT:
        say("this CPU is not known to compute bfloat16: a smaller network in fp32, and worse masks")
    specs, prepare_spec = fitted(
        chain_specs(variant=variant),
        spec_of(Step.PREPARE, PrepareSpec, variant=variant),
        hands=hands,
        raw=raw,
    )
    with progress() as show:
        result = run_demo(
            folder,
            specs,
            prepare_spec,
            Listener(say, tell, show),
            hands=hands,
            test_hands=TEST_HANDS if test_hands is None else test_hands,
            raw=raw,
            images=images,
        )
    content = {
        "submission": str(result.submission),
        "report": str(result.report),
        "dice": result.dice,
    }
    if result.images is not None:
        content |= {
            "images": str(result.images),
            "imagesReport": str(result.page),
            "overlays": str(result.overlays),
        }
    _tell_figures(result.dice, result.dice_by_bone)
    say(f"done in {result.seconds:.0f} s")
    if result.page is not None:
        say(f"your pictures: open {result.page}")
    say(f"next: open {result.report}; hbseg demo --dir {folder} --images FOLDER for your own hands")
    full = {**content, "diceByBone": result.dice_by_bone}
    return Result(document("DemoResult", **full), [content], [str(result.submission)], output)


def _tell_figures(dice: float | None, by_bone: dict[str, float]) -> None:
    from hbseg.anatomy import GROUPS

    if dice is None:
        say("the truth of the test hands is not known here: no Dice")
        return
    say(f"mean Dice on the unseen test hands: {dice:.4f}")
    for group, bones in GROUPS.items():
        mean = sum(by_bone[bone] for bone in bones) / len(bones)
        worst = min(bones, key=lambda bone: by_bone[bone])
        say(f"  {group:<18} {mean:.4f}  (lowest: {worst} {by_bone[worst]:.4f})")
