"""Manifests on stdout, with nothing but the flags: no cluster, no storage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hbseg import __version__
from hbseg.cluster.rendering.lint import problems
from hbseg.config.specs import TrainSpec
from tests.unit.cli.conftest import Cli

S3 = ("--data", "s3://team/data", "--runs", "s3://team/runs")
KUBERNETES = ("--backend", "kubernetes", *S3)
STEPS = ("prepare", "stage1", "stage2", "compile", "infer", "efficiency", "report", "pipeline")


def stream(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def rendering(step: str) -> tuple[str, ...]:
    return ("render", step, *S3, *(("--raw", "s3://team/raw") if step == "prepare" else ()))


def container_of(job: Any) -> Any:
    spec = job["spec"]
    if job["kind"] == "PyTorchJob":
        (spec,) = spec["pytorchReplicaSpecs"].values()
    return spec["template"]["spec"]["containers"][0]


def test_a_dry_run_is_a_stream_of_manifests_and_nothing_else(cli: Cli) -> None:
    outcome = cli(
        *("submit-train", "--stage", "1", "--run", "first", "--dry-run", "-j", "2x4"),
        *("--set", "run.epochs=3", "--set", "dataset.version='12e5678'", "--retries", "4"),
        *KUBERNETES,
    )

    config, job = stream(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("apiVersion: v1\n")
    assert outcome.out.count("\n---\n") == 1
    spec = TrainSpec.from_text(config["data"]["spec.yaml"], source="x")
    assert (spec.run.epochs, spec.dataset.version) == (3, "12e5678")
    assert job["metadata"]["name"] == "first-stage1"
    assert job["metadata"]["annotations"]["hbseg.io/spec-hash"] == spec.digest()
    arguments = container_of(job)["args"]
    assert "--input=dataset=s3://team/data/versions/12e5678" in arguments
    assert '"retries":4' in arguments[arguments.index("--placement") + 1]


def test_a_dry_run_as_json_is_a_list_that_kubectl_takes(cli: Cli) -> None:
    listed = cli("submit-report", "first", "--dry-run", *KUBERNETES, "-o", "json").json()

    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert [item["kind"] for item in listed["items"]] == ["ConfigMap", "Job"]


def test_a_dry_run_by_name_is_what_kubectl_would_say(cli: Cli) -> None:
    outcome = cli("submit-train", "--stage", "1", "--dry-run", *KUBERNETES, "-o", "name")

    config, job = outcome.out.split()
    assert config.startswith("configmap/hbseg-spec-")
    assert job == "pytorchjob.kubeflow.org/main-stage1"


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_rendered_without_problems(cli: Cli, step: str) -> None:
    outcome = cli(*rendering(step))

    objects = stream(outcome.out)
    assert outcome.code == 0, outcome.err
    assert len(objects) == 2
    assert [problem for item in objects for problem in problems(item)] == []
    assert objects[1]["metadata"]["labels"]["hbseg.io/step"] == step


@pytest.mark.parametrize(
    ("step", "verb"),
    [
        ("stage1", ("submit-train", "--stage", "1", "--run", "main")),
        ("stage2", ("submit-train", "--stage", "2")),
        ("compile", ("submit-compile", "main")),
        ("infer", ("submit-infer", "main")),
        ("efficiency", ("submit-efficiency", "main")),
        ("report", ("submit-report", "main")),
        ("prepare", ("data", "prepare", "s3://team/raw", "s3://team/data")),
    ],
)
def test_render_prints_what_a_dry_run_prints(cli: Cli, step: str, verb: tuple[str, ...]) -> None:
    places = KUBERNETES if step != "prepare" else ("--backend", "kubernetes", *S3[2:])

    rendered, dry = cli(*rendering(step)), cli(*verb, "--dry-run", *places)

    assert dry.code == 0, dry.err
    assert (rendered.out, rendered.err) == (dry.out, dry.err)


def test_render_has_the_flags_of_a_spec_and_a_place(cli: Cli) -> None:
    outcome = cli(
        *("render", "stage2", *S3, "--run", "second", "-j", "2x4", "-n", "hands"),
        *("--preset", "demo", "--set", "init_from=s3://elsewhere/stage1/", "--retries", "0"),
        *("--set", "dataset.version=12e5678"),
    )

    config, job = stream(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert {item["metadata"]["namespace"] for item in (config, job)} == {"hands"}
    assert job["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] == 2
    arguments = container_of(job)["args"]
    assert "--input=checkpoint=s3://elsewhere/stage1" in arguments
    assert "--input=dataset=s3://team/data/versions/12e5678" in arguments


def test_what_only_storage_knows_is_told_on_stderr(cli: Cli) -> None:
    training = cli("submit-train", "--stage", "1", "--dry-run", *KUBERNETES)
    engine = cli("submit-compile", "main", "--dry-run", *KUBERNETES)

    assert training.err.startswith("note: dataset.version is not set: ")
    assert "--input=dataset=" not in "".join(container_of(stream(training.out)[1])["args"])
    assert "open here: engine/unresolved" in engine.err
    assert stream(engine.out)[1]["metadata"]["name"] == "main-compile-unresolved"


@pytest.mark.parametrize("missing", ["HBSEG_DATA", "HBSEG_RUNS"])
def test_storage_must_be_named(cli: Cli, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delenv(missing)

    for verb in (("render", "report"), ("submit-report", "a", "--dry-run"), ("render", "pipeline")):
        places = () if verb[0] == "render" else ("--backend", "kubernetes")
        outcome = cli(*verb, *places)
        assert (outcome.code, outcome.out) == (2, "")
        assert f"set {missing}" in outcome.err


def test_a_folder_of_this_machine_is_refused_unless_a_volume_brings_it(
    cli: Cli, tmp_path: Path
) -> None:
    here = f"error: pods do not see the folder {tmp_path}"
    images = ("--set", "mode=images", "--set", f"images={tmp_path}/pictures")
    for arguments in (
        ("render", "report"),
        ("render", "pipeline"),
        ("render", "infer", *S3, *images),
        ("render", "prepare", *S3, "--raw", f"{tmp_path}/raw"),
    ):
        outcome = cli(*arguments)
        assert outcome.code == 2
        assert outcome.err.startswith(here), outcome.err

    volume = f"cluster: {{volumes: [{{claim: shared, path: {tmp_path}, read_only: false}}]}}\n"
    Path("hbseg.yaml").write_text(volume)
    assert cli("render", "report").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("render", "stage3", *S3), "no step 'stage3'; did you mean stage"),
        (("render", "xyz", *S3), "no step 'xyz'; expected one of prepare, stage1"),
        (("render", "prepare", *S3), "prepare with --raw URL"),
        (("render", "infer", *S3, "--raw", "s3://a"), "--raw goes with the step prepare"),
        (("render", "stage1", *S3, "-j", "4"), "expected NODESxGPUS"),
    ],
)
def test_a_wrong_rendering_is_exit_2_in_one_line(
    cli: Cli, arguments: tuple[str, ...], message: str
) -> None:
    outcome = cli(*arguments)

    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_bad_run_name_or_spec_is_refused(cli: Cli) -> None:
    assert cli("render", "report", *S3, "--run", "Not_A_Name").code == 5
    assert cli("render", "stage1", *S3, "--set", "optim.lrr=1").code == 5


def test_the_profile_of_the_settings_is_rendered(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("hbseg.yaml").write_text(
        "cluster: {image: 'one:1', queue: team-a, gpus_per_process: 0}\n"
        "profiles: {spot: {cluster: {image: 'two:2', node_selector: {pool: spot}}}}\n"
    )

    def job(*flags: str) -> Any:
        return stream(cli(*flags, "render", "stage1", *S3).out)[1]

    monkeypatch.delenv("HBSEG_IMAGE")
    assert container_of(job())["image"] == "one:1"
    spot = job("--profile", "spot")
    assert container_of(spot)["image"] == "two:2"
    assert spot["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "nvidia.com/gpu" not in container_of(spot)["resources"]["limits"]
    monkeypatch.setenv("HBSEG_IMAGE", "three:3")
    assert container_of(job("--profile", "spot"))["image"] == "three:3"


def test_a_manifest_that_the_cluster_breaks_on_is_refused(cli: Cli) -> None:
    volumes = "[{claim: a, path: /data}, {claim: b, path: /data}]"
    Path("hbseg.yaml").write_text(f"cluster: {{volumes: {volumes}}}\n")

    outcome = cli("render", "report", *S3)

    assert (outcome.code, outcome.out) == (5, "")
    assert "Job main-report: two volumes are mounted at /data" in outcome.err


def test_a_dry_run_without_an_image_says_that_the_cluster_needs_one(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HBSEG_IMAGE")

    outcome = cli("submit-report", "first", "--dry-run", *KUBERNETES)

    assert outcome.code == 0
    assert outcome.err.splitlines()[-1] == (
        f"note: no image for the pods of report, hbseg/train:{__version__} stands for it; the "
        "cluster needs one: set cluster.image in hbseg.yaml (profile.image of the chart), or "
        "HBSEG_IMAGE"
    )


def test_the_image_of_a_tensorrt_engine_is_told_apart(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HBSEG_IMAGE")

    def notes(*words: str) -> str:
        return cli("render", "compile", *S3, *words).err

    bare = notes("--set", "engine=tensorrt")
    Path("hbseg.yaml").write_text("cluster: {tensorrt_image: 'a/trt:1'}\n")

    missing = "for the pods of compile, hbseg"
    assert f"no image with TensorRT {missing}/tensorrt:{__version__} stands for it" in bare
    assert "or give --engine onnx" in bare
    assert "no image" not in notes("--set", "engine=tensorrt")
    assert f"no image {missing}/train:{__version__} stands for it" in notes("--set", "engine=onnx")


def test_the_runner_has_the_same_notes_as_a_step(cli: Cli) -> None:
    bare = cli("render", "pipeline", *S3)
    overrides = "{spec: {hostAliases: [{ip: 10.0.0.1, hostnames: [s3.example]}]}}"
    steps = f"{{runner: {{pod_overrides: {overrides}}}}}"
    Path("hbseg.yaml").write_text(f"cluster: {{control_image: 'a/control:1', steps: {steps}}}\n")
    named = cli("render", "pipeline", *S3, "--set", "compile.engine=onnx")

    assert (bare.code, bare.err) == (
        0,
        f"note: no image for runner and doctor, hbseg/control:{__version__} stands for it; the "
        "cluster needs one: set cluster.control_image in hbseg.yaml (profile.control_image of the "
        "chart)\nnote: no image with TensorRT for the pods of compile, infer and efficiency, "
        f"hbseg/tensorrt:{__version__} stands for it; the cluster needs one: set "
        "cluster.tensorrt_image in hbseg.yaml (profile.tensorrt_image of the chart), or give "
        "--engine onnx (a pipeline: --set compile.engine=onnx)\n",
    )
    line = 'cluster.pod_overrides sets spec.hostAliases[10.0.0.1].hostnames: ["s3.example"]'
    assert (named.code, named.err) == (0, f"note: {line}\n")


def test_what_overrides_change_is_said(cli: Cli) -> None:
    overrides = "{spec: {hostAliases: [{ip: 10.0.0.1, hostnames: [s3.example]}]}}"
    Path("hbseg.yaml").write_text(f"cluster: {{pod_overrides: {overrides}}}\n")

    outcome = cli("render", "report", *S3)

    line = 'cluster.pod_overrides sets spec.hostAliases[10.0.0.1].hostnames: ["s3.example"]'
    assert line in outcome.err


def test_a_step_that_there_is_not_is_refused_with_the_nearest(cli: Cli) -> None:
    Path("hbseg.yaml").write_text("cluster: {steps: {trainings: {cpu_per_process: 8}}}\n")

    outcome = cli("render", "stage1", *S3)

    assert (outcome.code, outcome.out) == (5, "")
    assert "unknown step cluster.steps.trainings; did you mean training?" in outcome.err


def test_the_runner_gets_the_whole_chain_and_the_settings(cli: Cli) -> None:
    Path("hbseg.yaml").write_text("cluster: {queue: team-a}\n")

    config, job = stream(cli("render", "pipeline", *S3, "--set", "stage1.run.epochs=7").out)

    specs = yaml.safe_load(config["data"]["spec.yaml"])
    assert list(specs) == ["stage1", "stage2", "compile", "infer", "efficiency", "report"]
    assert specs["stage1"]["run"]["epochs"] == 7
    settings = yaml.safe_load(config["data"]["hbseg.yaml"])
    assert settings["runs"] == "s3://team/runs"
    assert settings["cluster"]["queue"] == "team-a"
    assert container_of(job)["command"] == ["hbseg", "pipeline", "run"]


def test_what_the_runner_is_given_is_read_back_the_same(cli: Cli) -> None:
    """Its folder is `/etc/hbseg`: rendering there again gives the same chain."""
    first = stream(cli("render", "pipeline", *S3, "--set", "stage1.run.epochs=7").out)[0]
    for name, text in first["data"].items():
        Path(name).write_text(text)

    again = stream(cli("render", "pipeline", "--config", "spec.yaml", *S3).out)[0]

    assert again["data"] == first["data"]
    assert again["metadata"] == first["metadata"]


class FakeServer:
    """Stands in for the cluster's backend: it stores what it is given, with a field of its own."""

    name = "kubernetes"

    def dry_run(self, call: Any, placement: Any) -> list[Any]:
        from hbseg.cluster.rendering.manifests import job_objects

        objects = job_objects(call, placement, namespace="hands")
        for item in objects:
            item["metadata"]["uid"] = "1"
        return objects


