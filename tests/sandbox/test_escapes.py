"""Attempts of code in a sandbox to escape or to exhaust the host. After each, the host and the sandbox still work."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentstore.sandbox.bubblewrap import BubblewrapProvider
from agentstore.schemas.sandbox import SandboxLimits, SandboxSpec
from tests.sandbox.conftest import TIMEOUT, Run

pytestmark = pytest.mark.bubblewrap

SMALL = SandboxLimits(
    memory=400_000_000, processes=32, disk=8_000_000, files=500, file_size=4_000_000, output=100_000, open_files=128
)


@pytest.fixture
def limits() -> SandboxLimits:
    return SMALL


def user_of(pid: int) -> int:
    # The owner of its files in /proc is root, as it is not dumpable.
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("Uid:"))
    return int(line.split()[1])


async def assert_works(shell: Run) -> None:
    assert (await shell("echo works")).part("stdout") == "works\n"


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('1.1.1.1', 53), 2)",
        "socket.create_connection(('2606:4700:4700::1111', 53), 2)",
        "socket.create_connection(('169.254.169.254', 80), 2)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    ],
)
async def test_network_is_unreachable(shell: Run, attempt: str) -> None:
    result = await shell(f'python -c "import socket; {attempt}"')
    assert result.is_error
    assert "Address family not supported" in result.text


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_ALG", "AF_CAN"])
async def test_socket_families_other_than_unix_are_blocked(shell: Run, family: str) -> None:
    kind = {"AF_ALG": "SOCK_SEQPACKET", "AF_NETLINK": "SOCK_RAW"}.get(family, "SOCK_STREAM")
    result = await shell(f'python -c "import socket; socket.socket(socket.{family}, socket.{kind})"')
    assert "Address family not supported" in result.text


async def test_names_are_not_resolved(shell: Run) -> None:
    assert "gaierror" in (await shell("python -c \"import socket; socket.getaddrinfo('example.com', 80)\"")).text


async def test_servers_of_the_host_are_unreachable(shell: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = await shell(f"python -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 2)\"")
    assert "Address family not supported" in result.text


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/root", "/home", "/sys", "/var", "/run", "/etc/ssl", "/etc/machine-id", "/boot"]
)
async def test_files_of_the_host_do_not_exist(shell: Run, path: str) -> None:
    assert "No such file" in (await shell(f"ls {path}")).text


async def test_environment_of_the_host_is_not_visible(
    bubblewrap: BubblewrapProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", "postgresql://secret")
    handle = await bubblewrap.create(SandboxSpec("test"))
    result = await bubblewrap.exec(
        handle, "run_shell_command", {"command": "env; strings -a /proc/*/environ; cat /proc/*/environ"}, TIMEOUT
    )
    assert "secret" not in result.text


async def test_environment_of_a_sandbox_is_in_no_command_line(bubblewrap: BubblewrapProvider) -> None:
    handle = await bubblewrap.create(SandboxSpec("test", environment={"TOKEN": "private-value"}))
    assert (await bubblewrap.exec(handle, "run_shell_command", {"command": "echo $TOKEN"}, TIMEOUT)).text == (
        "private-value\n"
    )
    listing = await asyncio.create_subprocess_exec("ps", "axeww", stdout=subprocess.PIPE)
    assert b"private-value" not in (await listing.communicate())[0]


@pytest.mark.parametrize("place", ["/", "/usr", "/usr/bin", "/etc", "/dev", "/opt", "/opt/bin", "/opt/packages"])
async def test_directories_without_a_quota_are_read_only(shell: Run, place: str) -> None:
    result = await shell(f"touch {place}/x")
    assert "Read-only file system" in result.text
    assert (await shell(f"ls {place}/x")).is_error


async def test_writable_directories_are_exactly_those_with_a_quota(shell: Run) -> None:
    found = await shell("find / -xdev -type d -writable 2>/dev/null; find /dev /proc -type d -writable 2>/dev/null")
    # Directories on the read-only root count as writable for find, since the user owns them: try each.
    places = {place for place in (found.part("stdout") or "").split() if (await shell(f"touch {place}/x")).text == ""}
    assert {place for place in places if not place.startswith(("/dev/shm", "/tmp", "/workspace"))} == set()
    mounts = (await shell("grep -v ' ro,' /proc/mounts")).part("stdout") or ""
    assert {line.split()[1] for line in mounts.splitlines() if line.split()[0] == "tmpfs"} == {
        *("/workspace", "/tmp", "/dev/shm")
    }


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "link/passwd", "link", "/proc/1/environ", "/"])
async def test_file_tools_do_not_leave_the_workspace(shell: Run, tool: Run, path: str) -> None:
    await shell("ln -s /etc link")
    for attempt in (
        tool("read_file", path=path),
        tool("write_file", path=path + "/x", content="x"),
        tool("list_files", path=path),
        tool("remove_file", path=path + "/passwd"),
        tool("move_file", source=path + "/passwd", destination="mine"),
        tool("edit_file", path=path, edits=[{"oldText": "a", "newText": "b"}]),
        tool("search_files", path=path, pattern="passwd"),
        tool("get_file_info", path=path),
        tool("directory_tree", path=path),
        tool("create_directory", path=path + "/x"),
    ):
        result = await attempt
        assert result.is_error
        assert "is not in the workspace" in result.text


async def test_fork_bomb_is_killed(shell: Run) -> None:
    result = await shell("bomb() { bomb | bomb & }; bomb; sleep 60", timeout=1.5)
    assert "timed out after 1.5 s" in result.text
    await assert_works(shell)
    processes = int((await shell("ls -d /proc/[0-9]* | wc -l")).part("stdout") or 0)
    assert processes <= 5


async def test_background_processes_are_limited(shell: Run) -> None:
    start = "import subprocess\nwhile True: subprocess.Popen(['sleep', '1000'])"
    assert "BlockingIOError" in (await shell(f'python -c "{start}"')).text
    count = "import os; print(sum(name.isdigit() for name in os.listdir('/proc')))"
    # The limit was reached, so that the box had to kill the processes to start this one.
    assert int((await shell(f'exec python -c "{count}"')).part("stdout") or 0) <= SMALL.processes + 10
    await assert_works(shell)


async def test_memory_of_a_process_is_limited(shell: Run) -> None:
    result = await shell("python -c 'x = bytearray(500_000_000)'")
    assert "MemoryError" in result.text
    await assert_works(shell)


async def test_memory_of_all_processes_together_is_limited(shell: Run) -> None:
    hog = "import time; x = b'x' * 150_000_000; time.sleep(1000)"
    result = await shell(f'for i in 1 2 3 4; do python -c "{hog}" & done; wait -n; kill $(jobs -p)')
    assert "process killed: the sandbox's processes used" in result.text
    await assert_works(shell)


async def test_cell_that_exceeds_the_memory_limit_is_an_error(cell: Run) -> None:
    result = await cell("x = []\nwhile True: x.append(b'x' * 10_000_000)")
    assert result.is_error
    assert "MemoryError" in result.text or "process killed" in result.text
    assert "Out[" in (await cell("1 + 1")).text


async def test_memory_that_belongs_to_no_process_cannot_be_allocated(shell: Run) -> None:
    assert "Function not implemented" in (await shell("python -c 'import os; os.memfd_create(\"x\")'")).text
    assert "Function not implemented" in (await shell("ipcmk -M 1000000")).text
    for attempt in (
        "import mmap; mmap.mmap(-1, 1_000_000)",
        "import mmap, os; mmap.mmap(os.open('/dev/zero', os.O_RDWR), 1_000_000)",
        "import os; open('x', 'w'); os.setxattr('x', 'user.large', bytes(60_000))",
        "import socket; one, _ = socket.socketpair(); one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000_000)",
    ):
        result = await shell(f'python -c "{attempt}"')
        assert "Error: " in result.text, attempt
    assert (await shell("head -c 3 /dev/zero | od -An -c")).text.split() == ["\\0"] * 3


async def test_page_tables_count_towards_the_memory_limit(shell: Run) -> None:
    hog = "import mmap, time; m = mmap.mmap(-1, 240 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)"
    touch = "[m[place] for place in range(0, 240 << 30, 2 << 20)]; time.sleep(1000)"
    result = await shell(f'python -c "{hog}; {touch}"')
    assert "process killed: the sandbox's processes used" in result.text
    await assert_works(shell)


@pytest.mark.parametrize("place", ["/workspace", "/tmp", "/dev/shm"])
async def test_disk_quota_limits_bytes(shell: Run, place: str) -> None:
    script = f"cd {place}; for i in 1 2 3 4; do head -c 3000000 /dev/zero > $i || break; done; du -sb . | cut -f1"
    result = await shell(script)
    assert "No space left on device" in result.text
    assert int((result.part("stdout") or "0").split()[0]) <= SMALL.disk
    await assert_works(shell)


async def test_size_of_a_file_is_limited(shell: Run) -> None:
    await shell("head -c 6000000 /dev/zero > large")
    assert (await shell("stat -c %s large")).part("stdout") == f"{SMALL.file_size}\n"


@pytest.mark.parametrize("place", ["/workspace", "/tmp"])
async def test_disk_quota_limits_files(shell: Run, place: str) -> None:
    result = await shell(f"cd {place}; for i in $(seq 1000000); do : > $i || break; done; ls | wc -l")
    assert "No space left on device" in result.text
    assert int(result.part("stdout") or 0) <= SMALL.files
    await assert_works(shell)


async def test_endless_command_is_killed(shell: Run) -> None:
    result = await shell("while :; do :; done", timeout=0.5)
    assert result.is_error
    assert "timed out after 0.5 s" in result.text
    await assert_works(shell)


async def test_endless_command_is_killed_with_its_daemons(shell: Run) -> None:
    await shell("setsid sh -c 'setsid sleep 1000 & exec sleep 1000' & trap '' TERM INT; sleep 1000", timeout=0.5)
    assert (await shell("pgrep -c sleep")).part("stdout") == "0\n"


async def test_endless_cell_is_interrupted_and_variables_persist(cell: Run) -> None:
    await cell("value = 5")
    result = await cell("print('before', flush=True)\nwhile True: pass", timeout=1.5)
    assert result.part("stdout") == "before\n"
    assert "timed out after 1.5 s" in result.text
    assert (await cell("value")).text == "Out[3]: 5\n"


async def test_kernel_that_ignores_the_interrupt_is_killed(cell: Run) -> None:
    await cell("import signal")
    result = await cell("signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", timeout=1.5)
    assert "all variables are lost" in result.text
    assert (await cell("1 + 1")).part("stdout") == "Out[1]: 2\n"


@pytest.mark.parametrize(
    "command", ["yes", "yes >&2", "head -c 1000000000 /dev/zero", "python -c \"print('x' * 50_000_000)\""]
)
async def test_command_that_prints_endlessly_is_killed(shell: Run, command: str) -> None:
    result = await shell(command)
    assert result.is_error
    assert "the command was killed: it printed more than 100,000 bytes" in result.text
    assert len(result.text) < 250_000
    await assert_works(shell)


@pytest.mark.parametrize(
    "code",
    [
        "while True: print('x' * 1000)",
        "print('x' * 60_000_000)",
        "import sys\nfor _ in range(1_000_000): sys.stderr.write('x' * 1000)",
        "import os\nwhile True: os.write(1, b'x' * 10_000)",
    ],
)
async def test_cell_that_prints_endlessly_is_interrupted(cell: Run, code: str) -> None:
    result = await cell(code)
    assert result.is_error
    assert "printed more" in result.text
    assert len(result.text) < 250_000
    assert (await cell("1 + 1")).text.endswith("2\n")


async def test_processes_of_the_host_cannot_be_killed(shell: Run) -> None:
    bystander = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    await shell(f"kill -9 {bystander.pid}; kill -9 {os.getpid()}; kill -9 -1")
    await bystander.communicate(b"\n")
    assert bystander.returncode == 0
    await assert_works(shell)


@pytest.mark.parametrize("number", ["KILL", "STOP", "TERM", "INT", "SEGV"])
async def test_box_can_be_neither_killed_nor_stopped(shell: Run, number: str) -> None:
    await shell(f"kill -{number} 1")
    await assert_works(shell)


async def test_limits_of_the_box_cannot_be_changed(shell: Run) -> None:
    result = await shell("python -c 'import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (4, 4))'")
    assert "Operation not permitted" in result.text or "PermissionError" in result.text
    assert not (await shell("ulimit -n 100; ulimit -n")).is_error
    await assert_works(shell)


async def test_malformed_rich_output_is_an_error(cell: Run) -> None:
    hostile = "get_ipython().display_pub.publish({'text/html': [[[]] * 100_000], 'image/png': {}})"
    assert (await cell(hostile)).text
    assert "Out[" in (await cell("1 + 1")).text


FORGE = """
import json
kernel = get_ipython().kernel
session, socket, parent = kernel.session, kernel.iopub_socket, kernel.get_parent()["header"]
def forge(content, parent=parent):
    parts = [json.dumps(session.msg_header("stream"), default=str).encode(), json.dumps(parent, default=str).encode()]
    parts += [b"{}", content]
    socket.send_multipart([b"x", b"<IDS|MSG>", session.sign(parts), *parts])
