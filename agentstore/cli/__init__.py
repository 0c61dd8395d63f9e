"""The command line: parse arguments, call the library, print the result.

Exit codes:

====  =================================================================================================
0     done
1     failed; the reason is on stderr
2     the command line, one of its values or a file that it names is not valid; nothing was changed
3     the schema is behind this release
4     the schema is ahead of this release
5     part of the input was skipped or left unchanged, each part with the reason on stderr
130   interrupted
====  =================================================================================================

Some commands have further exit codes, which their help names. With --json, the reason is on stdout as well, as
``{"error": "there is no ...", "type": "NotFound"}``.

A command's module is imported when the command runs. A module defines ``group``, a group of commands, or
``commands``, commands without a group, or both.
"""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from itertools import takewhile
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from agentstore import __version__
from agentstore.cli.options import Json, Url


class CommandInfo(NamedTuple):
    """The module that defines a command, and the first line of the command's help."""

    module: str
    help: str
    is_group: bool = False


SECTIONS = {
    "Data": {
        "sessions": CommandInfo("sessions", "List, show, create, append to, fork and delete sessions.", is_group=True),
        "states": CommandInfo("states", "List, show, save, compare and delete agent states.", is_group=True),
        "users": CommandInfo("users", "List, show and delete users.", is_group=True),
        "import": CommandInfo("import_", "Import conversations, an export, or another store's data."),
        "export": CommandInfo("export", "Export all data, or that of some users, as JSON Lines."),
        "erase": CommandInfo("users", "Delete a user and all of the user's data."),
        "prune": CommandInfo("retention", "Delete expired and old data."),
    },
    "Memory": {
        "memory": CommandInfo("memory", "Search, add, list and delete memories.", is_group=True),
        "extract": CommandInfo("extract", "Extract facts from conversations with a language model."),
        "reindex": CommandInfo("memory", "Update the full-text index of memories to this release."),
        "vector": CommandInfo("vector", "Enable, disable and index vectors (pgvector).", is_group=True),
        "embed": CommandInfo("vector", "Compute missing embeddings of memories."),
    },
    "Schema": {
        "check": CommandInfo("check", "Check whether the schema fits this release."),
        "current": CommandInfo("check", "Print the revision of the database's schema."),
        "plan": CommandInfo("schema", "Print what `agentstore upgrade` would do, and its locks."),
        "upgrade": CommandInfo("schema", "Upgrade the schema to this release."),
        "downgrade": CommandInfo("schema", "Downgrade the schema to an earlier revision."),
        "stamp": CommandInfo("schema", "Set the schema's revision without running migrations."),
        "history": CommandInfo("schema", "List the migrations of this release, newest first."),
        "heads": CommandInfo("schema", "Print the newest revisions."),
        "sql": CommandInfo("schema", "Print the SQL of an upgrade, to review or to run with psql."),
    },
    "Operations": {
        "console": CommandInfo("console", "Serve the console: stored data, and its health, in a browser."),
        "doctor": CommandInfo("doctor", "Diagnose the database and its configuration."),
        "stats": CommandInfo("retention", "Print row counts, sizes, and the largest users and sessions."),
        "metrics": CommandInfo("metrics", "Print or serve figures of the database for monitoring."),
        "explain": CommandInfo("explain", "Print what a statement is for, its SQL, and its plan."),
        "grants": CommandInfo("grants", "Print or apply the least privileges that roles need."),
        "rls": CommandInfo("rls", "Enable, disable and check row-level security.", is_group=True),
        "distribute": CommandInfo("distribute", "Distribute the tables over a Citus cluster."),
        "undistribute": CommandInfo("distribute", "Move the rows of a Citus cluster back to the coordinator."),
    },
    "Sandboxes": {
        "sandboxes": CommandInfo("sandboxes", "List, use and end sandboxes.", is_group=True),
    },
}
"""The sections of the help, and their commands in order; ``tests/unit/test_cli.py`` compares them with the modules."""

COMMANDS = {name: info for section in SECTIONS.values() for name, info in section.items()}


@cache
def load_command(name: str) -> Any:
    """Import the module of a command and return the command, a ``click.Command``, which later calls return as well.

    Raises:
        KeyError: there is no such command.
    """
    info = COMMANDS[name]
    module = import_module(f"{__name__}.{info.module}")
    command = typer.main.get_group(module.group if info.is_group else module.commands)
    if not info.is_group:
        return command.commands[name]
    command.name = name
    return command


class _LazyCommands(Mapping[str, Any]):
    """The commands by name, each loaded when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        return load_command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _LazyGroup(TyperGroup):
    """The top level: its help is that of :data:`SECTIONS`, so that no command has to be loaded for it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _LazyCommands()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the completions of a command's name or of an option, without loading the commands."""
        self.commands = {name: TyperCommand(name, help=info.help) for name, info in COMMANDS.items()}
        return super().shell_complete(ctx, incomplete)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of commands."""
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), info.help) for name, info in commands.items()])


app = typer.Typer(
    name="agentstore",
    cls=_LazyGroup,
    help="Sessions, memory, state and sandboxes of AI agents, stored in Postgres.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# The base class of typer.BadParameter is UsageError of click, or of the copy of click that typer has.
_UsageError: Any = typer.BadParameter.__base__


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    url: Url = None,
    json_: Json = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; an expected error becomes a line on stderr and an exit code."""
    # The exiting interpreter would search all objects for garbage several times: a third of the time of a command.
    atexit.register(gc.freeze)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process
        # Characters that the terminal's encoding lacks are written as escapes.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; print an expected error."""
    from agentstore.errors import AgentStoreError

    as_json = "--json" in takewhile(lambda each: each != "--", arguments)
    try:
        code = app(arguments, prog_name="agentstore", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except _UsageError as error:
        error.show()
        _print_as_json(error.format_message(), error, as_json)
        return int(error.exit_code)
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (AgentStoreError, OSError) as error:
        from agentstore.cli.output import echo_error

        for line in str(error).splitlines():
            echo_error(line)
        _print_as_json(str(error), error, as_json)
        return _exit_code(error)
    except typer.Abort:  # not confirmed
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends the process at once
        return 130


def _exit_code(error: Exception) -> int:
    from agentstore.errors import InvalidContent, LimitExceeded, SchemaAhead, SchemaBehind

    if isinstance(error, (InvalidContent, LimitExceeded, FileNotFoundError, NotADirectoryError, IsADirectoryError)):
        return 2
    return 3 if isinstance(error, SchemaBehind) else 4 if isinstance(error, SchemaAhead) else 1


def _print_as_json(message: str, error: Exception, as_json: bool) -> None:
    if as_json:
        from agentstore.cli.output import echo_json

        echo_json({"error": message, "type": type(error).__name__})
