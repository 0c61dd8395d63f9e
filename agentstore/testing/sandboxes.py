"""The contract of SandboxService."""

import asyncio
import base64
import random
from collections.abc import Callable
from typing import Any

import pytest

from agentstore.errors import Closed, InvalidContent, LimitExceeded, SandboxLost
from agentstore.interfaces import SandboxProvider, SandboxService

_DELETIONS = (("s", "bob"), ("u", "alice"), ("s", "alice"), ("s", "alice"))
"""Session and user of each call of ``delete_workspaces``: only the third one has a workspace to delete."""


@pytest.mark.asyncio
class SandboxContract:
    """Tests that every SandboxService that stores workspaces must pass.

    Fixtures:

    - ``provider``: a SandboxProvider,
    - ``service``: a new, empty service on that provider,
    - ``keeping``: another one, with ``Settings(sandbox_snapshots=True, max_workspace_bytes=100_000)``.

    The tests run harmless commands only, so the provider need not isolate its sandboxes.
    """

    async def test_connect_returns_the_same_sandbox_with_its_state(self, service: SandboxService) -> None:
        (one,) = await service.connect("s", "alice")
        assert (one.user_id, one.session_id, one.type) == ("alice", "s", "base")
        assert not (await one.run_ipython_cell("x = 41")).is_error
        (two,) = await service.connect("s", "alice")
        assert (two.sandbox_id, two.generation) == (one.sandbox_id, one.generation)
        assert (await two.run_ipython_cell("print(x + 1)")).part("stdout") == "42\n"

    async def test_concurrent_connects_return_one_sandbox(self, service: SandboxService) -> None:
        found = await asyncio.gather(*(service.connect("s", "alice") for _ in range(50)))
        assert len({sandbox.sandbox_id for (sandbox,) in found}) == 1
        assert len(await service.list("alice")) == 1

    async def test_each_user_and_session_has_its_own_sandbox(self, service: SandboxService) -> None:
        keys = [("a_b", "c"), ("a", "b_c"), ("c", "a_b"), ("a", ""), ("", "a"), ("a", None)]
        found = [(await service.connect(session, user))[0] for session, user in keys]
        # No user is the user "".
        assert len({sandbox.sandbox_id for sandbox in found}) == 5
        assert found[3].sandbox_id == found[5].sandbox_id
        assert found[3].user_id == ""

    async def test_connect_returns_types_in_order_and_creates_missing_ones(self, service: SandboxService) -> None:
        (base,) = await service.connect("s", "alice", ["base"])
        files, again, last = await service.connect("s", "alice", ["filesystem", "base", "filesystem"])
        assert [each.type for each in (files, again, last)] == ["filesystem", "base", "filesystem"]
        assert again.sandbox_id == base.sandbox_id
        assert files.sandbox_id == last.sandbox_id != base.sandbox_id
        assert await service.connect("s", "alice", []) == []

    @pytest.mark.parametrize("invalid", [["unknown"], "base", [7], 7, ["base", ""]])
    async def test_invalid_type_is_rejected_and_nothing_is_created(self, service: SandboxService, invalid: Any) -> None:
        with pytest.raises(InvalidContent):
            await service.connect("s", "alice", invalid)
        assert list(await service.list("alice")) == []

    @pytest.mark.parametrize("invalid", ["\0", "\ud800", "x" * 513, 7, b"x"])
    async def test_invalid_id_is_rejected(self, service: SandboxService, invalid: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: service.connect(invalid, "alice"),
            lambda: service.connect("s", invalid),
            lambda: service.release(invalid, "alice"),
            lambda: service.release("s", invalid),
            lambda: service.list(invalid),
        ]
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()

    async def test_connect_replaces_a_dead_sandbox(self, service: SandboxService, provider: SandboxProvider) -> None:
        (dead,) = await service.connect("s", "alice")
        await provider.destroy(dead.sandbox_id)
        with pytest.raises(SandboxLost):
            await dead.run_shell_command("true")
        (new,) = await service.connect("s", "alice")
        assert new.sandbox_id != dead.sandbox_id
        assert new.generation > dead.generation
        assert (await new.run_shell_command("echo alive")).part("stdout") == "alive\n"
        with pytest.raises(SandboxLost):
            await dead.run_shell_command("true")

    async def test_release_ends_sandboxes_once_and_returns_them(
        self, service: SandboxService, provider: SandboxProvider
    ) -> None:
        base, files = await service.connect("s", "alice", ["base", "filesystem"])
        (other,) = await service.connect("t", "alice")
        ended = await service.release("s", "alice")
        assert [(each.type, each.generation) for each in ended] == [
            ("base", base.generation), ("filesystem", files.generation),
        ]  # fmt: skip
        assert not await provider.check(base.sandbox_id)
        assert await service.release("s", "alice") == []
        assert await service.release("missing", "alice") == []
        for sandbox in (base, files):
            with pytest.raises(SandboxLost):
                await sandbox.run_shell_command("true")
        assert [each.session_id for each in await service.list("alice")] == ["t"]
        assert not (await other.run_shell_command("true")).is_error

    async def test_pages_contain_every_sandbox_once(self, service: SandboxService) -> None:
        for session in ("b", "a"):
            await service.connect(session, "alice", ["filesystem", "base"])
        await service.connect("a", "bob")
        wanted = [("a", "base"), ("a", "filesystem"), ("b", "base"), ("b", "filesystem")]
        assert [(each.session_id, each.type) for each in await service.list("alice")] == wanted
        found, cursor = [], None
        for _ in range(3):
            page = await service.list("alice", limit=2, cursor=cursor)
            found += [(each.session_id, each.type) for each in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == wanted
        assert {(each.state, each.provider) for each in await service.list("bob")} == {
            ("ready", (await service.list("alice"))[0].provider)
        }
        with pytest.raises(InvalidContent):
            await service.list("alice", cursor="invalid")

    async def test_files_can_be_written_listed_read_and_removed(self, service: SandboxService) -> None:
        (sandbox,) = await service.connect("s", "alice")
        assert not (await sandbox.write_file("a/b.txt", "密 'x'\n")).is_error
        assert not (await sandbox.write_file("raw", bytes(range(256)))).is_error
        assert (await sandbox.read_file("a/b.txt")).text == "密 'x'\n"
        (blob,) = (await sandbox.read_file("raw"))["content"]
        assert base64.b64decode(blob["blob"]) == bytes(range(256))
        listed = {each["text"]: each["description"] for each in (await sandbox.list_files())["content"]}
        assert listed == {"a": "directory", "raw": "file"}
        assert not (await sandbox.remove_file("a")).is_error
        assert [each["text"] for each in (await sandbox.list_files("."))["content"]] == ["raw"]
        for call in (sandbox.read_file("a/b.txt"), sandbox.read_file("../../etc/hostname"), sandbox.list_files("no")):
            assert (await call).is_error

    async def test_shell_command_returns_output_and_return_code(self, service: SandboxService) -> None:
        (sandbox,) = await service.connect("s", "alice")
        result = await sandbox.run_shell_command("echo out; echo err >&2; exit 3")
        assert result == {
            "content": [
                {"type": "text", "text": "out\n", "description": "stdout"},
                {"type": "text", "text": "err\n", "description": "stderr"},
                {"type": "text", "text": "3", "description": "returncode"},
            ],
            "isError": True,
        }
        assert not (await sandbox.call_tool("run_shell_command", {"command": "true"})).is_error

    async def test_timed_out_command_is_stopped_and_the_sandbox_survives(self, service: SandboxService) -> None:
        (sandbox,) = await service.connect("s", "alice")
        slow = await sandbox.run_shell_command("echo begun; sleep 60", timeout=2.5)
        assert slow.is_error
        assert slow.part("stdout") == "begun\n"
        assert "2.5 s" in str(slow.part("stderr"))
        assert not (await sandbox.run_shell_command("true")).is_error

    @pytest.mark.parametrize("invalid", [0, -1, ("1",), True, 10**9])
    async def test_invalid_call_is_rejected(self, service: SandboxService, invalid: Any) -> None:
        (sandbox,) = await service.connect("s", "alice")
        no_arguments: Any = invalid or [1]
        calls: list[Callable[[], Any]] = [
            lambda: sandbox.run_shell_command("true", timeout=invalid),
            lambda: sandbox.call_tool("no such tool", {}),
            lambda: sandbox.call_tool("run_shell_command", no_arguments),
            lambda: sandbox.run_shell_command(invalid),
            lambda: sandbox.write_file("x", invalid),
        ]
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()

    async def test_list_tools_returns_json_schemas(self, service: SandboxService) -> None:
        (sandbox,) = await service.connect("s", "alice")
        tools = (await sandbox.list_tools())["generic"]
        function = tools["run_ipython_cell"]["json_schema"]["function"]
        assert function["name"] == "run_ipython_cell"
        assert function["parameters"]["required"] == ["code"]
        assert {"run_shell_command", "read_file", "write_file", "list_files", "remove_file"} <= tools.keys()

    async def test_stored_workspace_outlives_its_sandbox(self, keeping: SandboxService) -> None:
        (sandbox,) = await keeping.connect("s", "alice")
        await sandbox.write_file("notes/day.txt", "kept")
        await sandbox.run_shell_command("ln -s notes/day.txt link; printf '#!/bin/sh\necho ran\n' >run; chmod +x run")
        await keeping.release("s", "alice")
        (new,) = await keeping.connect("s", "alice")
        assert new.generation > sandbox.generation
        assert (await new.read_file("notes/day.txt")).text == "kept"
        assert (await new.run_shell_command("cat link; ./run")).part("stdout") == "keptran\n"
        await new.remove_file("notes")
        await keeping.release("s", "alice", snapshot=False)
        assert (await (await keeping.connect("s", "alice"))[0].read_file("notes/day.txt")).text == "kept"
        (other,) = await keeping.connect("t", "alice")
        assert (await other.list_files())["content"] == []
        await keeping.release("s", "alice", snapshot=False)
        deleted = [await keeping.delete_workspaces(session, user) for session, user in _DELETIONS]
        assert deleted == [0, 0, 1, 0]
        assert (await (await keeping.connect("s", "alice"))[0].list_files())["content"] == []

    async def test_oversized_workspace_is_not_lost(self, keeping: SandboxService) -> None:
        (sandbox,) = await keeping.connect("s", "alice")
        await sandbox.write_file("large", random.Random(7).randbytes(200_000))  # noqa: S311
        with pytest.raises(LimitExceeded):
            await keeping.release("s", "alice")
        assert (await sandbox.run_shell_command("wc -c <large")).text.strip() == "200000"
        assert len(await keeping.release("s", "alice", snapshot=False)) == 1

    async def test_stop_ends_sandboxes_and_rejects_calls(
        self, service: SandboxService, provider: SandboxProvider
    ) -> None:
        (sandbox,) = await service.connect("s", "alice")
        assert await service.health()
        await service.stop()
        assert not await provider.check(sandbox.sandbox_id)
        assert not await service.health()
        for call in (service.connect("s", "alice"), service.release("s", "alice"), sandbox.run_shell_command("true")):
            with pytest.raises((Closed, SandboxLost)):
                await call
        await service.start()
        (again,) = await service.connect("s", "alice")
        assert again.sandbox_id != sandbox.sandbox_id
