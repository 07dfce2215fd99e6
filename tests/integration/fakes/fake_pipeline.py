"""A pipeline over fake steps in a process of its own: `fake_pipeline.py RUNS DATA VERSION`."""

import sys

from hbseg.control.pipeline import Event, Pipeline
from hbseg.local.backend import LocalBackend
from hbseg.runs.run import Run
from hbseg.storage.opening import open_store
from tests.integration.fakes.fake_chain import MODULES, chain_specs


def tell(event: Event) -> None:
    print(event.happening, event.task.prefix, flush=True)


def main(runs: str, data: str, version: str) -> None:
    backend = LocalBackend(modules=MODULES)
    run = Run(open_store(runs), "first")
    Pipeline(backend, run, open_store(data), chain_specs(version), on_event=tell).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
