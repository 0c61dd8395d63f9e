"""Where the cgroups of sandboxes are created, and what happens at the edges of their lives."""

import asyncio
import errno
import platform
from pathlib import Path

import pytest

from agentstore.errors import SandboxUnavailable
from agentstore.sandbox import bubblewrap
from agentstore.sandbox.box import seccomp
from agentstore.sandbox.cgroups import Cgroup, Cgroups, _find_candidates, find_cgroups
from agentstore.sandbox.limits import MemoryWatch
from agentstore.schemas.sandbox import SandboxLimits


def candidates(mount: Path, path: str) -> list[Cgroups]:
    """Return the candidates of a process in a cgroup of version 2."""
    line = f"1 0 0:1 / {mount} rw - cgroup2 cgroup2 rw"
    return list(_find_candidates([["0", "", path]], [line.split()]))


def make_groups(mount: Path, *names: str, controllers: str = "cpu memory pids io") -> None:
    for folder in (mount, *(mount / name for name in names)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text(f"{controllers}\n")
        (folder / "cgroup.subtree_control").write_text("\n")


def test_groups_are_below_the_own_group_else_beside_it(tmp_path: Path) -> None:
    make_groups(tmp_path, "unit", "unit/main")
    found = candidates(tmp_path, "/unit/main")
    assert [each.folders["memory"] for each in found] == [tmp_path / "unit/main", tmp_path / "unit", tmp_path]
    assert (tmp_path / "unit/cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_controller_of_processor_time_is_not_needed(tmp_path: Path) -> None:
    make_groups(tmp_path, "unit", controllers="memory pids")
    (found, _) = candidates(tmp_path, "/unit")
    assert set(found.folders) == {"memory", "pids"}
    make_groups(tmp_path, "unit", controllers="memory cpu")
    assert candidates(tmp_path, "/unit") == []


@pytest.mark.parametrize(
    "limit", [("memory.max", "1000000\n"), ("memory.high", "1000000\n"), ("cpu.max", "50000 100000\n")]
)
def test_no_limit_of_the_own_group_is_left_behind(tmp_path: Path, limit: tuple[str, str]) -> None:
    make_groups(tmp_path, "unit", "unit/main")
    (tmp_path / "unit" / limit[0]).write_text(limit[1])
    (tmp_path / "unit/main/memory.max").write_text("max\n")
    (tmp_path / "unit/main/cpu.max").write_text("max 100000\n")
    found = candidates(tmp_path, "/unit/main")
    assert [each.folders["memory"] for each in found] == [tmp_path / "unit/main", tmp_path / "unit"]


@pytest.mark.skipif(find_cgroups() is None, reason="this process may not create cgroups")
async def test_searches_at_the_same_time_find_the_same() -> None:
    search = find_cgroups.__wrapped__
    found = await asyncio.gather(*(asyncio.to_thread(search) for _ in range(8)))
    assert found == [find_cgroups()] * 8


@pytest.mark.parametrize(
    ("users", "groups", "expected"),
    [
        ("0 0 4294967295", "0 0 4294967295", (0, 2**31)),
        ("0 1000 1\n1 100000 65536", "0 1000 1\n1 100000 65536", (1, 65_537)),
        ("0 0 10\n70000 70000 1", "0 0 10\n70000 70000 1", (0, 10)),
        ("0 0 1000\n5000 5000 100", "900 900 200", (900, 1_000)),
    ],
)
def test_user_of_a_sandbox_is_one_that_the_namespace_has(users: str, groups: str, expected: tuple[int, int]) -> None:
    assert bubblewrap._choose_range(users, groups) == expected


def test_namespace_without_a_user_for_sandboxes_is_an_error() -> None:
    with pytest.raises(SandboxUnavailable, match="user id"):
        bubblewrap._choose_range("0 0 10", "20 20 10")


def test_machine_without_a_filter_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="no seccomp filter for riscv64"):
        seccomp.install_filter(None)


class _Sandbox:
    """A sandbox whose cgroup fails as that of one that has just been ended, or counts its updates."""

    pid, memory_limit = 0, 0

    def __init__(self, error: int | None) -> None:
        self.excesses: list[float] = []
        self.updates = 0
        sandbox = self

        class _Group(Cgroup):
            def allow_files(self) -> None:
                if error is not None:
                    raise OSError(error, "the group has been removed")
                sandbox.updates += 1

        # With a folder for processor time; else the sessions of all processes below the pid 0 would be lowered.
        self.cgroup: Cgroup | None = _Group(2, {"cpu": Path()}, SandboxLimits())


@pytest.mark.parametrize("error", [errno.ENOENT, errno.ENODEV])
async def test_ended_sandbox_does_not_keep_others_from_their_room_for_files(error: int) -> None:
    async def ignore(sandbox: _Sandbox, text: str) -> None:
        raise AssertionError(text)

    sandboxes = [_Sandbox(error), _Sandbox(None)]
    await MemoryWatch(lambda: sandboxes, ignore, ignore)._look()
    assert sandboxes[1].updates == 1