"""


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.send_multipart([b'x', b'<IDS|MSG>', b'bad'])",
        "forge(b'{}')",
        "forge(b'[' * 10_000)",
        "forge(b'{}', {**parent, 'msg_id': 'another'})",
    ],
)
async def test_junk_on_the_channel_of_the_kernel_counts_as_output(cell: Run, attempt: str) -> None:
    result = await cell(f"{FORGE}\nwhile True: {attempt}")
    assert "the cell was interrupted: it printed more than 100,000 bytes" in result.text
    assert len(result.text) < 10_000
    assert ": 2\n" in (await cell("1 + 1")).text


async def test_deeply_nested_message_is_an_error_of_the_cell(cell: Run) -> None:
    result = await cell(f"{FORGE}\nforge(b'[' * 100_000 + b']' * 100_000)\nprint('after')")
    assert result.is_error
    assert result.part("stdout") == "after\n"
    assert "malformed message" in result.text
    assert (await cell("print('next')")).text == "next\n"


async def test_kernel_start_on_a_full_disk_is_an_error(shell: Run, cell: Run) -> None:
    await shell("head -c 20000000 /dev/zero >/tmp/full; for i in $(seq 600); do : >/tmp/$i; done")
    result = await cell("1 + 1")
    assert result.is_error
    assert "cannot be started" in result.text
    await shell("rm -f /tmp/*")
    assert (await cell("1 + 1")).part("stdout") == "Out[1]: 2\n"


async def test_box_can_be_neither_traced_nor_read(shell: Run) -> None:
    attach = "import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.ptrace(16, 1, 0, 0), ctypes.get_errno())"
    assert (await shell(f'python -c "{attach}"')).part("stdout") == "-1 1\n"
    for path in ("mem", "fd", "environ", "maps", "root", "cwd"):
        assert "Permission denied" in (await shell(f"ls /proc/1/{path}/ /proc/1/fd; cat /proc/1/{path}")).text
    assert "Permission denied" in (await shell("cat /proc/1/environ")).text


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs none /mnt || mount -t tmpfs none /tmp",
        "unshare -Urm mount -t tmpfs none /tmp",
        "unshare -Ur true",
        "unshare -m true",
        "umount -l /workspace",
        "mount -o remount,rw /usr",
        "chroot / true",
        "nsenter -t 1 -a true",
        "mknod /tmp/disk b 8 0",
        "su -c true",
    ],
)
async def test_privileged_commands_fail(shell: Run, command: str) -> None:
    assert (await shell(command)).is_error


async def test_user_namespaces_cannot_be_created_by_clone(shell: Run) -> None:
    # The seccomp filter does not check the flags of clone(2): the limit that bwrap --disable-userns sets applies.
    code = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); r = c.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)"
    result = await shell(f'python -c "{code}; r or os._exit(0); print(r, ctypes.get_errno())"')
    if os.uname().machine == "x86_64":
        assert result.part("stdout") == "-1 28\n"


async def test_no_capability_is_left(shell: Run) -> None:
    status = (await shell("cat /proc/self/status")).part("stdout") or ""
    values = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert {
        name: int(values[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    } == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
    assert values["NoNewPrivs"] == "1"


@pytest.mark.usefixtures("sandbox_handle")
async def test_each_box_runs_as_a_user_of_its_own_on_the_host(bubblewrap: BubblewrapProvider) -> None:
    await bubblewrap.create(SandboxSpec("test"))
    users = {user_of(each.pid) for each in bubblewrap._running.values()}
    if os.geteuid() == 0:
        assert len(users) == 2
        assert min(users) > 50_000
    else:
        assert users == {os.geteuid()}


async def test_named_pipe_does_not_block_a_tool(shell: Run, tool: Run) -> None:
    await shell("mkfifo pipe")
    assert "is not a regular file" in (await tool("read_file", path="pipe")).text
    await tool("write_file", path="pipe", content="x")
    assert (await tool("read_file", path="pipe")).text == "x"


async def test_sandboxes_under_attack_do_not_block_the_event_loop(bubblewrap: BubblewrapProvider) -> None:
    handles = [await bubblewrap.create(SandboxSpec("test", limits=SMALL)) for _ in range(3)]

    async def longest_step(command: str) -> float:
        """Return the most processor time that the event loop took at once while the command ran in each sandbox."""
        calls = asyncio.gather(
            *(bubblewrap.exec(each, "run_shell_command", {"command": command}, TIMEOUT) for each in handles)
        )
        steps = []
        while not calls.done():
            began = time.thread_time()
            await asyncio.sleep(0.01)
            steps.append(time.thread_time() - began)
        await calls
        return max(steps)

    harmless = await longest_step(f"head -c {SMALL.output} /dev/zero | tr '\\0' y")
    assert await longest_step("yes | tee /dev/null") < 20 * harmless
