"""Train one stage; torchrun starts this in every process."""

from __future__ import annotations

from hbseg_jobs.entry import StepContext, libraries, run_step


def work(context: StepContext) -> None:
    """Train the stage that the spec describes and write its marker."""
    with libraries():
        from hbseg_jobs.training import work as train

    train(context)


if __name__ == "__main__":
    run_step(work)
