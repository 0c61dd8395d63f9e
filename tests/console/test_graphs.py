"""The pages about documents and the checkpoints of graphs."""

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import ormsgpack
import pytest
import pytest_asyncio

from agentstore import AgentStore, __version__
from agentstore.console.checkpoints import decode, render_serialized
from agentstore.schemas.checkpoint import Checkpoint, Serialized
from tests.console.sample import fill_graph
from tests.console.support import Document, browser, check_harmless, links_of_rows, path


@pytest_asyncio.fixture
async def in_memory() -> AsyncIterator[Any]:
    opened: Any = AgentStore.in_memory()
    await fill_graph(opened)
    yield opened
    await opened.stop()


def _links(page: Document) -> list[str]:
    """Return the links of a page, without those to itself in another language or theme."""
    links = [str(each["href"]) for each in page.all("a", "href")]
    return [each for each in links if "lang=" not in each and "theme=" not in each]


def _last(link: str) -> str:
    return link.rpartition("=")[2]


async def test_documents_are_listed_by_namespace_searched_and_shown(in_memory: Any) -> None:
    many = [{"id": f"d{number:03}", "text": f"number {number}", "namespace": f"n{number % 3}"} for number in range(120)]
    await in_memory.documents.put("bob", many)
    async with browser(in_memory) as client:

        async def ids(**parameters: str) -> list[str]:
            where = path("/user", user="bob", show="documents", **parameters)
            return [_last(each) for each in await links_of_rows(client, where)]

        assert sorted(await ids()) == [each["id"] for each in many]
        assert sorted(await ids(namespace="n1")) == [f"d{number:03}" for number in range(120) if number % 3 == 1]
        assert (await ids(q="number 77"))[0] == "d077"
        assert await ids(q="77", namespace="n1") == []
        page = check_harmless((await client.get(path("/user", user="bob", show="documents"))).text)
        assert [_last(str(each["href"])) for each in page.all("a", "class", "chip")] == ["n0", "n1", "n2"]
        shown = (await client.get(path("/document", user="alice", id="settings"))).text
        assert "aisle" in Document(shown).text
        large = {"id": "large", "text": "x" * 100_000, "metadata": {"y": "z" * 300_000}}
        await in_memory.documents.put("bob", large)
        assert len((await client.get(path("/document", user="bob", id="large"))).text) < 200_000
        assert len((await client.get(path("/user", user="bob", show="documents"))).text) < 60_000


async def test_checkpoints_have_their_parents_channels_and_values(
    in_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with browser(in_memory) as client:
        tab = check_harmless((await client.get(path("/user", user="alice", show="checkpoints"))).text)
        (thread,) = (str(each["href"]) for each in tab.all("a", "data-row"))
        listed = check_harmless((await client.get(thread)).text)
        rows = [str(each["href"]) for each in listed.all("a", "data-row")]
        ids = ["1f04-0000", "1f03-0000", "1f02-5000", "1f02-0000", "1f01-0000", "1f00-0000"]
        assert [_last(each) for each in rows] == ids
        page = check_harmless((await client.get(rows[0])).text)
        chain = [_last(each) for each in _links(page) if "/checkpoint?" in each and "channel" not in each]
        assert chain == ["1f03-0000", "1f02-0000", "1f01-0000", "1f00-0000"]
        assert "step" in page.text
        assert "Sintra" in page.text  # what is pending
        channels = [each for each in _links(page) if "channel=" in each]
        assert [each.partition("channel=")[2].partition("&")[0] for each in channels] == ["image", "messages", "plan"]
        values = [check_harmless((await client.get(each)).text).text for each in channels]
        assert "cannot be shown" in values[0]
        assert "Plan three days" in values[1]
        assert all(f"agentstore {__version__} · Times are UTC" in each for each in values)  # not that of the channel
        assert "Lisbon" in values[2]
        monkeypatch.setitem(sys.modules, "ormsgpack", None)  # not installed
        plan = (await client.get(channels[2])).text
        assert "Lisbon" not in plan
        assert "cannot be shown" in plan


async def test_a_long_chain_and_a_large_value_are_cut(in_memory: Any) -> None:
    parent = None
    value = Serialized("json", json.dumps(["word " * 20] * 20_000).encode())
    for number in range(130):
        packed = Serialized("json", b"{}")
        given = Checkpoint("", f"c{number:03}", packed, packed, parent, None, {"large": "1"}, {"large": value})
        await in_memory.checkpoints.put("bob", "s", given, is_complete=True)
        parent = given.id
    async with browser(in_memory) as client:
        of = {"user": "bob", "session": "s", "namespace": "", "id": "c129"}
        page = check_harmless((await client.get(path("/checkpoint", **of))).text)
        chain = [each for each in _links(page) if "/checkpoint?" in each and "channel" not in each]
        assert [_last(each) for each in chain] == [f"c{number:03}" for number in range(128, 108, -1)]
        assert "Earlier ones are not shown" in page.text
        assert len((await client.get(path("/checkpoint", **of))).text) < 30_000
        assert len((await client.get(path("/checkpoint", **of, channel="large"))).text) < 400_000


def test_a_value_is_decoded_without_creating_objects() -> None:
    assert decode(Serialized("json", b"[1, null]")) == [1, None]
    assert decode(Serialized("null", b"")) is None
    for value in (
        Serialized("pickle", b"cos\nsystem\n(S'true'\ntR."),
        Serialized("json", b"{"),
        Serialized("json", b"[" * 100_000),
        Serialized("msgpack", b"\xc1"),
        Serialized("msgpack", b"\x91" * 10_000),
        Serialized("msgpack", b"\xc7\xff\x05" + bytes(10)),
        Serialized("json", b"\xff"),
    ):
        html, _ = render_serialized(value)
        check = Document(html).text
        assert "Traceback" not in check
    inner = ormsgpack.packb(["os", "system", ["true"], None])
    assert decode(Serialized("msgpack", ormsgpack.packb(ormsgpack.Ext(0, inner)))) == {"os.system": ["true"]}
    for level in range(200):
        packed = ormsgpack.packb({"call": ormsgpack.Ext(0, inner), "b": b"xyz", "level": level})
        inner = ormsgpack.packb([ormsgpack.Ext(5, packed)])
    assert "bytes" in json.dumps(decode(Serialized("msgpack", inner)))
