import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbseg.cluster.kinds.job_names import job_name
from hbseg.cluster.names import labels, run_owner_name, spec_name
from hbseg.config.specs import ReportSpec
from hbseg.runs.run import MAX_NAME, checked_run_name

NAMES = st.from_regex(rf"[a-z]([-a-z0-9]{{0,{MAX_NAME - 2}}}[a-z0-9])?", fullmatch=True)
KEYS = st.from_regex(r"[0-9a-f]{12}", fullmatch=True)
PREFIXES = ["prepare", "stage1", "stage2", "infer", "valid", "report", "pipeline"]


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("prepare", "main-prepare"),
        ("stage1", "main-stage1"),
        ("stage2", "main-stage2"),
        ("engine/0a1b2c3d4e5f", "main-compile-0a1b2c"),
        ("infer", "main-infer"),
        ("valid", "main-valid"),
        ("images/0a1b2c3d4e5f", "main-images-0a1b2c"),
        ("efficiency/0a1b2c3d4e5f", "main-efficiency-0a1b2c"),
        ("report", "main-report"),
        ("pipeline", "main-pipeline"),
        ("engine/unresolved", "main-compile-unresolved"),
    ],
)
def test_a_job_is_called_by_run_and_step(prefix: str, name: str) -> None:
    assert job_name("main", prefix) == name


@given(run=NAMES, key=KEYS)
def test_every_name_fits_the_cluster(run: str, key: str) -> None:
    assert checked_run_name(run) == run
    keyed = [f"{head}/{key}" for head in ("engine", "efficiency", "images")]
    for prefix in [*PREFIXES, *keyed, "efficiency/unresolved"]:
        name = job_name(run, prefix)
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= (50 if prefix.startswith("stage") else 57)


@given(run=NAMES, keys=st.lists(KEYS, min_size=2, max_size=2, unique_by=lambda key: key[:5]))
def test_two_tasks_of_a_run_have_two_names(run: str, keys: list[str]) -> None:
    keyed = [f"{head}/{key}" for head in ("engine", "efficiency", "images") for key in keys]
    prefixes = [*PREFIXES, *keyed]
    assert len({job_name(run, prefix) for prefix in prefixes}) == len(prefixes)


def test_a_spec_and_a_run_have_objects_of_their_names() -> None:
    assert spec_name(ReportSpec()) == f"hbseg-spec-{ReportSpec().digest()[:12]}"
    assert run_owner_name("main") == "hbseg-run-main"
    assert len(run_owner_name("x" * MAX_NAME)) <= 63


def test_labels_say_run_step_and_task_as_far_as_there_are_any() -> None:
    of_run = labels("main")
    assert of_run == {
        "app.kubernetes.io/name": "hbseg",
        "app.kubernetes.io/part-of": "hbseg",
        "app.kubernetes.io/managed-by": "hbseg",
        "hbseg.io/run": "main",
    }
    of_task = {"hbseg.io/step": "compile", "hbseg.io/task": "engine-0a1b2c3d4e5f"}
    assert labels("main", "compile", "engine-0a1b2c3d4e5f") == of_run | of_task