def test_a_server_side_dry_run_prints_what_the_server_would_store(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hbseg.control.backends.open_backend", lambda *_, **__: FakeServer())
    monkeypatch.setattr("hbseg.control.shared_settings.read_shared", lambda *_, **__: None)

    outcome = cli("submit-report", "first", "--dry-run=server", *KUBERNETES, "-o", "json")

    assert [item["metadata"]["uid"] for item in json.loads(outcome.out)["items"]] == ["1", "1"]
    assert "job.batch/first-report accepted by the server\n" in outcome.err


def engine_of(outcome: Any) -> str:
    """The kind of engine that the spec of a rendered compile names."""
    return str(yaml.safe_load(stream(outcome.out)[0]["data"]["spec.yaml"])["engine"])


@pytest.mark.parametrize(("gpus", "kind"), [(0, "onnx"), (1, "tensorrt")])
def test_every_command_compiles_what_the_place_offers(cli: Cli, gpus: int, kind: str) -> None:
    profile = f"{{tensorrt_image: 'a/trt:1', gpus_per_process: {gpus}}}"
    Path("hbseg.yaml").write_text(f"cluster: {profile}\n")

    chain = stream(cli("render", "pipeline", *S3).out)[0]["data"]["spec.yaml"]
    shown = cli("config", "show", "compile", "--backend", "local", "-o", "json").json()
    single = ("submit-compile", "main", "--dry-run")
    flags = ("--engine", "onnx", "--precision", "fp32")
    local = cli(*single, "--backend", "local", "-o", "json").json()

    assert engine_of(cli("render", "compile", *S3)) == kind
    assert engine_of(cli(*single, *KUBERNETES)) == kind
    assert yaml.safe_load(chain)["compile"]["engine"] == kind
    assert engine_of(cli(*single, *flags, *KUBERNETES)) == "onnx"
    assert (shown["engine"], local["spec"]["engine"]) == ("onnx", "onnx")


@pytest.mark.parametrize("step", ["compile", "infer", "efficiency"])
def test_image_gpu_and_note_are_those_of_the_engine_that_is_rendered(cli: Cli, step: str) -> None:
    Path("hbseg.yaml").write_text("cluster: {tensorrt_image: 'a/trt:1'}\n")

    def rendered(*words: str) -> tuple[str, bool, str]:
        outcome = cli(f"submit-{step}", "main", "--dry-run", *words, *KUBERNETES)
        container = container_of(stream(outcome.out)[1])
        return container["image"], "nvidia.com/gpu" in container["resources"]["limits"], outcome.err

    note = "these manifests are for the kind {}; name another one with --engine\n"
    train = "images.example/hbseg-train:1"
    for words, kind, image, gpu in (
        ((), "tensorrt", "a/trt:1", True),
        (("--engine", "onnx"), "onnx", train, False),
        (("--engine", "eager"), "eager", train, True),
    ):
        found = rendered(*words)
        assert found[:2] == (image, gpu)
        assert (note.format(kind) in found[2]) == (step != "compile")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compile", "--engine", "onnx", "--precision", "fp16"), "precision fp16 is for TensorRT"),
        (("compile", "--engine", "eager", "--precision", "tf32"), "precision tf32 is for TensorRT"),
        (("compile", "--tensorrt-device", "NVIDIA L4"), "device 'NVIDIA L4' is for TensorRT, onnx"),
        (("compile", "--engine", "tensorrt"), "the pods of compile have none"),
        (("infer", "--engine", "tensorrt"), "the pods of infer have none"),
        (("efficiency", "--engine", "tensorrt"), "the pods of efficiency have none"),
    ],
)
def test_what_no_engine_of_the_place_can_do_is_refused_with_the_next_step(
    cli: Cli, words: tuple[str, ...], message: str
) -> None:
    Path("hbseg.yaml").write_text("cluster: {gpus_per_process: 0}\n")

    outcome = cli(f"submit-{words[0]}", "main", *words[1:], "--dry-run", *KUBERNETES)

    assert (outcome.code, outcome.out) == (5, "")
    assert message in outcome.err
    assert "give --engine " in outcome.err
    assert outcome.err.count("\n") == 1


