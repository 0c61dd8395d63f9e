"""Bubblewrap sandboxes, used by this process and by others."""

import asyncio
import base64
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import venv
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentstore.errors import InvalidContent, SandboxFailed, SandboxLost, SandboxUnavailable
from agentstore.sandbox import handles, local, processes
from agentstore.sandbox.bubblewrap import BubblewrapProvider
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from agentstore.schemas.sandbox import SandboxLimits, SandboxSpec
from tests.sandbox.conftest import TIMEOUT, Run

pytestmark = pytest.mark.bubblewrap

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.005)


def process_of(provider: BubblewrapProvider) -> int:
    return next(iter(provider._running.values())).pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def exists(path: str) -> bool:
    return os.path.exists(path)


def read_descriptors_of_children(pid: int) -> list[str]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [os.readlink(each) for child in children for each in Path(f"/proc/{child}/fd").iterdir()]


def folder_of(handle: str) -> str:
    return os.path.dirname(str(json.loads(handle)["path"]))


def bwrap_children() -> list[str]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in children if b"bwrap" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def write_program(folder: Path, name: str, text: str) -> None:
    """Write a script that every user can run."""
    for above in (folder, *(each for each in folder.parents if each.name.startswith("pytest-"))):
        above.chmod(0o755)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


async def start_python(script: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start another process on this machine, as another replica would be."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(script), *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


async def test_command_returns_stdout_stderr_and_exit_code(shell: Run) -> None:
    result = await shell("echo out; echo err >&2; exit 3")
    assert result == {
        "content": [
            {"type": "text", "text": "out\n", "description": "stdout"},
            {"type": "text", "text": "err\n", "description": "stderr"},
            {"type": "text", "text": "3", "description": "returncode"},
        ],
        "isError": True,
    }
    assert (await shell("pwd; exit 0")).part("stdout") == "/workspace\n"


async def test_exit_code_of_killed_command_is_128_plus_signal(shell: Run) -> None:
    assert (await shell("kill -9 $$")).part("returncode") == "137"


async def test_output_that_is_not_utf8_has_replacement_characters(shell: Run) -> None:
    assert (await shell(r"printf 'a\377b'")).part("stdout") == "a\ufffdb"


async def test_background_process_outlives_its_command_without_delaying_it(shell: Run) -> None:
    result = await shell("sleep 1000 & echo done")
    assert not result.is_error  # it would time out if it waited
    assert result.part("stdout") == "done\n"
    async with asyncio.timeout(TIMEOUT):
        while (await shell("pgrep -c sleep")).part("stdout") != "1\n":
            pass  # it has not been executed yet


async def test_variables_persist_between_cells(cell: Run) -> None:
    assert (await cell("x = 20\nprint('set')")).part("stdout") == "set\n"
    assert (await cell("def f(y): return x + y\nf(22)")).part("stdout") == "Out[2]: 42\n"
    assert (await cell("await __import__('asyncio').sleep(0)\n!echo in the shell")).text.split() == [
        "in",
        "the",
        "shell",
    ]


async def test_error_is_a_traceback_without_colors(cell: Run) -> None:
    result = await cell("import sys\nprint('before')\nsys.stderr.write('warned\\n')\n1 / 0")
    assert result.is_error
    assert result.part("stdout") == "before\n"
    stderr = result.part("stderr") or ""
    assert stderr.startswith("warned\n")
    assert "ZeroDivisionError: division by zero" in stderr
    assert "----> 4 1 / 0" in stderr
    assert "\x1b" not in stderr


async def test_rich_output_has_parts_of_its_own(cell: Run) -> None:
    result = await cell(
        f"import base64\nfrom IPython.display import Image, HTML, display\n"
        f"display(Image(base64.b64decode({PNG!r})))\nHTML('<b>bold</b>')"
    )
    assert [part for part in result["content"] if part["type"] == "image"] == [
        {"type": "image", "data": PNG, "mimeType": "image/png", "description": "display_data"}
    ]
    assert result.part("text/html") == "<b>bold</b>"
    assert (result.part("stdout") or "").startswith("Out[1]: ")


async def test_input_raises_instead_of_waiting(cell: Run) -> None:
    assert "does not support input requests" in (await cell("input()")).text


async def test_kernel_is_restarted_after_it_exited(cell: Run) -> None:
    await cell("x = 1")
    assert "all variables are lost" in (await cell("import os\nos._exit(1)")).text
    result = await cell("x")
    assert "NameError" in result.text
    assert "the kernel had exited and was restarted" in result.text
    await cell("exit()")
    assert "2" in (await cell("1 + 1")).text


async def test_concurrent_cells_run_one_at_a_time(cell: Run) -> None:
    await cell("n = 0\nimport time")
    await asyncio.gather(*(cell("m = n; time.sleep(0.01); n = m + 1") for _ in range(10)))
    assert (await cell("print(n)")).text == "10\n"


async def test_cell_that_times_out_while_waiting_for_another_is_not_run(cell: Run, shell: Run) -> None:
    await cell("import os, time; n = 0")
    first = asyncio.create_task(
        cell("open('began', 'w').close()\nwhile not os.path.exists('finish'): time.sleep(0.01)")
    )
    while (await shell("ls began")).is_error:
        pass
    second = await cell("n = 1", timeout=0.2)
    await shell("touch finish")
    await first
    assert "waiting for earlier cells" in second.text
    assert (await cell("n")).text.endswith("0\n")


async def test_call_that_times_out_ends_its_daemons(shell: Run, cell: Run) -> None:
    # Neither their parents nor their environment show where they come from.
    daemon = "env -i setsid -f sh -c 'sleep 1000; :'"
    assert "timed out" in (await shell(f"{daemon}; {daemon}; sleep 1000", timeout=0.5)).text
    assert (await shell("pgrep -c sleep")).part("stdout") == "0\n"
    await cell("import os, time")
    assert "timed out" in (await cell(f'os.system("{daemon}")\ntime.sleep(1000)', timeout=1.5)).text
    assert (await shell("pgrep -c sleep")).part("stdout") == "0\n"


async def test_file_tool_that_times_out_is_ended(tool: Run, shell: Run) -> None:
    numbers = random.Random(1)
    before, after = ("\n".join(str(numbers.randrange(100)) for _ in range(200_000)) for _ in range(2))
    await tool("write_file", path="file", content=before)
    edits = [{"oldText": before, "newText": after}]
    results = await asyncio.gather(*(tool("edit_file", timeout=1, path="file", edits=edits) for _ in range(4)))
    assert all("timed out after 1 s" in each.text for each in results)
    assert (await shell("pgrep -c python")).part("stdout") == "1\n"  # only the box
    assert (await tool("read_file", path="file")).text == before


async def test_cancelled_call_ends_its_processes(shell: Run, cell: Run) -> None:
    call = asyncio.create_task(shell("touch began; sleep 1000"))
    while (await shell("ls began")).is_error:
        pass
    call.cancel()
    await asyncio.wait({call})
    while (await shell("pgrep sleep")).part("stdout"):
        pass
    await cell("value = 1")
    call = asyncio.create_task(cell("open('cell', 'w').close()\nwhile True: pass", timeout=1000))
    while (await shell("ls cell")).is_error:
        pass
    call.cancel()
    await asyncio.wait({call})
    assert (await cell("value")).text == "Out[3]: 1\n"


async def test_files_are_written_read_listed_and_removed(tool: Run) -> None:
    written = await tool("write_file", path="a/b/text.txt", content="ünïcode\n")
    assert not written.is_error
    assert (await tool("read_file", path="/workspace/a/b/text.txt")).text == "ünïcode\n"
    data = bytes(range(256))
    await tool("write_file", path="data", blob=base64.b64encode(data).decode())
    (part,) = (await tool("read_file", path="data"))["content"]
    assert part["type"] == "blob"
    assert base64.b64decode(part["blob"]) == data
    assert [(part["text"], part["description"]) for part in (await tool("list_files"))["content"]] == [
        ("a", "directory"),
        ("data", "file"),
    ]
    assert not (await tool("remove_file", path="a")).is_error
    assert (await tool("remove_file", path="a")).is_error
    assert (await tool("read_file", path="a/b/text.txt")).is_error
    assert (await tool("remove_file", path=".")).is_error


async def test_file_is_replaced_atomically_and_keeps_its_mode(tool: Run, shell: Run) -> None:
    await shell("echo long content > script; chmod 755 script")
    await tool("write_file", path="script", content="x")
    assert (await shell("cat script; stat -c %a script; ls -A")).text == "x755\nscript\n"


async def test_filesystem_tools_list_move_search_and_edit_files(tool: Run) -> None:
    await tool("create_directory", path="d/e")
    await tool("write_file", path="d/one.py", content="x = 1\ny = 2\n")
    assert (await tool("list_directory", path="d")).text == "[DIR] e\n[FILE] one.py\n"
    assert not (await tool("move_file", source="d/one.py", destination="d/e/two.py")).is_error
    assert (await tool("move_file", source="nothing", destination="x")).is_error
    assert "size: 12\n" in (await tool("get_file_info", path="d/e/two.py")).text
    assert (await tool("search_files", path=".", pattern="*.py")).text == "d/e/two.py\n"
    assert (await tool("search_files", path=".", pattern="TWO")).text == "d/e/two.py\n"
    assert (await tool("search_files", path=".", pattern="*.py", excludePatterns=["e"])).text == "No matches found\n"
    assert "x = 1" in (await tool("read_multiple_files", paths=["d/e/two.py", "nothing"])).text
    edits = [{"oldText": "x = 1", "newText": "x = 3"}]
    assert "+x = 3" in (await tool("edit_file", path="d/e/two.py", edits=edits, dryRun=True)).text
    assert "x = 1" in (await tool("read_file", path="d/e/two.py")).text
    await tool("edit_file", path="d/e/two.py", edits=edits)
    assert (await tool("read_file", path="d/e/two.py")).text == "x = 3\ny = 2\n"
    assert (await tool("edit_file", path="d/e/two.py", edits=edits)).is_error
    tree = json.loads((await tool("directory_tree", path=".")).text)
    assert tree == [
        {
            "name": "d",
            "type": "directory",
            "children": [{"name": "e", "type": "directory", "children": [{"name": "two.py", "type": "file"}]}],
        }
    ]
    assert (await tool("list_allowed_directories")).text == "/workspace\n"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("nothing", {}),
        ("run_shell_command", {}),
        ("run_shell_command", {"command": 1}),
        ("run_shell_command", {"command": "a\0b"}),
        ("run_shell_command", {"command": "touch ran", "more": 1}),
        ("run_ipython_cell", {"code": "\ud800"}),
        ("write_file", {"path": "x"}),
        ("write_file", {"path": "x", "content": "", "blob": ""}),
        ("write_file", {"path": "x", "content": b"bytes"}),
        ("read_multiple_files", {"paths": ["a", 1]}),
        ("edit_file", {"path": "x", "edits": [{"oldText": "a"}]}),
        ("edit_file", {"path": "x", "edits": [], "dryRun": "no"}),
    ],
)
async def test_invalid_tool_or_argument_is_rejected(tool: Run, name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidContent):
        await tool(name, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read_file", {"path": "a\0b"}),
        ("read_file", {"path": "x" * 5000}),
        ("read_file", {"path": "loop"}),
        ("write_file", {"path": "x", "blob": "no base64"}),
        ("write_file", {"path": ".", "content": ""}),
    ],
)
async def test_failure_of_a_tool_is_an_error_result(
    tool: Run, shell: Run, name: str, arguments: dict[str, Any]
) -> None:
    await shell("ln -s loop loop")
    assert (await tool(name, **arguments)).is_error


