"""torchrun as it is, loaded and left faster: `python -m hbseg_jobs.torchrun`."""

from __future__ import annotations

from hbseg.system.startup import gc_paused, skip_gc_at_exit


def main() -> None:
    """Start the ranks of a step and wait for them; the arguments are torchrun's own."""
    skip_gc_at_exit()
    with gc_paused():
        from torch.distributed.run import main as torchrun
    torchrun()


if __name__ == "__main__":
    main()