def test_render_takes_the_kind_of_engine_that_its_refusal_and_its_note_name(cli: Cli) -> None:
    Path("hbseg.yaml").write_text("cluster: {tensorrt_image: 'a/trt:1', control_image: 'a/c:1'}\n")

    for kind, image in (("tensorrt", "a/trt:1"), ("onnx", "images.example/hbseg-train:1")):
        for step in ("compile", "infer", "efficiency"):
            outcome = cli("render", step, "--engine", kind, *S3)
            assert container_of(stream(outcome.out)[1])["image"] == image
            assert (f"for the kind {kind}; name another one with" in outcome.err) == (
                step != "compile"
            )
        assert engine_of(cli("render", "compile", "--engine", kind, *S3)) == kind
        chain = stream(cli("render", "pipeline", "--engine", kind, *S3).out)[0]["data"]["spec.yaml"]
        assert yaml.safe_load(chain)["compile"]["engine"] == kind

    refused = cli("render", "report", "--engine", "onnx", *S3)
    assert (refused.code, refused.out) == (2, "")
    assert "it goes with compile, infer, efficiency, pipeline" in refused.err


def test_a_place_where_one_step_has_no_gpu_is_offered_onnx_and_refuses_tensorrt(cli: Cli) -> None:
    steps = "{infer: {gpus_per_process: 0}}"
    Path("hbseg.yaml").write_text(f"cluster: {{tensorrt_image: 'a/trt:1', steps: {steps}}}\n")

    assert engine_of(cli("render", "compile", *S3)) == "onnx"
    assert cli("render", "infer", *S3).code == 0
    for step in ("infer", "pipeline"):
        outcome = cli("render", step, "--engine", "tensorrt", *S3)
        assert (outcome.code, outcome.out) == (5, "")
        assert "give --engine onnx (a pipeline: --set compile.engine=onnx), or set" in outcome.err


def test_a_kind_of_engine_that_there_is_not_is_refused_with_the_nearest(cli: Cli) -> None:
    for words in (("submit-infer", "main"), ("submit-efficiency", "main")):
        outcome = cli(*words, "--engine", "onx", "--dry-run", *KUBERNETES)
        assert (outcome.code, outcome.out) == (2, "")
        assert "--engine 'onx': did you mean onnx?" in outcome.err
    for step in ("infer", "pipeline"):
        outcome = cli("render", step, "--engine", "onx", *S3)
        assert (outcome.code, outcome.out) == (2, "")
        assert "--engine 'onx': did you mean onnx?" in outcome.err