async def test_sandbox_has_only_the_tools_of_its_type(bubblewrap: BubblewrapProvider, sandbox_handle: str) -> None:
    tools = await bubblewrap.list_tools(sandbox_handle, TIMEOUT)
    assert set(tools["generic"]) >= {"run_ipython_cell", "run_shell_command", "read_file", "directory_tree"}
    schema = tools["generic"]["run_shell_command"]["json_schema"]
    assert schema["function"]["parameters"]["required"] == ["command"]
    few = await bubblewrap.create(SandboxSpec("few", tools=frozenset({"read_file"})))
    assert set((await bubblewrap.list_tools(few, TIMEOUT))["generic"]) == {"read_file"}
    with pytest.raises(InvalidContent, match="no tool 'run_shell_command'"):
        await bubblewrap.exec(few, "run_shell_command", {"command": "true"}, TIMEOUT)


async def test_packages_of_this_python_are_available(shell: Run) -> None:
    command = "python -c 'import sys, pytest; print(sys.version_info[:2])'; python3 -c ''"
    assert (await shell(command)).part("stdout") == f"{sys.version_info[:2]}\n"


async def test_processes_have_the_environment_of_the_type(bubblewrap: BubblewrapProvider) -> None:
    handle = await bubblewrap.create(SandboxSpec("test", environment={"COLOR": "blue"}))
    shell = await bubblewrap.exec(handle, "run_shell_command", {"command": "echo $COLOR"}, TIMEOUT)
    cell = await bubblewrap.exec(handle, "run_ipython_cell", {"code": "import os; print(os.environ['COLOR'])"}, TIMEOUT)
    assert shell.part("stdout") == cell.part("stdout") == "blue\n"


