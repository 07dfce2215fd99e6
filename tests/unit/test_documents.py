from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hbseg import __version__
from hbseg.config.settings import SettingsFile
from hbseg.config.specs import CompileSpec, InferSpec, Spec, TrainSpec
from hbseg.documents import (
    OLDER_VERSIONS,
    Document,
    canonical_digest,
    dump_yaml,
    load_yaml,
    merged,
    nearest,
    with_settings,
)
from hbseg.errors import SpecError, VersionError
from hbseg.runs.attempts import AttemptPart
from hbseg.runs.run import RunClaim
from hbseg.storage.markers import Marker

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_a_problem_of_several_keys_together_names_no_single_one() -> None:
    with pytest.raises(SpecError) as raised:
        CompileSpec.from_mapping({"precision": "bf16"}, source="compile.yaml")
    assert str(raised.value) == (
        "compile.yaml: precision bf16 is for TensorRT, onnx engines are fp32; give --engine "
        "tensorrt (a pipeline: --set compile.engine=tensorrt), or leave the precision out"
    )


def test_a_text_that_is_not_unicode_is_written_and_read_back() -> None:
    data = {"file": "a\udcffb", "hand": "\U0001f590"}
    assert load_yaml(dump_yaml(data), source="test") == data


@given(st.dictionaries(st.text(max_size=8), PLAIN, max_size=5))
def test_what_is_written_is_read_back_alike(data: dict[str, object]) -> None:
    assert load_yaml(dump_yaml(data), source="test") == data


@pytest.mark.parametrize(
    "text",
    ["12e5678", "0o17", "1_000", "on", "NO", "null", "~", "1:30", "0x1f", "2026-01-01", ".5"],
)
def test_texts_that_look_like_something_else_are_quoted(text: str) -> None:
    assert f"'{text}'" in dump_yaml({"key": text})
    assert yaml.safe_load(dump_yaml({"key": text})) == {"key": text}


def test_a_document_is_built_when_the_first_one_is_read() -> None:
    class Note(Document):
        kind: Literal["Note"] = "Note"
        text: str

    assert not Note.__pydantic_complete__
    assert Note.from_text("text: a", source="n.yaml").text == "a"
    assert Note.__pydantic_complete__


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="'lr' stands twice"):
        load_yaml("lr: 1\nlr: 2\n", source="f.yaml")


@pytest.mark.parametrize("text", ["1:30", "-1:30", "1:30.5", "190:20:30"])
def test_a_number_to_the_base_of_60_is_text(text: str) -> None:
    assert load_yaml(f"a: {text}\nb: 1\nc: 1.5", source="f") == {"a": text, "b": 1, "c": 1.5}


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "a: !!python/object:os.system x",
        "\x00",
        "[" * 5000,
        "? [a]\n: b",
        "a: !!int foo",
        "a: !!int ''",
        "a: !!bool foo",
        "a: !!binary aGVsbG8=",
        "a: !!timestamp 2026-01-01",
        "a: !!set {x, y}",
    ],
)
def test_what_is_no_plain_yaml_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_yaml(text, source="f.yaml")
    assert str(caught.value).startswith("f.yaml: not readable as YAML")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"optim": {"learning_rate": 1}}, "unknown key optim.learning_rate"),
        ({"optim": {"lrr": 1}}, "unknown key optim.lrr; did you mean lr?"),
        ({"optims": {}}, "unknown key optims; did you mean optim?"),
        ({"dataset": {"augment": {"rotations": 3}}}, "did you mean rotation?"),
        ({"model": {"encoders": "x"}}, "unknown key model.encoders; did you mean encoder?"),
        ({"optim": {"lr": "fast"}}, "optim.lr: input should be a valid number"),
        ({"optim": {"lr": -1}}, "optim.lr: input should be greater than 0"),
        ({"optim": {"lr": math.inf}}, "optim.lr: input should be a finite number"),
        ({"dataset": {"image_size": 100}}, "dataset.image_size: input should be a multiple of 32"),
        ({"kind": "CompileSpec"}, "kind: input should be 'TrainSpec'"),
        ({"apiVersion": "hbseg/v0"}, "apiVersion: input should be 'hbseg/v1', found 'hbseg/v0'"),
        ({"apiVersion": "apps/v2"}, "apiVersion: input should be 'hbseg/v1', found 'apps/v2'"),
        ({"apiVersion": ["hbseg/v2"]}, "apiVersion: input should be 'hbseg/v1'"),
        ({"stage": 1}, "stage 1 needs a model block"),
        ({"stage": 1, "model": {}, "init_from": "x"}, "init_from is for stage 2"),
        (
            {"stage": 1, "model": {}, "dataset": {"view": "window"}},
            "dataset.view window is for stage 2; stage 1 learns from whole hands",
        ),
        ({"stage": 2, "dataset": {"view": "windows"}}, "dataset.view: input should be 'whole'"),
        ([1], "expected keys and values, found list"),
    ],
)
def test_a_wrong_spec_is_refused_by_the_name_of_its_key(data: object, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        TrainSpec.from_mapping(data, source="train.yaml")
    assert str(caught.value).startswith("train.yaml: ")
    assert message in str(caught.value)


def test_equal_specs_have_equal_digests_and_others_others() -> None:
    written_otherwise = TrainSpec.from_text("{model: {}, stage: 1}", source="a")
    assert written_otherwise.digest() == TrainSpec(stage=1, model={}).digest()
    assert CompileSpec(batch_size=4).digest() != CompileSpec(batch_size=8).digest()
    assert CompileSpec().digest() != InferSpec().digest()


def test_a_spec_survives_yaml() -> None:
    spec = TrainSpec.from_text("{model: {encoder: '12e5678'}, stage: 1}", source="a")
    assert TrainSpec.from_text(spec.to_yaml(), source="b") == spec
    assert spec.to_yaml().startswith("apiVersion: hbseg/v1\nkind: TrainSpec\n")


def test_settings_are_put_into_their_blocks() -> None:
    data = with_settings(
        {"optim": {"lr": 1.0, "decay": 2}}, ["optim.lr=3e-4", "run.epochs=5", "model.encoder=r=s"]
    )
    assert data == {
        "optim": {"lr": 3e-4, "decay": 2},
        "run": {"epochs": 5},
        "model": {"encoder": "r=s"},
    }


@pytest.mark.parametrize("setting", ["optim.lr", "=3", "optim.lr.x=3"])
def test_a_setting_that_cannot_be_put_in_is_refused(setting: str) -> None:
    with pytest.raises(SpecError, match="--set"):
        with_settings({"optim": {"lr": 1.0}}, [setting])


def test_merging_goes_block_by_block() -> None:
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}) == {
        "a": {"b": 3, "c": 2},
        "d": 4,
    }


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_digest({"a": 1, "b": [1, 2]}) == canonical_digest({"b": [1, 2], "a": 1})


