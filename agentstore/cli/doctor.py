"""``agentstore doctor``."""

from dataclasses import asdict

import typer

from agentstore.cli.connect import run_with_database
from agentstore.cli.options import Json, Url, new_group
from agentstore.cli.output import echo_hanging, echo_json
from agentstore.errors import NotConfigured
from agentstore.operations.doctor import Finding, examine

commands = new_group()

_MARKS = {"ok": ("ok", "green"), "warning": ("WARN", "yellow"), "problem": ("BAD", "bold red")}
_INDENT = 17


@commands.command()
def doctor(url: Url = None, json_: Json = False) -> None:
    """Diagnose the database and its configuration.

    Prints what was found and how to correct it. The exit code is 1 if there is a problem.
    """
    try:
        findings = run_with_database(url, examine)
    except NotConfigured as error:
        findings = [Finding("connection", "problem", str(error), "correct the URL, or set AGENTSTORE_DATABASE_URL")]
    if json_:
        echo_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark, style = _MARKS[finding.state]
            echo_hanging([(f"{mark:5}", style), (f"{finding.check:11} ", "bold")], finding.found, indent=_INDENT)
            if finding.advice:
                echo_hanging([], finding.advice, "yellow", indent=_INDENT)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)