async def pack(provider: BubblewrapProvider, handle: str) -> list[bytes]:
    return [piece async for piece in provider.pack(handle, TIMEOUT)]


async def iterate(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_workspace_survives_pack_and_unpack(
    bubblewrap: BubblewrapProvider, sandbox_handle: str, shell: Run, cell: Run
) -> None:
    await cell("1")  # starts a kernel, whose files are not in the workspace
    await shell(
        "mkdir -p a/b empty; echo text > a/b/file; : > nothing; ln -s a/b/file link; ln -s /usr/bin/python3 absolute;"
        "printf '#!/bin/sh\\necho ran' > run; chmod 755 run; ln run hard; head -c 3000000 /dev/urandom > large;"
        "touch 'ünï code'; mkdir closed; touch closed/in; chmod 500 closed; touch secret; chmod 0 secret; mkfifo pipe"
    )
    describe = (
        "find . ! -name pipe -printf '%p %m %y %l\\n' | sort; "
        "find . -type f -readable -exec sha256sum {} + | sort; ./run; stat -c %h run"
    )
    before = (await shell(describe)).part("stdout") or ""
    pieces = await pack(bubblewrap, sandbox_handle)
    assert max(map(len, pieces)) <= 1_000_000
    other = await bubblewrap.create(SandboxSpec("test"))
    await bubblewrap.unpack(other, iterate(pieces), TIMEOUT)
    after = await bubblewrap.exec(other, "run_shell_command", {"command": describe}, TIMEOUT)
    # To be packed, a file must be readable by its owner: that bit of the mode is not preserved.
    assert (after.part("stdout") or "").replace("./secret 400", "./secret 0") == before
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        assert {member.name for member in archive} >= {"a/b/file", "link"}
        assert {(member.uid, member.gid) for member in archive} == {(0, 0)}


async def test_empty_workspace_is_packed(bubblewrap: BubblewrapProvider, sandbox_handle: str) -> None:
    await bubblewrap.unpack(sandbox_handle, iterate(await pack(bubblewrap, sandbox_handle)), TIMEOUT)


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> list[bytes]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return [stream.getvalue()]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "pieces",
    [
        archive_of((member("../tmp/out"), b"x")),
        archive_of((member("/tmp/out"), b"x")),
        archive_of((member("link", tarfile.SYMTYPE, "/tmp"), b""), (member("link/out"), b"x")),
        archive_of((member("link", tarfile.SYMTYPE, "."), b""), (member("link/out"), b"x")),
        archive_of((member("hard", tarfile.LNKTYPE, "../etc/passwd"), b"")),
        archive_of(
            (member("link", tarfile.SYMTYPE, "/etc"), b""), (member("hard", tarfile.LNKTYPE, "link/passwd"), b"")
        ),
        archive_of((member("device", tarfile.CHRTYPE), b"")),
        archive_of((member("large"), bytes(9_000_000))),
        [b"no archive" * 100],
        [],
    ],
    ids=[
        *("parent directory", "absolute", "through a link", "through a link inside", "hard link to a parent"),
        *("hard link through a link", "device", "above the quota", "no archive", "empty"),
    ],
)
async def test_invalid_archive_is_rejected(bubblewrap: BubblewrapProvider, pieces: list[bytes]) -> None:
    handle = await bubblewrap.create(SandboxSpec("test", limits=SandboxLimits(disk=8_000_000)))
    with pytest.raises(SandboxFailed):
        await bubblewrap.unpack(handle, iterate(pieces), TIMEOUT)
    result = await bubblewrap.exec(handle, "run_shell_command", {"command": "ls /tmp/out"}, TIMEOUT)
    assert result.is_error


