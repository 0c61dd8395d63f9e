"""The command line: parse, call, print.

Exit codes: 0 done, 1 it did not work (the reason is on stderr), 2 the command line is wrong, 3 the schema is behind
this release, 4 it is ahead of it, 5 an import left out what it could not read (each place is on stderr), 130 it was
interrupted.
"""

import os
import signal
import sys
from typing import Annotated

import typer

from agentstore import __version__
from agentstore.cli import (
    distributing,
    doctor,
    exporting,
    extracting,
    grants,
    importing,
    memory,
    retention,
    rls,
    sandboxes,
    schema,
    sessions,
    states,
    users,
    vector,
)
from agentstore.cli.console import complain, say
from agentstore.errors import AgentStoreError, SchemaAhead, SchemaBehind

app = typer.Typer(
    name="agentstore",
    help="Sessions, memory and state of AI agents, kept on Postgres.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(schema.app)
app.add_typer(grants.app)
app.add_typer(importing.app)
app.add_typer(exporting.app)
app.add_typer(sessions.app, name="sessions")
app.add_typer(states.app, name="states")
app.add_typer(sandboxes.app, name="sandboxes")
app.add_typer(memory.app, name="memory")
app.command()(memory.reindex)
app.add_typer(extracting.app)
app.add_typer(users.app, name="users")
app.command("erase")(users.delete)
app.add_typer(retention.app)
app.add_typer(vector.app, name="vector")
app.add_typer(rls.app, name="rls")
app.add_typer(vector.top)
app.add_typer(distributing.app)
app.add_typer(doctor.app)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        say(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line, and turn what is expected to go wrong into a line and an exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        # What the terminal cannot show is written as its escape.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        app()
    except AgentStoreError as error:
        complain(str(error))
        sys.exit({SchemaBehind: 3, SchemaAhead: 4}.get(type(error), 1))
    except BrokenPipeError:  # whoever reads it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left is to exit
        sys.exit(130)
