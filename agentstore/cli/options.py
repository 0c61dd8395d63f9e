"""The arguments and options that several commands have."""

import sys
from typing import Annotated

import typer


def new_group(description: str | None = None) -> typer.Typer:
    """Return a Typer to which a module adds its commands."""
    return typer.Typer(help=description, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def require_text(value: str | list[str] | None) -> str | list[str] | None:
    """Return an argument.

    Raises:
        typer.BadParameter: it has bytes that are not valid in the locale's encoding.
    """
    for each in value if isinstance(value, list) else [value or ""]:
        if any("\ud800" <= character <= "\udfff" for character in each):
            raise typer.BadParameter(f"{each!r} is not valid text in this locale; try LANG=C.UTF-8")
    return value


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation before data is deleted, unless --yes was given.

    Raises:
        typer.Abort: the answer is no.
        typer.BadParameter: stdin is not a terminal.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise typer.BadParameter("this command deletes data and there is no terminal to confirm it: add --yes")
    typer.confirm(question, abort=True, err=True)


Url = Annotated[
    str | None,
    typer.Option("--url", help="Database URL; default: AGENTSTORE_DATABASE_URL, else the embedded Postgres."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
User = Annotated[str, typer.Argument(metavar="USER", help="User id.", callback=require_text)]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="Session id.", callback=require_text)]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of results.")]
Cursor = Annotated[str | None, typer.Option(help="Continue after the previous page.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="Print all columns, and each row in one line, however wide the terminal is.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Wait = Annotated[
    float,
    typer.Option(min=0, metavar="SECONDS", help="Maximum time to wait for other migrations and for locks, in all."),
]