async def test_workspace_with_sparse_files_above_the_quota_is_not_packed(
    bubblewrap: BubblewrapProvider, sandbox_handle: str, shell: Run
) -> None:
    await shell("for i in 1 2 3; do truncate -s 100M $i; done")
    with pytest.raises(SandboxFailed, match="larger than its quota"):
        await pack(bubblewrap, sandbox_handle)


async def test_sandboxes_do_not_see_each_other(bubblewrap: BubblewrapProvider, sandbox_handle: str, shell: Run) -> None:
    other = await bubblewrap.create(SandboxSpec("test"))
    await shell("touch mine; sleep 1000 & touch /tmp/mine")
    command = {"command": "ls -A /workspace /tmp; pgrep sleep"}
    assert "mine" not in (await bubblewrap.exec(other, "run_shell_command", command, TIMEOUT)).text


async def test_second_provider_uses_and_destroys_a_sandbox(
    bubblewrap: BubblewrapProvider, sandbox_handle: str, shell: Run
) -> None:
    other = BubblewrapProvider()
    await other.connect(sandbox_handle)
    await shell("echo shared > file")
    assert (await other.exec(sandbox_handle, "read_file", {"path": "file"}, TIMEOUT)).text == "shared\n"
    pid = process_of(bubblewrap)
    await asyncio.gather(other.destroy(sandbox_handle), other.destroy(sandbox_handle))
    assert not is_alive(pid)
    await bubblewrap.destroy(sandbox_handle)
    assert not await bubblewrap.check(sandbox_handle)


