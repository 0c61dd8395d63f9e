"""Limits of sandboxes that hold under attack, with cgroups and without."""

import asyncio
import os
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentstore.errors import SandboxLost
from agentstore.sandbox.bubblewrap import BubblewrapProvider
from agentstore.sandbox.cgroups import find_cgroups
from agentstore.sandbox.local import _Running
from agentstore.sandbox.processes import estimate_memory, has_autogroups, measure_memory
from agentstore.schemas.sandbox import SandboxLimits, SandboxSpec
from tests.sandbox.conftest import TIMEOUT, Run

pytestmark = pytest.mark.bubblewrap

SMALL = SandboxLimits(memory=300_000_000, processes=32, disk=16_000_000, files=500)

# Processes that allocate 60 MB each; whatever is killed is started again. It ends when 60 were started, or when 24 have
# their memory at the same time, which no limit here allows.
BURST = """
    import os, time
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    started, running, ready = 0, set(), set()
    while started < 60 and len(ready) < 24:
        if len(running) < 24:
            if (pid := os.fork()) == 0:
                memory = b"x" * 60_000_000
                os.write(writer, os.getpid().to_bytes(4, "little"))
                time.sleep(600)
            running.add(pid)
            started += 1
        else:
            time.sleep(0.001)
        try:
            pids = os.read(reader, 4096)
        except BlockingIOError:
            pids = b""
        ready.update(int.from_bytes(pids[at : at + 4], "little") for at in range(0, len(pids), 4))
        while running and (ended := os.waitpid(-1, os.WNOHANG)[0]):
            running.remove(ended)
        ready &= running
    os.kill(0, 9)
"""


def read_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.fixture
def limits() -> SandboxLimits:
    return SMALL


# For the tests of what differs between sandboxes with cgroups and without.
with_and_without_cgroups = pytest.mark.parametrize(
    "bubblewrap", ["cgroups", "no cgroups"] if find_cgroups() else ["no cgroups"], indirect=True
)


@pytest.fixture
async def bubblewrap(request: pytest.FixtureRequest) -> AsyncIterator[BubblewrapProvider]:
    provider = BubblewrapProvider()
    await provider.start()
    if getattr(request, "param", "") == "no cgroups":
        provider._cgroups = None
    yield provider
    await provider.stop()


async def write_script(tool: Run, script: str) -> None:
    assert not (await tool("write_file", path="script.py", content=textwrap.dedent(script))).is_error


@with_and_without_cgroups
async def test_memory_of_processes_that_fork_again_is_limited(bubblewrap: BubblewrapProvider) -> None:
    limits = SandboxLimits(memory=800_000_000, processes=32)
    handle = await bubblewrap.create(SandboxSpec("test", limits=limits))
    script = {"path": "script.py", "content": textwrap.dedent(BURST)}
    await bubblewrap.exec(handle, "write_file", script, TIMEOUT)
    (running,) = bubblewrap._running.values()
    command = {"command": "python3 script.py"}
    attack = asyncio.create_task(bubblewrap.exec(handle, "run_shell_command", command, TIMEOUT))
    most = 0
    while not attack.done():
        most = max(most, await asyncio.to_thread(measure, running))
    await asyncio.wait({attack})
    assert most > 0.5 * limits.memory
    assert most < (1.5 if running.cgroup is None else 1.15) * limits.memory
    if running.cgroup is not None:
        assert "process killed: the sandbox's processes used" in attack.result().text
        assert await bubblewrap.check(handle)
    elif isinstance(attack.exception(), SandboxLost):
        assert not await bubblewrap.check(handle)


def measure(running: _Running) -> int:
    """Return the most memory that the processes of a sandbox had so far, as its cgroup counted it, or have now."""
    if running.cgroup is None:
        return sum(measure_memory(estimate_memory({running.pid}).get(running.pid, {})).values())
    name = "memory.peak" if running.cgroup.version == 2 else "memory.max_usage_in_bytes"
    return int((running.cgroup.folders["memory"] / name).read_text())


