"""The command `hbseg`: its groups, its global flags, and the one place that catches errors.

Every start builds all commands. What makes a start quick is that the modules of commands import
Typer and flags alone at their top; a command imports the library when it runs.
"""

import os
import sys
from typing import Annotated, Final, NoReturn

import typer

from hbseg import __version__
from hbseg.errors import HbsegError
from hbseg.exit_codes import CommandExit
from hbseg_cli import (
    config,
    data,
    demo,
    diff,
    doctor,
    events,
    fetch,
    logs,
    pipeline,
    render,
    runs,
    status,
    submission,
    submit,
)
from hbseg_cli.output import Result, error_document, say, verbosity, write
from hbseg_cli.output import render as rendered
from hbseg_cli.session import globals_

_LEFT_OUT: Final = {"cv2": "OpenCV", "numpy": "numpy", "zstandard": "zstandard"}
"""Modules that the image of the control plane lacks, and their names."""


app = typer.Typer(
    name="hbseg",
    help="Segmentation of the 29 bones of the hand in X-rays, from a laptop to Kubernetes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _module in (
    demo,
    data,
    submit,
    render,
    pipeline,
    runs,
    status,
    events,
    logs,
    diff,
    fetch,
    submission,
    doctor,
    config,
):
    _module.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        write(f"hbseg {__version__}\n")
        raise typer.Exit


@app.callback()
def _globals(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Verbose output.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only print errors.")] = False,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Profile of hbseg.yaml (HBSEG_PROFILE).")
    ] = None,
) -> None:
    del version
    verbosity.level = 1 if verbose else -1 if quiet else 0
    globals_.profile = profile


def main(arguments: list[str]) -> NoReturn:
    """Run the command line and exit with its documented code."""
    try:
        code = _run(arguments)
    except BrokenPipeError:
        # who reads our output has enough: leave without a complaint at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _run(words: list[str]) -> int:
    try:
        given = _with_bare_dry_run(words)
        outcome = app(given, prog_name="hbseg", standalone_mode=False)
        if isinstance(outcome, Result):
            write(rendered(outcome))
            return outcome.exit_code
        return outcome if isinstance(outcome, int) else 0
    except HbsegError as error:
        return _failed(words, error.exit_code, error.message, error.hint)
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            say(error.format_message(), level=-1)
            return CommandExit.USAGE
        hint = "see: hbseg --help"
        context = getattr(error, "ctx", None)
        if context is not None:
            hint = f"see: {context.command_path} --help"
        return _failed(words, CommandExit.USAGE, error.format_message(), hint)
    except ModuleNotFoundError as error:
        needed = _LEFT_OUT.get((error.name or "").partition(".")[0])
        if needed is None:
            raise
        message = f"this command needs {needed}, which this installation of hbseg lacks"
        return _failed(words, CommandExit.USAGE, message, "run: pip install hbseg")
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted", level=-1)
        return CommandExit.INTERRUPTED


def _failed(words: list[str], code: int, message: str, hint: str | None) -> int:
    message = " ".join(message.split())
    if _wants_json(words):
        write(error_document(code, message, hint))
    say(f"error: {message}; {hint}" if hint else f"error: {message}", level=-1)
    return code


def _wants_json(words: list[str]) -> bool:
    pairs = zip(words, [*words[1:], ""], strict=True)
    return any(
        (word in ("-o", "--output") and following == "json")
        or word in ("-ojson", "-o=json", "--output=json")
        for word, following in pairs
    )


def _with_bare_dry_run(words: list[str]) -> list[str]:
    """Return the words with `--dry-run` in full: it may stand without a value."""
    return ["--dry-run=client" if word == "--dry-run" else word for word in words]