async def test_another_process_uses_and_destroys_a_sandbox(
    bubblewrap: BubblewrapProvider, sandbox_handle: str, cell: Run
) -> None:
    await cell("x = 42")
    other = await start_python(
        """
        import asyncio, sys
        from agentstore.sandbox.bubblewrap import BubblewrapProvider
        async def main():
            provider = BubblewrapProvider()
            await provider.connect(sys.argv[1])
            print((await provider.exec(sys.argv[1], "run_ipython_cell", {"code": "print(x)"}, 60)).text, end="")
            await provider.destroy(sys.argv[1])
            await provider.destroy(sys.argv[1])
            print(await provider.check(sys.argv[1]))
        asyncio.run(main())
        """,
        sandbox_handle,
    )
    output, _ = await other.communicate()
    assert output == b"42\nFalse\n"
    with pytest.raises(SandboxLost):
        await cell("1")
    await wait_until(lambda: not bubblewrap._running)
    assert not exists(folder_of(sandbox_handle))


async def test_sandbox_ends_with_the_process_that_created_it(bubblewrap: BubblewrapProvider) -> None:
    owner = await start_python(
        """
        import asyncio
        from agentstore.sandbox.bubblewrap import BubblewrapProvider
        from agentstore.schemas.sandbox import SandboxSpec
        async def main():
            provider = BubblewrapProvider()
            handle = await provider.create(SandboxSpec("test"))
            await provider.exec(handle, "run_shell_command", {"command": "setsid sleep 1000 &"}, 60)
            print(handle, flush=True)
            await asyncio.sleep(1000)
        asyncio.run(main())
        """
    )
    assert owner.stdout is not None
    handle = (await owner.stdout.readline()).decode()
    pid = json.loads(handle)["pid"]
    assert await bubblewrap.check(handle)
    owner.kill()
    await owner.communicate()
    await wait_until(lambda: not is_alive(pid))
    assert not await bubblewrap.check(handle)
    with pytest.raises(SandboxLost):
        await bubblewrap.connect(handle)
    with pytest.raises(SandboxLost):
        await bubblewrap.exec(handle, "read_file", {"path": "x"}, TIMEOUT)
    folder = folder_of(handle)
    os.utime(folder, (0, 0))  # so old that it cannot belong to a sandbox that is being started
    await BubblewrapProvider().start()
    assert not exists(folder)


async def test_killed_sandbox_is_lost(bubblewrap: BubblewrapProvider, sandbox_handle: str, shell: Run) -> None:
    call = asyncio.create_task(shell("sleep 1000"))
    while "sleep" not in (await shell("ps ax")).text:
        pass
    os.kill(process_of(bubblewrap), signal.SIGKILL)
    with pytest.raises(SandboxLost):
        await call
    assert not await bubblewrap.check(sandbox_handle)
    await wait_until(lambda: not bubblewrap._running)


@pytest.mark.parametrize("by_owner", [True, False], ids=["by its owner", "by another provider"])
async def test_stopped_sandbox_does_not_respond_and_can_be_destroyed(
    bubblewrap: BubblewrapProvider, sandbox_handle: str, by_owner: bool
) -> None:
    pid = process_of(bubblewrap)
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(TIMEOUT):
        assert not await bubblewrap.check(sandbox_handle)
    await (bubblewrap if by_owner else BubblewrapProvider()).destroy(sandbox_handle)
    await wait_until(lambda: not is_alive(pid))


