"""Every string of a manifest reaches its reader as it was meant."""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hbseg.cluster.rendering.manifests import (
    job_objects,
)
from hbseg.config.placement import Placement
from hbseg.config.profile import ClusterProfile
from hbseg.config.specs import (
    TrainSpec,
)
from hbseg.documents import dump_yaml
from hbseg.runs.step_call import StepCall
from hbseg.runs.steps import Step
from tests.unit.cluster.rendering.cases import (
    BATCH,
    TRAININGS,
)

HEX = st.from_regex(r"[0-9]{1,6}e[0-9]{1,8}", fullmatch=True)
NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)


@settings(deadline=None, max_examples=30)
@given(version=HEX, run=NAMES, key=HEX)
def test_every_reader_gets_the_strings_that_were_meant(version: str, run: str, key: str) -> None:
    spec = TrainSpec.from_mapping(
        {"model": {}, "dataset": {"version": version}, "run": {"seed": 1}}, source="x"
    )
    inputs = {"dataset": version}
    of = StepCall(run, Step.STAGE1, "stage1", spec, "s3://a", "s3://b", inputs, raw=key)
    environment = ClusterProfile(environment={"A": key})
    objects = job_objects(of, Placement(cluster=environment))

    text = "---\n".join(dump_yaml(manifest) for manifest in objects)

    assert list(yaml.safe_load_all(text)) == objects
    for scalar in plain_scalars(text):
        assert not scalar[:1].isdigit() or scalar.isdigit() or scalar in ("true", "false"), scalar


def plain_scalars(text: str) -> Iterator[str]:
    """Yield the values that stand without quotes: a reader of YAML 1.2 decides what they are."""
    for event in yaml.parse(text):
        if isinstance(event, yaml.ScalarEvent) and event.style is None:
            yield event.value


@settings(deadline=None, max_examples=15)
@given(run=NAMES, key=st.from_regex(r"[0-9a-f]{12}", fullmatch=True))
def test_every_run_name_makes_manifests_without_problems(run: str, key: str) -> None:
    for of, placement in (TRAININGS | BATCH).values():
        head, slash, _ = of.prefix.partition("/")
        prefix = f"{head}/{key}" if slash else head
        renamed = of._replace(run=run, prefix=prefix)
        assert len(job_objects(renamed, placement)) == 2
