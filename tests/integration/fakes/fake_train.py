"""A fake training stage under a real torchrun, with no network to train.

Ranks that shall do something together meet by a real gloo all-reduce first. The others spare
themselves torch: it is most of what a start costs. Besides what every fake step does: `meet [WHAT]`
(then do that, else end well), `differ` (they say that they read other inputs).
"""

import os

from hbseg_jobs.entry import StepContext, libraries, run_step
from tests.integration.fakes import fake_step

_TOGETHER = ("meet", "differ", "fail", "lost", "tear", "hang", "turns")
SIZE = int(os.environ["WORLD_SIZE"])


def work(context: StepContext) -> None:
    behaviour = fake_step.behaviour(context)
    action, _, what = behaviour.partition(" ")
    if SIZE > 1 and action in _TOGETHER:
        together(what or "ok" if action == "meet" else behaviour, context)
    else:
        fake_step.act(behaviour, context, nobody)
        if fake_step.RANK == 0:
            fake_step.finish(context)


def nobody() -> None:
    raise AssertionError("there is nobody to meet: one process, or no behaviour of _TOGETHER")


def together(behaviour: str, context: StepContext) -> None:
    with libraries():
        import torch

        from hbseg.ml.distributed import world

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