def test_sandbox_can_be_destroyed_from_another_event_loop() -> None:
    for provider in (BubblewrapProvider(), UnsafeSubprocessProvider()):
        one, other = (asyncio.run(provider.create(SandboxSpec("test"))) for _ in range(2))
        asyncio.run(asyncio.wait_for(provider.destroy(one), TIMEOUT))
        assert not asyncio.run(provider.check(one))
        asyncio.run(asyncio.wait_for(provider.stop(), TIMEOUT))
        assert not asyncio.run(provider.check(other))


async def test_large_files_are_read_completely_whatever_they_contain(bubblewrap: BubblewrapProvider) -> None:
    handle = await bubblewrap.create(SandboxSpec("test"))
    for content in ("\0" * 15_000_000, "密" * 5_000_000, "\U0001f600" * 3_900_000, "a" * 10_001):
        data = base64.b64encode(content.encode()).decode()
        await bubblewrap.exec(handle, "write_file", {"path": "large", "blob": data}, TIMEOUT)
        assert (await bubblewrap.exec(handle, "read_file", {"path": "large"}, TIMEOUT)).text == content


_DELAYED_REPLY = """
import asyncio
session = get_ipython().kernel.session
send = session.send
def send_later(stream, kind, *args, **options):
    if kind != "execute_reply":
        return send(stream, kind, *args, **options)
    asyncio.get_event_loop().call_later(0.3, lambda: send(stream, kind, *args, **options))
    return {"content": args[0]}
session.send = send_later
"""


async def test_late_reply_to_an_earlier_cell_does_not_end_the_next(cell: Run) -> None:
    await cell(_DELAYED_REPLY)
    result = await cell("while True: await asyncio.sleep(0.01)", timeout=2)
    assert "timed out after 2 s" in result.text


async def test_destroyed_sandbox_leaves_nothing(bubblewrap: BubblewrapProvider) -> None:
    handle = await bubblewrap.create(SandboxSpec("test"))
    command = {"command": "setsid sleep 1000 & sleep 1000 & echo"}
    await bubblewrap.exec(handle, "run_shell_command", command, TIMEOUT)
    running = next(iter(bubblewrap._running.values()))
    await bubblewrap.destroy(handle)
    assert running.process.returncode is not None
    assert not is_alive(running.pid)
    assert not exists(running.folder)


@pytest.mark.parametrize("after", [0.0, 0.005, 0.02, 0.05, 0.08])
async def test_cancelled_create_leaves_nothing(after: float, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = BubblewrapProvider()
    with tempfile.TemporaryDirectory(prefix="agentstore-") as base:  # other tests create sandboxes in /tmp meanwhile
        os.chmod(base, 0o1777)
        monkeypatch.setattr(handles, "find_base", lambda: base)
        await provider.start()
        descriptors = set(os.listdir("/proc/self/fd"))
        call = asyncio.create_task(provider.create(SandboxSpec("test")))
        await asyncio.wait({call}, timeout=after)
        call.cancel()
        await asyncio.wait({call})
        await provider.stop()  # in case it was created before it could be cancelled
        assert os.listdir(base) == []
    assert bwrap_children() == []
    assert len(set(os.listdir("/proc/self/fd")) - descriptors) <= 1  # the descriptor of the listing itself


async def test_sandbox_of_another_host_is_unavailable_and_its_host_is_named(
    bubblewrap: BubblewrapProvider, sandbox_handle: str
) -> None:
    elsewhere = json.dumps({**json.loads(sandbox_handle), "host": "elsewhere"})
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: bubblewrap.connect(elsewhere),
        lambda: bubblewrap.check(elsewhere),
        lambda: bubblewrap.exec(elsewhere, "read_file", {"path": "x"}, TIMEOUT),
        lambda: pack(bubblewrap, elsewhere),
    ]
    for call in calls:
        with pytest.raises(SandboxUnavailable, match="runs on the host elsewhere"):
            await call()


