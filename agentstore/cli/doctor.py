"""The command that looks a database over."""

from dataclasses import asdict

import typer
from rich.text import Text

from agentstore.cli.console import Json, Url, out, plain, say_json, with_database
from agentstore.errors import NotConfigured
from agentstore.operations.doctor import Finding, examine

app = typer.Typer()

_MARKS = {"ok": ("ok", "green"), "warning": ("WARN", "yellow"), "problem": ("BAD", "bold red")}


@app.command()
def doctor(url: Url = None, json_: Json = False) -> None:
    """Look over the database and how it is set up, and say what to do. Exit code 1 if something must be done."""
    try:
        findings = with_database(url, examine)
    except NotConfigured as error:
        findings = [Finding("connection", "problem", str(error), "correct the URL, or set AGENTSTORE_DATABASE_URL")]
    if json_:
        say_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            out.print(_line(finding))
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def _line(finding: Finding) -> Text:
    mark, style = _MARKS[finding.state]
    line = Text(f"{mark:5}", style=style).append(f"{finding.check:11} ", style="bold")
    line.append(plain(finding.found), style="default")
    if finding.advice:
        line.append(f"\n{'':17}{plain(finding.advice)}", style="yellow")
    return line