async def test_locks_of_parts_of_files_are_limited(tool: Run, shell: Run) -> None:
    await write_script(
        tool,
        """
        import fcntl, os, sys, time
        count = 0
        with open(f"/tmp/{sys.argv[1]}", "w") as file:
            try:
                for count in range(20_000):
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2 * count)
            except OSError as error:
                print(count, error)
                open(f"/tmp/{sys.argv[1]}.done", "w").close()
            while not all(os.path.exists(f"/tmp/{number}.done") for number in range(1, 5)):
                time.sleep(0.01)
        """,
    )
    result = await shell("for i in 1 2 3 4; do python3 script.py $i & done; wait")
    counts = [int(line.split()[0]) for line in result.text.splitlines() if "No locks available" in line]
    assert len(counts) == 4, result.text
    assert 300 < sum(counts) <= 1_000
    result = await shell(
        "python3 -c \"import sqlite3; c = sqlite3.connect('x'); c.execute('create table t(a)'); c.commit()\""
    )
    assert not result.is_error, result.text


# Processes that use all processor time, each in a session of its own.
BUSY_SESSIONS = """
    import os
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            break
    while True: pass
"""


@pytest.mark.parametrize("bubblewrap", ["no cgroups"], indirect=True)
async def test_sessions_of_a_sandbox_together_weigh_as_one_process(bubblewrap: BubblewrapProvider) -> None:
    handle = await bubblewrap.create(SandboxSpec("test"))
    script = {"path": "script.py", "content": textwrap.dedent(BUSY_SESSIONS)}
    await bubblewrap.exec(handle, "write_file", script, TIMEOUT)
    (running,) = bubblewrap._running.values()
    command = {"command": "python3 script.py"}
    attack = asyncio.create_task(bubblewrap.exec(handle, "run_shell_command", command, TIMEOUT))
    async with asyncio.timeout(TIMEOUT):
        while len(busy := read_sessions(running.pid)) < 6 or not all(map(is_weighed, busy)):
            await asyncio.sleep(0.05)
    loop = [sys.executable, "-c", "while True: pass"]
    others = [await asyncio.create_subprocess_exec(*loop, start_new_session=True) for _ in range(os.cpu_count() or 1)]
    try:
        began = sum(map(read_processor_time, busy))
        while (time_of_others := sum(read_processor_time(each.pid) for each in others)) < 1:
            await asyncio.sleep(0.05)
        time_of_sandbox = sum(map(read_processor_time, busy)) - began
    finally:
        for each in others:
            each.kill()
            await each.wait()
        attack.cancel()
        await asyncio.wait({attack})
    assert time_of_sandbox < time_of_others


def read_sessions(root: int) -> list[int]:
    """Return the first processes of the sessions below a process."""
    return [each.pid for each in estimate_memory({root}).get(root, {}) if is_first_of_session(each.pid)]


def is_first_of_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def is_weighed(pid: int) -> bool:
    return not has_autogroups() or Path(f"/proc/{pid}/autogroup").read_text().endswith("nice 9\n")


