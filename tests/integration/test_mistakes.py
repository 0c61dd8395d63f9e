"""Common mistakes whose errors need a database."""

import io
import re
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore, Closed, InvalidContent, Message, NotConfigured


async def test_an_unknown_database_is_named(direct_url: str) -> None:
    url = re.sub(r"/agentstore_test_\w+", "/hunter2", direct_url)
    assert url != direct_url
    with pytest.raises(NotConfigured, match=r"/hunter2 names a database that does not exist: .*CREATE DATABASE"):
        async with AgentStore(url):
            pass


async def test_a_path_or_a_text_file_is_no_file_of_an_export(direct_url: str, tmp_path: Path) -> None:
    path: Any = tmp_path / "export"
    text: Any = io.StringIO()
    async with AgentStore(direct_url) as store:
        await store.sessions.append("alice", "s", Message.user("hello"))
        for call in (store.export, store.restore):
            with pytest.raises(InvalidContent, match="got the path"):
                await call(path)
            with pytest.raises(InvalidContent, match="got the path"):
                await call(str(path))  # type: ignore[arg-type]
            with pytest.raises(InvalidContent, match="text mode"):
                await call(text)
        assert not path.exists()
        file = io.BytesIO()
        assert await store.export(file) is not None
        assert (await store.restore(file)).rows["messages"] == 0


async def test_a_closed_store_says_how_to_use_it_again(direct_url: str) -> None:
    async with AgentStore(direct_url) as store:
        pass
    for call in (store.sessions.list_sessions("alice"), store.memory.search_memory("alice", "tea"), store.stats()):
        with pytest.raises(Closed, match=r"was stopped: call start\(\) to use it again"):
            await call
