"""What the command costs before it does anything."""

import base64
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from hbseg.anatomy import BONES
from hbseg.submission import Image, header, rows
from hbseg_cli.main import app

HEAVY = ("torch", "numpy", "cv2", "boto3", "botocore", "pydantic", "yaml", "json", "rich", "psutil")


def loaded(arguments: list[str], modules: tuple[str, ...]) -> list[str]:
    """Return which of `modules` are imported when the command has run."""
    script = (
        "import sys, hbseg_cli.main\n"
        "try: hbseg_cli.main.main(sys.argv[1:])\n"
        f"except SystemExit: print('LOADED', [m for m in {modules!r} if m in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    line = result.stdout.rpartition("LOADED ")[2].strip()
    return [name.strip("' ") for name in line.strip("[]").split(",") if name.strip()]


def test_help_and_version_import_nothing_heavy() -> None:
    for arguments in (["--help"], ["--version"]):
        assert loaded(arguments, HEAVY) == []
    light = tuple(name for name in HEAVY if name not in ("pydantic", "json"))  # Typer's own
    for arguments in (["data", "--help"], ["submit-train", "--help"]):
        assert loaded(arguments, light) == []


def test_a_dry_run_and_settings_import_neither_torch_nor_boto3() -> None:
    heavy = ("torch", "numpy", "cv2", "boto3")
    dry_run = ["submit-train", "--stage", "1", "--dry-run", "--backend", "local"]

    assert loaded(dry_run, heavy) == []
    assert loaded(["config", "show"], heavy) == []


MANIFESTS = ["--backend", "kubernetes", "--data", "s3://a/data", "--runs", "s3://a/runs"]


def test_manifests_need_no_library_of_the_cluster_or_of_storage() -> None:
    heavy = ("kubernetes", "boto3", "botocore", "torch", "numpy", "cv2", "rich", "psutil")
    pictures = ["submit-infer", "first", "--images", "s3://a/pictures"]

    for verb in (["submit-train", "--stage", "1"], pictures):
        assert loaded([*verb, "--dry-run", *MANIFESTS], heavy) == []
    assert loaded(["render", "pipeline", *MANIFESTS[2:]], heavy) == []


NOT_FOR_MANIFESTS = (
    "hbseg.cluster.backend",
    "hbseg.cluster.observe",
    "hbseg.cluster.pods.states",
    "hbseg.cluster.requests.api_errors",
    "hbseg.cluster.requests.client",
    "hbseg.control.backends",
    "hbseg.control.pipeline",
    "hbseg.control.verbs",
    "hbseg.doctor",
    "hbseg.launcher",
    "hbseg.local",
    "hbseg.ml",
    "hbseg.report",
    "hbseg.runs.chain",
    "hbseg.runs.run",
    "hbseg.storage.folder",
    "hbseg.storage.s3",
    "concurrent.futures",
    "getpass",
    "logging",
    "ssl",
)


def test_a_dry_run_loads_no_module_that_asks_a_cluster_or_storage() -> None:
    dry_run = ["submit-train", "--stage", "1", "--dry-run", *MANIFESTS]

    assert loaded(dry_run, NOT_FOR_MANIFESTS) == []


def commands(of: typer.Typer) -> Iterator[inspect.Signature]:
    """Yield the parameters of every command as Typer reads them."""
    for command in of.registered_commands:
        assert command.callback is not None
        yield inspect.signature(command.callback)
    for group in of.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance)


def test_no_start_compiles_annotations_of_commands() -> None:
    found = list(commands(app))

    assert len(found) > 20
    for parameters in found:
        for parameter in parameters.parameters.values():
            assert not isinstance(parameter.annotation, str), f"{parameter} of a command"


def test_a_listing_never_imports_torch(tmp_path: object) -> None:
    assert loaded(["list", "--runs", str(tmp_path)], ("torch", "boto3")) == []


PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAkAAAAJCAAAAADF+lnMAAAAHElEQVQIHTXBMQEAAABAMPqXdtlkMplMJpPJZAECHAAK"
    "xD8bfgAAAABJRU5ErkJggg=="
)
"""9 x 9 black pixels."""


def test_a_csv_is_checked_without_numpy(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(header() + rows(Image("a.png"), ["1 2"] * len(BONES)))

    light = tuple(name for name in HEAVY if name != "pydantic")  # Typer's own, for some types
    assert loaded(["submission", "validate", str(path), "--size", "9x9"], light) == []
    picture = base64.b64decode(PNG)
    (tmp_path / "a.png").write_bytes(picture)
    with_pictures = ["submission", "validate", str(path), "--images", str(tmp_path)]
    assert loaded(with_pictures, ("numpy", "cv2", "torch", "boto3")) == []


COUNTED = """
import runpy, sys
calls = 0
def count(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")
sys.setprofile(count)
try:
    {code}
except SystemExit as end:
    assert not end.code, end.code
sys.setprofile(None)
print(calls, file=sys.stderr)
"""
HBSEG = "runpy.run_module('hbseg_cli', run_name='__main__')"


def calls(code: str, *arguments: str) -> int:
    """Return how many functions Python calls: it stands for CPU time, and no other load moves it.

    `make bench` measures the time.
    """
    words = [sys.executable, "-c", COUNTED.format(code=code), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1])


def test_help_costs_little_more_than_typer_itself() -> None:
    own, typer = calls(HBSEG, "--help"), calls("import typer")

    print(f"hbseg --help {own} calls, import typer {typer}: {own / typer:.2f}")
    assert own < 3.5 * typer


def test_a_dry_run_costs_little_more_than_typer_and_pydantic() -> None:
    own = calls(HBSEG, "-q", "submit-train", "--stage=1", "--dry-run", *MANIFESTS)
    libraries = calls("import typer, yaml, pydantic.main, pydantic.types, typer._adapters")

    print(f"dry run {own} calls, its libraries {libraries}: {own / libraries:.2f}")
    assert own < 4.5 * libraries
