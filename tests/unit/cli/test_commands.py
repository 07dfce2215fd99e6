"""Exit codes, outputs and refusals of the commands, without running a step."""

import json
from pathlib import Path

import pytest
import yaml

from hbseg.config.specs import TrainSpec
from hbseg.demo import DemoResult
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.run import Run
from hbseg.runs.steps import Step
from hbseg.storage.markers import Marker, sha256_of, write_marker
from hbseg.storage.opening import open_store
from hbseg.storage.store import Store
from tests.unit.cli.conftest import Cli


def claimed(folder: Path, name: str = "first") -> Run:
    run = Run(open_store(folder / "runs"), name)
    run.claim(data=str(folder / "data"))
    return run


def test_without_a_cluster_the_default_backend_says_what_to_do(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HBSEG_BACKEND")
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    outcome = cli("status", "first")

    assert outcome.code == 4
    assert outcome.out == ""
    assert outcome.err == (
        "error: no cluster: there is no kubeconfig at /nowhere/config, and this is no pod; "
        "set KUBECONFIG, or use --backend local (HBSEG_BACKEND=local)\n"
    )


@pytest.mark.parametrize(
    "words",
    [("submit-train", "--stage", "1"), ("data", "prepare", "s3://team/raw", "s3://team/data")],
)
def test_a_dry_run_of_no_known_kind_is_refused_before_a_cluster_is_asked(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    outcome = cli(*words, "--dry-run=Client", "--backend", "kubernetes")

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: --dry-run=Client: expected client or server\n"


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_the_demo_trains_in_what_the_cpu_computes(
    has_bf16: bool, precision: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[ChainSpecs] = []

    def run_demo(folder: Path, specs: ChainSpecs, *_: object, **__: object) -> DemoResult:
        seen.append(specs)
        return DemoResult(folder / "a.csv", folder / "a.html", None, {}, None, None, 1.0)

    monkeypatch.setattr("hbseg.system.cpu.has_bf16", lambda: has_bf16)
    monkeypatch.setattr("hbseg.demo.run_demo", run_demo)

    outcome = cli("demo", "--dir", str(tmp_path / "demo"))

    assert outcome.code == 0
    stages = [seen[0].get(step, TrainSpec) for step in (Step.STAGE1, Step.STAGE2)]
    assert {stage.run.precision for stage in stages} == {precision}
    assert ("a smaller network in fp32" in outcome.err) is not has_bf16


def test_a_demo_of_your_pictures_tells_where_their_report_is(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run_demo(folder: Path, *_: object, **__: object) -> DemoResult:
        csv, page = folder / "i.csv", folder / "i.html"
        return DemoResult(folder / "a.csv", folder / "a.html", None, images=csv, page=page)

    monkeypatch.setattr("hbseg.demo.run_demo", run_demo)

    outcome = cli("demo", "--dir", str(tmp_path), "--images", "hands", "-o", "json")

    assert f"your pictures: open {tmp_path / 'i.html'}\n" in outcome.err
    assert outcome.json()["imagesReport"] == str(tmp_path / "i.html")


def test_an_unknown_backend_names_the_known_ones(cli: Cli) -> None:
    outcome = cli("status", "first", "--backend", "slurm")

    assert outcome.code == 5
    assert "kubernetes, local" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("status",),
        ("list", "-o", "xml"),
        ("submit-train",),
        ("submit-train", "--stage", "3"),
        ("submit-train", "--stage", "1", "-j", "2by4", "--dry-run"),
        ("submit-train", "--stage", "1", "--ckpt", "x"),
        ("submit-train", "--stage", "1", "--dry-run=maybe"),
        ("demo", "--raw", "x", "--hands", "4"),
        ("config", "show", "trian_stage1"),
        ("submit-infer", "first", "--mode", "valid", "--images", "x"),
    ],
)
def test_a_wrong_call_is_exit_2_in_one_line(cli: Cli, arguments: tuple[str, ...]) -> None:
    outcome = cli(*arguments)

    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1


def test_no_arguments_show_the_help(cli: Cli) -> None:
    outcome = cli()

    assert outcome.code == 2
    assert outcome.out == ""
    assert "submit-train" in outcome.err


def test_an_error_as_json_has_code_message_and_hint(cli: Cli) -> None:
    outcome = cli("status", "nobody", "-o", "json")

    assert outcome.code == 3
    assert outcome.json()["kind"] == "Error"
    assert outcome.json()["apiVersion"] == "hbseg/v1"
    assert outcome.json()["code"] == 3
    assert "no run nobody" in outcome.json()["message"]
    assert outcome.json()["hint"] == "see: hbseg list"


def test_a_bad_run_name_is_refused(cli: Cli) -> None:
    assert cli("status", "Not_A_Name").code == 5
    assert cli("status", "x" * 41).code == 5


def test_without_a_runs_folder_the_command_says_how_to_give_one(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HBSEG_RUNS")

    outcome = cli("list")

    assert outcome.code == 2
    assert "give --runs, or set HBSEG_RUNS" in outcome.err


def test_a_listing_has_four_forms(cli: Cli, tmp_path: Path) -> None:
    assert cli("list", "-o", "name").out == ""
    for name in ("second", "first"):
        claimed(tmp_path, name)
    claimed(tmp_path).summarise(steps={"stage1": "done", "engine/0a": "failed"}, dice=0.75)

    table = cli("list")
    assert table.out.splitlines()[0].split() == [
        "NAME",
        "OWNER",
        "NAMESPACE",
        "CREATED",
        "STEPS",
        "DICE",
    ]
    assert "done: stage1; failed: engine" in table.out
    assert "0.7500" in table.out
    assert cli("list", "-o", "name").out == "first\nsecond\n"
    assert [item["name"] for item in cli("list", "-o", "json").json()["items"]] == [
        "first",
        "second",
    ]
    assert yaml.safe_load(cli("list", "-o", "yaml").out)["kind"] == "RunList"


def test_a_dry_run_is_the_whole_job_as_yaml_and_needs_no_storage(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HBSEG_RUNS", "HBSEG_DATA"):
        monkeypatch.delenv(name)

    outcome = cli(
        *("submit-train", "--stage", "1", "--run", "first", "--dry-run", "-j", "1x2"),
        *("--set", "run.epochs=3", "--set", "optim.lr=1e-3", "--retries", "4"),
    )

    job = yaml.safe_load(outcome.out)
    assert outcome.code == 0
    assert (job["kind"], job["run"], job["step"]) == ("LocalJob", "first", "stage1")
    assert job["spec"]["run"]["epochs"] == 3
    assert job["spec"]["optim"]["lr"] == 0.001
    assert (job["placement"]["processes_per_node"], job["placement"]["retries"]) == (2, 4)
    assert TrainSpec.from_mapping(job["spec"], source="x").digest() == job["specHash"]
    assert not (tmp_path / "state").exists()


def test_a_dry_run_names_the_usual_batch_size_where_only_the_engines_know_one(cli: Cli) -> None:
    job = yaml.safe_load(cli("submit-efficiency", "first", "--dry-run").out)
    assert job["spec"]["throughput_batch_size"] == 8
    given = cli("submit-efficiency", "first", "--dry-run", "--set", "throughput_batch_size=2")
    assert yaml.safe_load(given.out)["spec"]["throughput_batch_size"] == 2


@pytest.mark.parametrize(
    ("verb", "step"),
    [
        (("submit-compile", "first", "--batch-size-eval", "2", "--engine", "onnx"), "compile"),
        (("submit-infer", "first", "--mode", "valid"), "infer"),
        (("submit-infer", "first", "--images", "pictures"), "infer"),
        (("submit-efficiency", "first"), "efficiency"),
        (("submit-report", "first"), "report"),
    ],
)
def test_every_verb_has_a_dry_run(cli: Cli, verb: tuple[str, ...], step: str) -> None:
    outcome = cli(*verb, "--dry-run=client", "-o", "json")

    assert outcome.code == 0, outcome.err
    assert outcome.json()["step"] == step


@pytest.mark.parametrize(("flags", "pictures"), [((), 6), (("--no-images",), 0)])
def test_a_report_shows_images_unless_it_must_not(
    cli: Cli, flags: tuple[str, ...], pictures: int
) -> None:
    outcome = cli("submit-report", "first", *flags, "--dry-run=client", "-o", "json")

    assert outcome.json()["spec"]["pictures"] == pictures


def test_an_unknown_key_is_refused_with_the_nearest(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("run: {epoch: 3}\n")

    by_file = cli("submit-train", "--stage", "1", "--config", str(config), "--dry-run")
    by_flag = cli("submit-train", "--stage", "1", "--set", "optim.lrr=1", "--dry-run")

    assert (by_file.code, by_flag.code) == (5, 5)
    assert "unknown key run.epoch; did you mean epochs?" in by_file.err
    assert "unknown key optim.lrr; did you mean lr?" in by_flag.err
    assert cli("submit-train", "--stage", "1", "--config", "none.yaml", "--dry-run").code == 3
    assert (
        "unknown step stage3; did you mean stage"
        in cli("pipeline", "run", "first", "--set", "stage3.run.epochs=1").err
    )


def test_stage_2_without_stage_1_says_what_to_do(cli: Cli, tmp_path: Path) -> None:
    claimed(tmp_path)

    outcome = cli(
        "submit-train",
        "--stage",
        "2",
        "--run",
        "first",
        "--set",
        "dataset.version=0123456789abcdef",
    )

    assert outcome.code == 5
    assert "no finished stage1" in outcome.err
    assert "--ckpt URL" in outcome.err


def test_a_training_without_a_dataset_says_how_to_make_one(cli: Cli) -> None:
    outcome = cli("submit-train", "--stage", "1", "--run", "first")

    assert outcome.code == 3
    assert "hbseg data prepare" in outcome.err


def test_verbs_on_a_run_that_is_not_there_are_exit_3(cli: Cli) -> None:
    for verb in (
        ("submit-compile", "nobody"),
        ("submit-infer", "nobody"),
        ("submit-efficiency", "nobody"),
        ("submit-report", "nobody"),
        ("pipeline", "status", "nobody"),
        ("logs", "nobody"),
        ("cancel", "nobody", "-y"),
        ("delete", "nobody", "-y"),
        ("fetch-submission", "nobody"),
        ("fetch-report", "nobody"),
        ("fetch-checkpoint", "nobody", "--stage", "1"),
    ):
        assert cli(*verb).code == 3, verb


def test_what_is_not_finished_names_the_next_step(cli: Cli, tmp_path: Path) -> None:
    claimed(tmp_path)

    assert "hbseg submit-train --stage 2 --run first" in cli("submit-compile", "first").err
    assert "hbseg submit-infer first" in cli("fetch-submission", "first").err
    assert "hbseg submit-report first" in cli("fetch-report", "first").err


@pytest.mark.parametrize("verb", [("submit-train", "--stage", "1", "--run"), ("submit-report",)])
def test_a_run_reads_only_the_data_of_its_claim(
    cli: Cli, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    claimed(tmp_path)

    outcome = cli(*verb, "first", "--data", str(tmp_path / "other"))

    data = tmp_path / "data"
    expected = f"run first reads {data}, not {tmp_path / 'other'}; give --data {data}"
    assert (outcome.code, outcome.err) == (5, f"error: {expected}\n")


def test_the_whole_chain_is_in_the_pipelines_status(cli: Cli, tmp_path: Path) -> None:
    claimed(tmp_path)

    outcome = cli("pipeline", "status", "first", "-o", "json")

    steps = [task["step"] for task in outcome.json()["tasks"]]
    assert steps == ["stage1", "stage2", "compile", "infer", "efficiency", "report"]
    assert {task["state"] for task in outcome.json()["tasks"]} == {"waiting"}


def test_a_run_is_deleted_only_with_a_yes(cli: Cli, tmp_path: Path) -> None:
    run = claimed(tmp_path)
    run.folder.put("stage1/x", b"1")

    refused = cli("delete", "first")
    assert refused.code == 2
    assert "add -y" in refused.err
    assert run.folder.exists("stage1/x")

    assert cli("delete", "first", "-y").code == 0
    assert list(run.folder.list()) == []
    assert cli("status", "first").code == 3


def test_a_report_is_fetched_whole_or_not_at_all(cli: Cli, tmp_path: Path) -> None:
    run = claimed(tmp_path)
    folder = run.folder.folder("report")
    folder.put("report.html", b"<html>")
    digest = sha256_of(b"<html>")
    write_marker(
        folder, step="report", spec_hash="x", inputs={}, outputs={}, records={"report.html": digest}
    )

    assert cli("fetch-report", "first", "--to", "a/b.html", "-o", "name").out == "a/b.html\n"
    assert Path("a/b.html").read_bytes() == b"<html>"

    folder.put("report.html", b"damaged")
    outcome = cli("fetch-report", "first", "--to", "a/b.html")
    assert outcome.code == 5
    assert "is damaged" in outcome.err
    assert [path.name for path in Path("a").iterdir()] == ["b.html"]
    assert Path("a/b.html").read_bytes() == b"<html>"


def test_a_checkpoint_is_fetched_as_a_folder_that_can_be_started_from(
    cli: Cli, tmp_path: Path
) -> None:
    run = claimed(tmp_path)
    folder = run.folder.folder("stage1")
    folder.put("best/weights", b"w")
    write_marker(
        folder, step="stage1", spec_hash="x", inputs={}, outputs={"best/weights": sha256_of(b"w")}
    )

    assert cli("fetch-checkpoint", "first", "--stage", "1", "--to", "mine").code == 0

    assert Path("mine/best/weights").read_bytes() == b"w"
    assert Path("mine/_SUCCESS").is_file()
    assert cli("fetch-checkpoint", "first", "--stage", "2").code == 3


def test_logs_come_from_storage_and_can_be_cut(cli: Cli, tmp_path: Path) -> None:
    from hbseg.runs.attempts import claim_attempt

    run = claimed(tmp_path)
    run.summarise(steps={"stage1": "done"})
    claim_attempt(run, Step.STAGE1, "stage1")
    run.folder.put(
        "logs/stage1/1/0.log",
        "2026-01-01T00:00:00.000Z one\n2026-01-02T00:00:00.000Z two 손\n".encode(),
    )
    run.folder.put("logs/stage1/1/1.log", b"2026-01-01T12:00:00.000Z other\n")

    both = "2026-01-01T00:00:00.000Z [0] one\n2026-01-01T12:00:00.000Z [1] other\n"
    assert cli("logs", "first").out == both + "2026-01-02T00:00:00.000Z [0] two 손\n"
    assert cli("logs", "first", "--rank", "1").out == "2026-01-01T12:00:00.000Z other\n"
    assert cli("logs", "first", "--tail", "1").out.endswith("two 손\n")
    assert cli("logs", "first", "--since", "2026-01-01T06:00:00+00:00").out.count("\n") == 2
    assert cli("logs", "first", "--since", "10m").out == ""
    assert cli("logs", "first", "--step", "report").code == 3
    assert cli("logs", "first", "--step", "stage9").code == 2
    assert cli("logs", "first", "--since", "yesterday").code == 2


def test_settings_are_shown_with_their_source(cli: Cli, tmp_path: Path) -> None:
    Path("hbseg.yaml").write_text("run: mine\nnamespace: hands\n")

    rows = {row["name"]: row for row in cli("config", "show", "-o", "json").json()["items"]}

    assert rows["backend"] == {"name": "backend", "value": "local", "source": "HBSEG_BACKEND"}
    assert rows["run"]["source"].endswith("hbseg.yaml")
    spec = yaml.safe_load(cli("config", "show", "train_stage1").out)
    assert TrainSpec.from_mapping(spec, source="x").stage == 1


def test_an_unknown_setting_is_refused_with_the_nearest(cli: Cli) -> None:
    Path("hbseg.yaml").write_text("backnd: local\n")

    outcome = cli("list")

    assert outcome.code == 5
    assert "unknown key backnd; did you mean backend?" in outcome.err


def test_quiet_tells_errors_only(cli: Cli, tmp_path: Path) -> None:
    assert cli("-q", "list").err == ""
    assert cli("list").err == "no runs yet\n"
    assert cli("-q", "status", "nobody").err.startswith("error: ")


def test_interrupting_is_exit_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(runs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hbseg.runs.run.list_runs", interrupted)

    assert cli("list").code == 130


def test_a_bug_keeps_its_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(runs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("hbseg.runs.run.list_runs", broken)
    from hbseg_cli.main import main

    with pytest.raises(ZeroDivisionError):
        main(["list"])


def test_synthetic_hands_are_refused_in_odd_numbers(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("data", "synth", str(tmp_path / "raw"), "--hands", "3", "--test-hands", "0")

    assert outcome.code == 5
    assert "two hands a person" in outcome.err


def test_checking_a_folder_that_is_not_there_is_exit_3(cli: Cli) -> None:
    assert cli("data", "check", "nowhere").code == 3


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--with", "nobody"), 3, "no run nobody"),
        (("--with", "first"), 2, "run first is averaged with itself"),
        (("--thresholds", "validation"), 5, "run: hbseg submit-infer first --mode valid"),
        (("--thresholds", "0.4"), 2, "--thresholds 0.4: expected validation"),
        (("--set", "thresholds.Ulnar=0.4"), 5, "no bone Ulnar; did you mean Ulna?"),
        (("--set", "thresholds.Ulna=1"), 5, "thresholds.Ulna: input should be less than 1"),
    ],
)
def test_what_cannot_be_averaged_or_has_no_thresholds_is_refused(
    cli: Cli, tmp_path: Path, flags: tuple[str, ...], code: int, message: str
) -> None:
    claimed(tmp_path)

    outcome = cli("submit-infer", "first", *flags, "--dry-run")

    assert outcome.code == code
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_flips_and_single_thresholds_are_in_the_spec(cli: Cli) -> None:
    outcome = cli(
        *("submit-infer", "first", "--flip", "--set", "thresholds.Ulna=0.4"),
        *("--dry-run", "-o", "json"),
    )

    spec = outcome.json()["spec"]
    assert (spec["flip"], spec["thresholds"], spec["members"]) == (True, {"Ulna": 0.4}, [])


def finished(folder: Store, **inputs: str) -> Marker:
    return write_marker(folder, step="x", spec_hash="0", inputs=inputs, outputs={})


def test_the_engine_of_a_run_is_chosen_by_its_gpu_and_its_precision(
    cli: Cli, tmp_path: Path
) -> None:
    folder = claimed(tmp_path).folder
    training = {"stage": 2, "dataset": {"version": "0123456789abcdef"}}
    folder.put("stage2/spec.yaml", TrainSpec.from_mapping(training, source="x").to_yaml().encode())
    stage = finished(folder.folder("stage2"))
    for key, device, precision in (("a", "NVIDIA L4", "fp32"), ("b", "NVIDIA H200", "fp16")):
        card = {"backend": "tensorrt", "device": device, "precision": precision, "batch_size": 8}
        folder.put(f"engine/{key}/engine.json", json.dumps(card).encode())
        finished(folder.folder(f"engine/{key}"), checkpoint=stage.digest)

    def refusal(*words: str) -> str:
        outcome = cli(words[0], "first", *words[1:])
        assert (outcome.code, outcome.out) == (5, "")
        return outcome.err

    for verb in ("submit-infer", "submit-efficiency"):
        asked = refusal(verb, "--tensorrt-device", "NVIDIA A2")
        assert "for device NVIDIA H200, NVIDIA L4, asked for NVIDIA A2" in asked
        assert "compile first --engine tensorrt --tensorrt-device 'NVIDIA A2'" in asked
        asked = refusal(verb, "--tensorrt-device", "NVIDIA L4", "--precision", "fp16")
        assert "for precision fp32, asked for fp16" in asked
        assert "for precision fp16, fp32, asked for bf16" in refusal(verb, "--precision", "bf16")
        assert "for kind tensorrt, asked for onnx" in refusal(verb, "--engine", "onnx")
