"""What the command costs before it does anything."""

import resource
import subprocess
import sys

HEAVY = ("torch", "numpy", "cv2", "boto3", "botocore", "pydantic", "yaml", "rich", "psutil")


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
    light = tuple(name for name in HEAVY if name != "pydantic")  # Typer's own, for some types
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


def test_a_listing_never_imports_torch(tmp_path: object) -> None:
    assert loaded(["list", "--runs", str(tmp_path)], ("torch", "boto3")) == []


def cpu_of(*arguments: str) -> float:
    """Return the least CPU time of a Python command in several tries, in seconds."""
    times = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_help_costs_little_more_than_typer_itself() -> None:
    own = cpu_of("-m", "hbseg_cli.main", "--help")
    typer = cpu_of("-c", "import typer")

    print(f"hbseg --help {own:.3f} s, import typer {typer:.3f} s: {own / typer:.2f}")
    assert own < 2.5 * typer


def test_a_dry_run_costs_little_more_than_typer_and_pydantic() -> None:
    own = cpu_of("-m", "hbseg_cli.main", "-q", "submit-train", "--stage=1", "--dry-run", *MANIFESTS)
    libraries = cpu_of("-c", "import typer, yaml, pydantic.main, pydantic.types, typer._adapters")

    print(f"dry run {own:.3f} s, its libraries {libraries:.3f} s: {own / libraries:.2f}")
    assert own < 3.5 * libraries
