"""`hbseg config`: which settings and defaults apply, and where they come from."""

from typing import TYPE_CHECKING, Annotated

import typer

from hbseg_cli.groups import OUTPUT, SESSION, grouped
from hbseg_cli.output import Format, Result, document, say
from hbseg_cli.session import Session, placement_of

if TYPE_CHECKING:
    from hbseg.config.settings import Settings

app = typer.Typer(help="Show settings and default specs.", no_args_is_help=True)


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="config")


@app.callback()
def _group() -> None:
    """Show settings and default specs."""


@app.command()
@grouped(session=SESSION, output=OUTPUT)
def show(
    session: Session,
    output: Format,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[SPEC]", help="A default spec, e.g. train_stage1 or compile."),
    ] = None,
) -> Result:
    """Show every setting with its source, or a default spec with all its values."""
    if name is not None:
        return _spec(session, name, output)
    found = _known(session).found
    rows = [
        {"name": name, "value": setting.value, "source": setting.source}
        for name, setting in sorted(found.items())
    ]
    return Result(document("Settings", items=rows), rows, sorted(found), output)


def _known(session: Session) -> "Settings":
    """Return the settings, with those of the cluster's namespace where it can be asked."""
    from hbseg.errors import HbsegError

    try:
        return session.shared
    except HbsegError as error:
        say(f"warning: the cluster's settings are not known: {error.message}")
        return session.settings


def _spec(session: Session, name: str, output: Format) -> Result:
    from hbseg.control.specs import CONFIGS, default_spec
    from hbseg.documents import nearest
    from hbseg.errors import UsageError
    from hbseg.runs.steps import Step

    if name not in CONFIGS:
        raise UsageError(f"no default spec {name!r:.60}; {nearest(name, CONFIGS)}")
    form = Format.YAML if output == Format.TABLE else output
    engine = _offered(session) if name == Step.COMPILE.row.config else None
    return Result(default_spec(name, engine=engine).to_mapping(), names=[name], format=form)


def _offered(session: Session) -> str:
    """Return the kind of engine that the place of the settings offers."""
    return session.offered_engine(placement_of(_known(session), None))
