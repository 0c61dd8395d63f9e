"""The command line: its table of commands, its help, and what it imports."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentstore import __version__
from agentstore.cli import COMMANDS, SECTIONS, load_command
from tests.support.cli import run

_LIBRARIES = {"alembic", "asyncpg", "orjson", "rich", "sqlalchemy"}
_WIDTH = 78  # of help in a terminal of 80 columns


def test_sections_have_each_command_once() -> None:
    assert len(COMMANDS) == sum(map(len, SECTIONS.values()))


@pytest.mark.parametrize("name", COMMANDS)
def test_table_has_the_help_of_the_module(name: str) -> None:
    command = load_command(name)
    assert command.name == name
    assert hasattr(command, "commands") == COMMANDS[name].is_group
    assert command.help.splitlines()[0] == COMMANDS[name].help


def test_table_has_all_commands_of_its_modules() -> None:
    from importlib import import_module

    import typer

    for module_name in {info.module for info in COMMANDS.values()}:
        module = import_module(f"agentstore.cli.{module_name}")
        defined = set(typer.main.get_group(module.commands).commands) if hasattr(module, "commands") else set()
        listed = {name for name, info in COMMANDS.items() if info.module == module_name and not info.is_group}
        assert defined == listed
        assert hasattr(module, "group") == (COMMANDS.get(module_name, COMMANDS["check"]).is_group)


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS if COMMANDS[name].is_group)])
def test_help_lists_commands_in_one_line_each(arguments: list[str]) -> None:
    lines = run(*arguments, "--help").out.splitlines()
    names = load_command(*arguments).commands if arguments else COMMANDS
    for name in names:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(".")
        assert len(line) <= _WIDTH


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_is_plain_text(name: str) -> None:
    done = run(name, "--help")
    assert done.code == 0
    assert inspect.cleandoc(COMMANDS[name].help) in done.out
    assert "\x1b" not in done.out
    assert "╭" not in done.out


def _pages() -> Iterator[tuple[str, ...]]:
    """Yield the names of all commands and groups."""
    yield ()
    for name in COMMANDS:
        yield (name,)
        yield from ((name, each) for each in getattr(load_command(name), "commands", ()))


@pytest.mark.parametrize("names", list(_pages()), ids=" ".join)
def test_arguments_and_values_have_metavars(names: tuple[str, ...]) -> None:
    usage, _, rest = run(*names, "--help").out.partition("\n\n")
    words = usage.split()[2 + len(names) :]
    assert words[0] == "[OPTIONS]"
    assert all(re.fullmatch(r"[A-Z]+|\[[A-Z]+\](\.\.\.)?", word) for word in words), usage
    listed = rest.partition("\nOptions:\n")[2]
    options = re.findall(r"^  (?:-\w, )?--([a-z-]+)(?: / --[a-z-]+)?(?: (\S.*?))?(?:  .*)?$", listed, re.MULTILINE)
    assert "help" in dict(options)
    for name, value in options:
        assert not value or re.fullmatch(r"[A-Z]+(=[A-Z]+)?|[a-z0-9_-]+(\|[a-z0-9_-]+)+", value), (name, value)


def test_shells_complete_commands_options_and_values(tmp_path: Path) -> None:
    """In new processes, since the shell starts one."""
    program = tmp_path / "agentstore"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -X importtime -m agentstore "$@"\n')
    program.chmod(0o700)
    shell = str(tmp_path / "completion")
    subprocess.run(["bash", "-c", '"$0" --show-completion >"$1"; true', str(program), shell], check=True)
    script = f'. "{shell}"; COMP_WORDS=(agentstore "$@"); COMP_CWORD=$#; '
    script += '_agentstore_completion "$0"; printf "%s\\n" "${COMPREPLY[@]}"'

    def complete(*words: str) -> list[str]:
        command = ["bash", "-c", script, str(program), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        if len(words) == 1:  # the names of commands load no library
            assert not _LIBRARIES & {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        return done.stdout.split()

    assert complete("") == list(COMMANDS)
    assert complete("ses") == ["sessions"]
    assert "list" in complete("sessions", "l")
    assert complete("memory", "search", "--strat") == ["--strategy"]
    assert complete("memory", "search", "--strategy", "v") == ["vector"]


def test_mistyped_commands_are_suggested() -> None:
    done = run("sesions", "list")
    assert done.code == 2
    assert "Did you mean 'sessions'" in done.err
    assert "Did you mean 'list'" in run("sessions", "lis").err


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["sessions", "--help"], ["nonsense"], ["export"]])
def test_help_version_and_usage_errors_load_no_library(arguments: list[str]) -> None:
    """In a new process, since this one has already imported them."""
    program = (
        "import sys\n"
        "from agentstore.cli import main\n"
        "try: main()\n"
        f"finally: print('loaded:', *({_LIBRARIES} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
    if arguments == ["--version"]:
        assert done.stdout.splitlines()[0] == __version__


# The range of each numeric option that the library also has, as the library's rules define it.
_RANGES: dict[str, tuple[int, int | None]] = {
    "limit": (1, 10_000), "batch": (1, 10_000), "largest": (0, 10_000), "keep_last": (0, 10_000), "top_k": (0, 1_000),
    "first": (0, None),
}  # fmt: skip
# All messages of a session may be shown, or none.
_SESSION_RANGES = {"sessions show": (0, None)}


def test_a_process_ends_without_collecting_garbage() -> None:
    program = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1_000)); "
    program += "from agentstore.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [__version__, "True"]


@pytest.mark.parametrize("name", COMMANDS)
def test_numbers_have_the_ranges_of_the_library(name: str) -> None:
    command = load_command(name)
    commands = command.commands if hasattr(command, "commands") else {"": command}
    for subcommand, each in commands.items():
        for option in each.params:
            if option.name in _RANGES:
                full_name = f"{name} {subcommand}".strip()
                expected = _SESSION_RANGES.get(full_name, _RANGES[option.name])
                assert (option.min, option.max) == expected, (full_name, option.name)
