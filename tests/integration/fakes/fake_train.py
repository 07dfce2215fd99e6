"""A fake training stage: real torchrun, a real gloo all-reduce, no network to train.

Besides what every fake step does: `differ`, whose ranks say that they read other inputs.
"""

import torch

from hbseg.ml.distributed import world
from hbseg_jobs.entry import StepContext, run_step
from tests.integration.fakes import fake_step


def work(context: StepContext) -> None:
    behaviour = fake_step.behaviour(context)
    with world("gloo") as here:

        def meet() -> None:
            assert int(here.sum(torch.ones(1))) == here.size

        meet()
        print(f"met {here.size} ranks", flush=True)
        here.check_same((f"{here.rank:02x}" if behaviour == "differ" else "aa") * 32)
        fake_step.act(behaviour, context, meet)
        if here.is_main:
            fake_step.finish(context)
        here.wait()


if __name__ == "__main__":
    run_step(work)
