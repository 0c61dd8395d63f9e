"""What the command line does about mistakes: exit codes, errors in JSON, and questions before what is final."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from agentstore.cli import COMMANDS, load_command
from tests.support.cli import run

_LONG = "x" * 600


@pytest.mark.parametrize(
    "arguments",
    [
        ("sessions", "lst"),
        ("sessions", "show", "alice"),
        ("sessions", "list", "--metadata", "[]"),
        ("sessions", "create", "alice", "--metadata", "{"),
        ("sessions", "append", "alice", "s", "x", "--role", "nobody"),
        ("states", "save", "alice", "s", "[1]"),
        ("sessions", "list", "--order", "size"),
        ("sessions", "list", "alice", "--limit", "0"),
        ("sessions", "list", "alice", "--limit", "many"),
        ("sessions", "list", "alice", "--cursor", "nonsense"),
        ("sessions", "list", _LONG),
        ("memory", "search", "alice", "x", "--since", "soon"),
        ("memory", "search", "alice", "x", "--strategy", "guessing"),
        ("memory", "add", "alice", "x", "--role", "nobody"),
        ("prune", "--older-than", "soon", "--yes"),
        ("users", "delete", "alice"),
        ("upgrade", "9999"),
        ("grants",),
        ("explain", "nonsense"),
        ("explain", "get_user", "--param", "no=1"),
        ("import", "/nowhere/file"),
        ("export", "/nowhere/file"),
        ("sessions", "export", "alice", "-o", "/nowhere/file"),
    ],
    ids=" ".join,
)
def test_whatever_is_not_valid_on_the_command_line_exits_with_2(arguments: tuple[str, ...], direct_url: str) -> None:
    environment = {"AGENTSTORE_DATABASE_URL": direct_url}
    done = run(*arguments, environment=environment)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err
    as_json = run("--json", *arguments, environment=environment)
    assert as_json.code == 2
    error = as_json.error()
    assert error["error"] in " ".join(as_json.err.split())
    assert error["type"]


@pytest.mark.parametrize("name", ["sessions", "states", "users"])
def test_what_does_not_exist_exits_with_1(name: str, direct_url: str) -> None:
    arguments = (name, "show", "nobody", "none")[: 3 if name == "users" else 4]
    done = run("--json", *arguments, environment={"AGENTSTORE_DATABASE_URL": direct_url})
    assert (done.code, done.error()["type"]) == (1, "NotFound")


def test_configuration_errors_exit_with_1_and_name_each_variable() -> None:
    environment = {"AGENTSTORE_POOL_SIZE": "many", "AGENTSTORE_POOLER": "mine"}
    done = run("users", "list", "--json", environment=environment)
    assert (done.code, done.error()["type"]) == (1, "NotConfigured")
    assert len(done.err.splitlines()) == 2
    assert all(line.startswith("error: AGENTSTORE_POOL") for line in done.err.splitlines())
    assert run("--url", "nonsense", "users", "list", "--json").error()["type"] == "NotConfigured"


def test_url_and_json_are_accepted_before_and_after_the_command(direct_url: str) -> None:
    url = ("--url", direct_url)
    for arguments in (
        (*url, "--json", "memory", "add", "alice", "tea"),
        ("memory", *url, "--json", "add", "alice", "tea"),
        ("memory", "add", *url, "alice", "tea", "--json"),
        ("--url", "nonsense", "memory", "add", "alice", "tea", *url, "--json"),
    ):
        assert run(*arguments).json()["id"].startswith("msg_")
    assert run("--json", "stats", *url).json()["memories"] == 4


def _names_of_options(path: str) -> set[str]:
    name, _, sub = path.partition(" ")
    command = load_command(name)
    return {each.name for each in (command.commands[sub] if sub else command).params}


def test_each_command_that_cannot_be_undone_has_yes() -> None:
    paths = [
        f"{name} {each}".strip() for name in COMMANDS for each in getattr(load_command(name), "commands", [""])
    ]  # fmt: skip
    assert {path for path in paths if "yes" in _names_of_options(path)} == {
        *("sessions delete", "sessions rewind", "states delete", "memory delete", "users delete", "erase", "prune"),
        *("vector disable", "downgrade", "rls disable", "distribute", "undistribute"),
        *("sandboxes release", "sandboxes reap", "sandboxes forget"),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("sessions", "delete", "alice", "s"),
        ("sessions", "rewind", "alice", "s", "--first", "1", "--no-keep"),
        ("states", "delete", "alice", "s"),
        ("memory", "delete", "alice"),
        ("users", "delete", "alice"),
        ("erase", "alice"),
        ("prune",),
        ("vector", "disable"),
        ("downgrade", "base", "--lose-data"),
        ("rls", "disable"),
        ("distribute",),
        ("undistribute",),
        ("sandboxes", "release", "alice", "s"),
        ("sandboxes", "reap"),
        ("sandboxes", "forget", "alice", "s"),
    ],
    ids=" ".join,
)
def test_without_a_terminal_it_is_refused_before_the_database_is_opened(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "--url", "postgresql://127.0.0.1:1/none")
    assert done.code == 2
    assert "add --yes" in done.err


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"\n", 1), (b"\x03", 130), (b"\x04", 130), (b"y\n", 0)])
def test_the_answer_on_a_terminal_decides(answer: bytes, code: int, direct_url: str, tmp_path: Path) -> None:
    assert run("memory", "add", "alice", "tea", "--url", direct_url).code == 0
    terminal, stdin = pty.openpty()
    command = [sys.executable, "-m", "agentstore", "users", "delete", "alice", "--url", direct_url]
    # In a session of its own, whose terminal this is, so that Ctrl-C is a signal.
    program = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    program += "os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", program, *command], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        asked = b""
        while not asked.endswith(b"[y/N]:"):
            asked += (character := process.stderr.read(1))
            assert character, asked
        os.write(terminal, answer)
        out, _ = process.communicate()
    os.close(terminal)
    os.close(stdin)
    assert process.returncode == code
    assert b"Delete user 'alice'" in asked
    assert (b"deleted" in out) == (code == 0)
    assert run("users", "show", "alice", "--url", direct_url).code == (1 if code == 0 else 0)