@pytest.mark.parametrize("handle", ["", "{}", "[]", "null", '{"host": 1}', "[" * 200_000, '{"a":' * 200_000])
async def test_invalid_handle_is_rejected(bubblewrap: BubblewrapProvider, handle: str) -> None:
    with pytest.raises(SandboxFailed):
        await bubblewrap.check(handle)


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/etc/agentstore-sandbox-0123456789abcdef/s", "id": "0123456789abcdef"},
        {"path": "/tmp/agentstore-sandbox-../../etc/s", "id": "../../etc"},
        {"id": "0123456789abcdef"},
        {"pid": 1},
        {"pid": True},
        {"pid": "1"},
    ],
)
async def test_handle_with_another_path_or_an_invalid_pid_is_rejected(
    bubblewrap: BubblewrapProvider, sandbox_handle: str, changes: dict[str, Any]
) -> None:
    changed = json.dumps({**json.loads(sandbox_handle), **changes})
    for call in (bubblewrap.check(changed), bubblewrap.destroy(changed)):
        with pytest.raises(SandboxFailed):
            await call
    assert await bubblewrap.check(sandbox_handle)


async def test_process_that_a_handle_names_is_killed_only_if_it_is_the_box(
    bubblewrap: BubblewrapProvider, sandbox_handle: str
) -> None:
    bystander = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    await bubblewrap.destroy(sandbox_handle)
    started = processes.read_start_time(bystander.pid)
    await bubblewrap.destroy(json.dumps({**json.loads(sandbox_handle), "pid": bystander.pid, "started": started}))
    await bystander.communicate(b"\n")
    assert bystander.returncode == 0


async def test_folder_of_a_handle_that_belongs_to_another_user_is_rejected(
    bubblewrap: BubblewrapProvider, sandbox_handle: str
) -> None:
    await bubblewrap.destroy(sandbox_handle)
    os.symlink("/etc", folder_of(sandbox_handle))
    try:
        with pytest.raises(SandboxFailed, match="another user"):
            await bubblewrap.destroy(sandbox_handle)
    finally:
        os.unlink(folder_of(sandbox_handle))


@pytest.mark.parametrize(
    "response",
    [
        b"\xff\xff\xff\xff" + b"x" * 1000,
        struct.pack("!I", 7) + b"no json",
        struct.pack("!I", 2) + b"[]",
        struct.pack("!I", 2) + b"{}",
        struct.pack("!I", 200_000) + b"[" * 200_000,
        *(
            struct.pack("!I", len(text)) + text
            for text in (
                b'{"result": {"content": [{"type": "text"}], "isError": false}}',
                b'{"result": {"content": [{"type": "text", "text": 1}], "isError": false}}',
                b'{"result": {"content": [{"type": "other", "text": "x"}], "isError": false}}',
                b'{"result": {"content": {}, "isError": false}}',
                b'{"result": {"content": [], "isError": 0}}',
            )
        ),
        b"",
        b"\x00\x00",
    ],
)
async def test_malformed_response_is_an_error(
    bubblewrap: BubblewrapProvider, sandbox_handle: str, response: bytes
) -> None:
    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        await writer.drain()
        writer.close()

    path = json.loads(sandbox_handle)["path"]
    os.unlink(path)
    async with await asyncio.start_unix_server(respond, path):
        with pytest.raises((SandboxFailed, SandboxLost)):
            await bubblewrap.exec(sandbox_handle, "read_file", {"path": "x"}, TIMEOUT)
        assert not await bubblewrap.check(sandbox_handle)