@pytest.mark.parametrize("levels", [100, 998, 5_000, 100_000])
def test_a_value_that_is_nested_deep_is_refused(levels: int) -> None:
    with pytest.raises(SpecError, match=r"^a: "):
        TrainSpec.from_text("stage: " + "[" * levels + "]" * levels, source="a")


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: @b", "'@'"), ("a: *b", "'b'"), ("a:\n\tb: 1", "'\\t'"), ("a: 1\na: 2", "'a'")],
)
def test_what_is_no_yaml_is_told_with_its_value(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)):
        load_yaml(text, source="a")


KNOWN = ("stage1", "infer", "Report")


@pytest.mark.parametrize(
    ("name", "near"), [("stage3", "stage1"), ("INFER", "infer"), ("reports", "Report")]
)
def test_the_nearest_name_is_suggested_as_it_is_written_whatever_its_case(
    name: str, near: str
) -> None:
    assert nearest(name, KNOWN) == f"did you mean {near}?"


@pytest.mark.parametrize("name", ["", "xyz", "stage" * 100])
def test_where_none_is_near_all_are_listed_in_their_order(name: str) -> None:
    assert nearest(name, KNOWN) == "expected one of stage1, infer, Report"
    assert nearest(name, KNOWN, otherwise="expected a step") == "expected a step"


@pytest.mark.parametrize("kind", [RunClaim, Marker, TrainSpec, SettingsFile])
@pytest.mark.parametrize("version", ["hbseg/v2", "hbseg/v10", "hbseg/v2beta1"])
def test_a_document_of_a_newer_version_names_both_versions_and_the_way_out(
    kind: type[Document], version: str
) -> None:
    with pytest.raises(VersionError) as caught:
        kind.from_mapping({"apiVersion": version, "other": 1}, source="s3://b/runs/a/run.json")
    assert str(caught.value) == (
        f"s3://b/runs/a/run.json was written as {version} by a newer hbseg, here is hbseg/v1 "
        f"({__version__}); upgrade hbseg: pip install --upgrade hbseg"
    )
    assert (caught.value.exit_code, caught.value.step_exit_code) == (5, 76)


def test_an_unknown_key_in_what_hbseg_writes_is_a_newer_versions() -> None:
    with pytest.raises(VersionError) as caught:
        AttemptPart.from_mapping({"node": 0, "host": "a", "zone": "b"}, source="1/0.json")
    assert str(caught.value) == (
        f"1/0.json has the key zone, which hbseg {__version__} does not know: a newer hbseg wrote "
        "it; upgrade hbseg: pip install --upgrade hbseg"
    )


def test_only_what_people_write_is_searched_for_slips() -> None:
    import hbseg_jobs.entry  # noqa: F401 - with it all kinds of documents are there

    by_people = {kind.__name__ for kind in subclasses(Document) if kind.by_people}
    assert by_people == {"Spec", "SettingsFile"} | {kind.__name__ for kind in subclasses(Spec)}


def subclasses(kind: type[Document]) -> set[type[Document]]:
    found = set(kind.__subclasses__())
    return found.union(*(subclasses(one) for one in found))


def test_every_document_names_its_kind_and_its_version() -> None:
    for kind in subclasses(Document) - {Spec}:
        default = kind.model_fields["kind"].default
        assert isinstance(default, str)
        assert kind.model_fields["api_version"].default == "hbseg/v1"


def test_a_reader_of_an_older_version_makes_a_document_of_today(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(old: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"node": old["number"], "host": old["host"], "started": old["started"]}

    monkeypatch.setitem(OLDER_VERSIONS, "hbseg/v0", read)
    old = {"apiVersion": "hbseg/v0", "number": 3, "host": "a", "started": "2026-01-01"}

    part = AttemptPart.from_mapping(old, source="x")

    assert part == AttemptPart(node=3, host="a", started="2026-01-01")