def read_processor_time(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("held", [0, 450])
async def test_locks_that_are_held_briefly_are_granted_however_many(tool: Run, shell: Run, held: int) -> None:
    await write_script(
        tool,
        f"""
        import fcntl
        with open("/tmp/held", "w") as other, open("/tmp/file", "w") as file:
            for number in range({held}):
                fcntl.lockf(other, fcntl.LOCK_EX, 1, 2 * number)
            for _ in range(3_000):
                fcntl.lockf(file, fcntl.LOCK_EX)
                fcntl.lockf(file, fcntl.LOCK_UN)
        """,
    )
    result = await shell("python3 script.py")
    assert not result.is_error, result.text


@pytest.mark.parametrize(
    "attempt",
    [
        "fcntl.fcntl(open('x', 'w'), 37, struct.pack('hhqqi4x', 1, 0, 0, 1, 0))",  # F_OFD_SETLK
        "fcntl.fcntl(open('x', 'w'), 1024, 1)",  # F_SETLEASE
        "fcntl.fcntl(os.open('.', 0), 1026, 1)",  # F_NOTIFY
        "fcntl.fcntl(os.pipe()[1], 1031, 1_000_000)",  # F_SETPIPE_SZ
        "libc('inotify_init1', 0)",
        "libc('vmsplice', os.pipe()[1], 0, 0, 0)",
        "os.sched_setaffinity(1, {0})",
        "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
        "os.setpriority(os.PRIO_PROCESS, 1, 19)",
        "os.setpriority(os.PRIO_USER, os.getuid(), 19)",
        "os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)); os.setpriority(os.PRIO_PROCESS, 0, 0)",
        "open('/proc/self/oom_score_adj', 'w').write('0')",
    ],
)
async def test_call_that_no_tool_needs_is_refused(shell: Run, tool: Run, attempt: str) -> None:
    await write_script(
        tool,
        f"""
        import ctypes, fcntl, os, struct
        def libc(name, *arguments):
            if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        {attempt}
        """,
    )
    result = await shell("python3 script.py")
    assert "Error: " in result.text, result.text
    assert not (
        await shell("python3 -c 'import os; os.nice(1); os.sched_setaffinity(0, os.sched_getaffinity(0))'")
    ).text


async def test_terminals_are_limited(shell: Run) -> None:
    code = "import os\nwhile True: print(os.openpty())"
    result = await shell(f"python3 -c '{code}' | wc -l; script -qc 'echo works' /dev/null")
    assert int(result.text.split()[0]) <= 32
    assert "works" in result.text


@with_and_without_cgroups
async def test_machine_kills_sandboxes_first(bubblewrap: BubblewrapProvider, shell: Run) -> None:
    assert (await shell("cat /proc/1/oom_score_adj /proc/self/oom_score_adj")).part("stdout") == "1000\n1000\n"
    assert [read_score(each.pid) for each in bubblewrap._running.values()] == [1000]


async def test_protection_that_is_missing_is_an_error_of_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentstore.sandbox.box import confine

    def fail(path: str, text: str) -> None:
        raise PermissionError(13, f"{path} cannot be written")

    monkeypatch.setattr(confine, "_write", fail)
    with pytest.raises(PermissionError, match="oom_score_adj"):
        confine.confine({})


async def test_machine_is_not_described_in_proc(shell: Run) -> None:
    assert (await shell("cat /proc/cmdline /proc/locks /proc/keys 2>/dev/null")).part("stdout") == ""
    assert (await shell("touch /proc/self/comm")).is_error


@pytest.mark.skipif(os.geteuid() != 0, reason="of a bind mount, which an ordinary user can create, the path is visible")
async def test_paths_of_the_host_are_not_visible(shell: Run) -> None:
    seen = (await shell("cat /proc/self/mountinfo /proc/self/maps /proc/1/cmdline /proc/mounts")).text
    assert "/opt/python" in seen or "/usr" in seen
    assert sys.prefix not in seen
    assert sys.base_prefix == "/usr" or sys.base_prefix not in seen


@with_and_without_cgroups
async def test_groups_are_removed_with_their_sandboxes(bubblewrap: BubblewrapProvider, sandbox_handle: str) -> None:
    group = next(iter(bubblewrap._running.values())).cgroup
    if group is None:
        assert bubblewrap._cgroups is None
        return
    assert all(folder.is_dir() for folder in group.folders.values())
    assert "oom_kill " in os.pread(group.open_events(), 4096, 0).decode()
    await bubblewrap.destroy(sandbox_handle)
    assert not any(folder.exists() for folder in group.folders.values())


@with_and_without_cgroups
async def test_files_do_not_take_the_memory_of_processes(bubblewrap: BubblewrapProvider) -> None:
    limits = SandboxLimits(memory=150_000_000, disk=256_000_000)
    handle = await bubblewrap.create(SandboxSpec("test", limits=limits))
    for name in ("/workspace/a", "/tmp/a"):
        write = f"for i in $(seq 8); do head -c 6000000 /dev/zero >> {name}; sleep 0.12; done"
        assert not (await bubblewrap.exec(handle, "run_shell_command", {"command": write}, TIMEOUT)).is_error
    command = {"command": "python3 -c 'x = b\"x\" * 90_000_000'"}
    result = await bubblewrap.exec(handle, "run_shell_command", command, TIMEOUT)
    assert not result.is_error, result.text