async def test_sandbox_that_does_not_respond_is_unavailable(
    bubblewrap: BubblewrapProvider, sandbox_handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE", 0.1)
    os.kill(process_of(bubblewrap), signal.SIGSTOP)
    with pytest.raises(SandboxUnavailable, match="did not respond within"):
        await bubblewrap.exec(sandbox_handle, "read_file", {"path": "x"}, 0.1)


async def test_error_without_bubblewrap_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        await BubblewrapProvider().start()


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("echo bubblewrap 0.6.1", "0.8 or newer"),
        ('[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit; echo "bwrap: No permissions" >&2; exit 1', "No perm"),
    ],
)
async def test_error_of_bubblewrap_that_cannot_be_used_has_its_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, match: str
) -> None:
    write_program(tmp_path, "bwrap", f"#!/bin/sh\n{script}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxUnavailable, match=match):
        await BubblewrapProvider().start()


async def test_shell_works_without_ipykernel_and_cells_say_what_to_install(tmp_path: Path) -> None:
    await asyncio.to_thread(venv.create, tmp_path / "bare", symlinks=True)
    provider = BubblewrapProvider(python=str(tmp_path / "bare/bin/python"))
    handle = await provider.create(SandboxSpec("test"))
    assert (await provider.exec(handle, "run_shell_command", {"command": "echo works"}, TIMEOUT)).part(
        "stdout"
    ) == "works\n"
    with pytest.raises(SandboxUnavailable, match=r"agentstore-postgres\[sandbox\]"):
        await provider.exec(handle, "run_ipython_cell", {"code": "1"}, TIMEOUT)
    await provider.stop()


async def test_stopped_provider_can_be_used_again(bubblewrap: BubblewrapProvider, sandbox_handle: str) -> None:
    await bubblewrap.stop()
    assert not await bubblewrap.check(sandbox_handle)
    assert await bubblewrap.check(await bubblewrap.create(SandboxSpec("test")))


@pytest.mark.parametrize("after", [0.0, 0.05, 0.15])
async def test_sandbox_that_is_being_created_does_not_outlive_a_stop(after: float) -> None:
    provider = BubblewrapProvider()
    await provider.start()
    creating = asyncio.create_task(provider.create(SandboxSpec("test")))
    done, _ = await asyncio.wait({creating}, timeout=after)
    await provider.stop()
    await asyncio.wait({creating})
    assert done or isinstance(creating.exception(), SandboxUnavailable)
    assert bwrap_children() == []
    assert provider._watcher is None


async def test_process_that_is_not_the_child_of_bubblewrap_is_never_ended(
    bubblewrap: BubblewrapProvider, sandbox_handle: str
) -> None:
    """As if the sandbox had exited at once and its pid were that of another process."""
    running = next(iter(bubblewrap._running.values()))
    bystander = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    with pytest.raises(ProcessLookupError):
        running.open_process(bystander.pid)
    await bubblewrap.destroy(sandbox_handle)
    await bystander.communicate(b"\n")
    assert bystander.returncode == 0


async def test_forked_process_has_no_descriptors_of_the_box_however_many_the_owner_has() -> None:
    provider = UnsafeSubprocessProvider()
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(300)]
    handle = await provider.create(SandboxSpec("test"))
    for each in held:
        os.close(each)
    assert not (await provider.exec(handle, "list_files", {"path": "."}, TIMEOUT)).is_error
    box = json.loads(handle)["pid"]
    opened = read_descriptors_of_children(box)
    await provider.stop()
    assert len(opened) == 4
    assert opened.count("/dev/null") == 3


async def test_unsafe_subprocess_has_the_same_tools_and_leaves_nothing() -> None:
    provider = UnsafeSubprocessProvider()
    handle = await provider.create(SandboxSpec("test"))
    run = "run_shell_command"
    assert (await provider.exec(handle, run, {"command": "echo x > file; cat file"}, TIMEOUT)).part("stdout") == "x\n"
    assert (await provider.exec(handle, "run_ipython_cell", {"code": "1 + 1"}, TIMEOUT)).text == "Out[1]: 2\n"
    assert (await provider.exec(handle, "read_file", {"path": "file"}, TIMEOUT)).text == "x\n"
    assert (await provider.exec(handle, "read_file", {"path": "/etc/passwd"}, TIMEOUT)).is_error
    started = await provider.exec(handle, run, {"command": "setsid sleep 1000 & echo $!"}, TIMEOUT)
    pid = int(started.part("stdout") or 0)
    assert is_alive(pid)
    assert [piece async for piece in provider.pack(handle, TIMEOUT)]
    await provider.destroy(handle)
    await wait_until(lambda: not is_alive(pid))
    assert not exists(folder_of(handle))


async def test_archive_follows_no_link_that_is_put_in_its_way(tmp_path: Path) -> None:
    provider = UnsafeSubprocessProvider()
    handle = await provider.create(SandboxSpec("test"))
    (tmp_path / "out").write_text("unchanged")
    command = {"command": f"ln -s {tmp_path}/out file; ln -s {tmp_path} folder"}
    await provider.exec(handle, "run_shell_command", command, TIMEOUT)
    await provider.unpack(handle, iterate(archive_of((member("file"), b"new"))), TIMEOUT)
    assert (await provider.exec(handle, "read_file", {"path": "file"}, TIMEOUT)).text == "new"
    for name in ("folder/out", "folder/./out", "folder/more/out"):
        with pytest.raises(SandboxFailed, match="cannot be unpacked"):
            await provider.unpack(handle, iterate(archive_of((member(name), b"new"))), TIMEOUT)
    await provider.stop()
    assert (tmp_path / "out").read_text() == "unchanged"
    assert os.listdir(tmp_path) == ["out"]
