"""The arguments and options that several commands have, and how help shows them."""

import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand


class _Command(TyperCommand):
    """A command whose help shows arguments and values by their metavars alone, as in ``USER`` and ``--limit N``."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return [re.sub(r"[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of arguments and options."""
        arguments, options = [], []
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            name, description = record
            if parameter.param_type_name == "argument":
                arguments.append((parameter.metavar or parameter.name.upper(), description))
            else:
                options.append((re.sub(r"<([^>]*)>", r"\1", name), description))
        for title, records in (("Arguments", arguments), ("Options", options)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class _Commands(typer.Typer):
    """Commands whose class is :class:`_Command`."""

    def command(self, name: str | None = None, **options: Any) -> Any:
        """Add a command."""
        return super().command(name, cls=_Command, **options)


def new_group(description: str | None = None) -> typer.Typer:
    """Return a Typer to which a module adds its commands, as a group with this help if it has a description."""
    group = _Commands(help=description, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    if description is not None:
        group.callback()(_options_of_group)
    return group


def inherited(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Return the value of an option, or else that of the same option before the command."""
    return value or (value if ctx.parent is None else ctx.parent.params.get(str(param.name)))


def require_text(value: str | list[str] | None) -> str | list[str] | None:
    """Return an argument.

    Raises:
        typer.BadParameter: it has bytes that are not valid in the locale's encoding.
    """
    for each in value if isinstance(value, list) else [value or ""]:
        if any("\ud800" <= character <= "\udfff" for character in each):
            raise typer.BadParameter(f"{each!r} is not valid text in this locale; try LANG=C.UTF-8")
    return value


def parse_object(value: str) -> dict[str, Any]:
    """Return the JSON object that an argument is.

    Raises:
        typer.BadParameter: it is not a JSON object.
    """
    from agentstore.exact_json import loads

    try:
        found = loads(value)
    except ValueError as error:
        raise typer.BadParameter(f"expected a JSON object, got {value[:80]!r}") from error
    if not isinstance(found, dict):
        raise typer.BadParameter(f"expected a JSON object, got {value[:80]!r}")
    return found


def read_text(value: str) -> str:
    """Return an argument, or stdin if it is ``-``, without the newline at its end.

    Raises:
        typer.BadParameter: stdin is closed, or not UTF-8.
    """
    if value != "-":
        return value
    if sys.stdin is None:
        raise typer.BadParameter("stdin is closed")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise typer.BadParameter("stdin is not UTF-8") from error


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation before something that cannot be undone, unless --yes was given.

    Raises:
        typer.Abort: the answer is no.
        typer.BadParameter: stdin is not a terminal.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to confirm this command: add --yes")
    try:
        is_confirmed = typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, or the end of the input
        raise KeyboardInterrupt from None
    if not is_confirmed:
        raise typer.Abort


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Database URL; default: AGENTSTORE_DATABASE_URL, else the embedded Postgres.",
        callback=inherited,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, errors included.", callback=inherited)]
User = Annotated[str, typer.Argument(metavar="USER", help="User id.", callback=require_text)]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="Session id.", callback=require_text)]
NewTitle = Annotated[str | None, typer.Option("--title", metavar="TITLE", help="Title.", callback=require_text)]
Metadata = Annotated[
    str | None, typer.Option("--metadata", metavar="JSON", help="Metadata, a JSON object.", callback=require_text)
]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Maximum number of results.")]
Cursor = Annotated[str | None, typer.Option(metavar="CURSOR", help="Continue after the previous page.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="Print all columns, and each row in one line, however wide the terminal is.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Wait = Annotated[
    float,
    typer.Option(min=0, metavar="SECONDS", help="Maximum time to wait for other migrations and for locks, in all."),
]


def _options_of_group(url: Url = None, json_: Json = False) -> None:
    pass
