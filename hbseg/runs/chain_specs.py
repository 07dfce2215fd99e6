"""The specs of a whole chain, by step. `hbseg.runs.chain` makes tasks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

from hbseg.config.specs import EfficiencySpec, InferSpec, Spec, TrainSpec
from hbseg.runs.steps import Folder, Step
from hbseg.storage.store import Store

Kind = TypeVar("Kind", bound=Spec)


class ChainSpecs(NamedTuple):
    """The specs of a whole run, by step.

    Where later steps need an engine of their own batch size, those sizes replace the one of the
    spec `compile`. Throughput is measured at the batch size of the inference where the spec
    `efficiency` names none.
    """

    by_step: Mapping[str, Spec]

    def get(self, step: Step, kind: type[Kind]) -> Kind:
        """Return a step's spec. Raises TypeError where it is of another kind."""
        spec = self.by_step[step]
        if not isinstance(spec, kind):
            raise TypeError(
                f"the spec of {step} is a {type(spec).__name__}, expected a {kind.__name__}"
            )
        return spec

    def replaced(self, specs: Mapping[str, Spec]) -> ChainSpecs:
        """Return the specs with those of some steps replaced."""
        return ChainSpecs({**self.by_step, **specs})

    def pinned(self, data: Store) -> ChainSpecs:
        """Return the specs with the dataset's current version where none is given.

        Raises:
            NotFoundError: there is no dataset.
        """
        return ChainSpecs({step: pinned(spec, data) for step, spec in self.by_step.items()})

    def of_step(self, step: Step) -> Iterator[tuple[Folder, Spec]]:
        """Yield the specs with which the chain runs a step, and the folder that each makes."""
        for folder in (folder for folder in step.row.folders if folder.in_chain):
            spec = self._measured(step).model_copy(update=dict(folder.when))
            yield from ((folder, variant) for variant in self._variants(folder, spec))

    def _measured(self, step: Step) -> Spec:
        """Return a step's spec; that of the efficiency with its batch size for the throughput."""
        spec = self.by_step[step]
        if not isinstance(spec, EfficiencySpec):
            return spec
        return spec.with_throughput(self.get(Step.INFER, InferSpec).batch_size)

    def _variants(self, folder: Folder, spec: Spec) -> list[Spec]:
        """Return a spec as each of the steps that read the folder needs it, without repetition."""
        wanted = [
            item.wanted(self._measured(step))
            for step in chain_steps()
            for item in step.row.inputs
            if item.folder == folder.name
        ]
        found: list[Spec] = []
        for values in wanted or [{}]:
            variant = spec.model_copy(update=values)
            if variant not in found:
                found.append(variant)
        return found


def chain_steps() -> list[Step]:
    """Return the steps of a run's chain, in order."""
    return [step for step in Step if step.row.in_chain]


def pinned(spec: Kind, data: Store) -> Kind:
    """Return a training's spec with the dataset's current version where none is given.

    Other specs stay as they are.

    Raises:
        NotFoundError: there is no dataset.
    """
    if not isinstance(spec, TrainSpec) or spec.dataset.version is not None:
        return spec
    from hbseg.data.dataset import open_version

    block = spec.dataset.model_copy(update={"version": open_version(data, None).version})
    return spec.model_copy(update={"dataset": block})


def offline_spec(spec: Spec) -> Spec:
    """Return a spec with the usual batch size where only the run's engines know one."""
    if not isinstance(spec, EfficiencySpec):
        return spec
    return spec.with_throughput(InferSpec().batch_size)
