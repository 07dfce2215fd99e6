"""A fake training stage: real torchrun, a real gloo all-reduce, no network to train."""

import torch
import torch.distributed as dist

from hbseg_jobs.entry import StepContext, run_step
from tests.integration.fakes import fake_step


def work(context: StepContext) -> None:
    dist.init_process_group("gloo")

    def meet() -> None:
        total = torch.ones(1)
        dist.all_reduce(total)
        assert int(total) == dist.get_world_size()
        print(f"met {int(total)} ranks", flush=True)

    meet()
    fake_step.act(fake_step.behaviour(context), context, meet)
    if dist.get_rank() == 0:
        fake_step.finish(context)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    run_step(work)
