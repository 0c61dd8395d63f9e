"""What PostgresStore of langgraph-checkpoint-postgres has stored is imported: the same as if it had been put here."""

# pyright: reportMissingImports=false
import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentstore import AgentStore
from agentstore.testing import EXACT_VALUES
from tests.support.cli import run

pytestmark = pytest.mark.adapters

# What jsonb can store.
_VALUES = [value for value in EXACT_VALUES if "\\u0000" not in json.dumps(value) and "\\ud" not in json.dumps(value)]


@pytest.fixture
def source(direct_url: str, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store of the other package in a database of its own."""
    from langgraph.store.postgres import PostgresStore

    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    with PostgresStore.from_conn_string(empty_url) as other:
        other.setup()
        yield other


async def _import(url: str, *options: str, code: int = 0) -> Any:
    """Import a database, and return the counts, with what was printed to stderr as "err"."""
    done = await asyncio.to_thread(run, "import", "--from", "langgraph-store", url, "--json", *options)
    assert done.code == code, done.err
    return {**json.loads(done.out), "err": done.err}


def _adapter(store: AgentStore, **options: Any) -> Any:
    from agentstore.adapters.langgraph import AgentStoreStore

    return AgentStoreStore(store, **options)


async def test_items_are_imported_with_their_times_and_again_without_changes(
    source: Any, empty_url: str, store: AgentStore
) -> None:
    for number, value in enumerate(_VALUES):
        source.put(("alice", "memories"), f"k{number}", {"value": value, "text": f"likes tea {number}"})
    source.put(("bob", "a/b", "密"), "a key/1", {"text": "likes coffee"}, ttl=120)
    source.put(("bob",), "gone", {"text": "x"}, ttl=0)
    dry = await _import(empty_url, "--dry-run")
    assert (dry["documents"], dry["new_documents"]) == (len(_VALUES) + 1, 0)
    assert await store.users.list_users() == []
    first = await _import(empty_url)
    assert (first["documents"], first["new_documents"]) == (len(_VALUES) + 1, len(_VALUES) + 1)
    assert "it has expired" in first["err"]
    adapter = _adapter(store)
    for each in source.search((), limit=1000, refresh_ttl=False):
        item = await adapter.aget(each.namespace, each.key, refresh_ttl=False)
        if each.key == "gone":
            assert item is None
        else:
            assert item.dict() == {name: value for name, value in each.dict().items() if name != "score"}
    assert await adapter.alist_namespaces() == [("alice", "memories"), ("bob", "a/b", "密")]
    assert [each.key for each in await adapter.asearch(("bob",), query="coffee", refresh_ttl=False)] == ["a key/1"]
    document = (await store.documents.list("bob"))[0]
    until = document.item.valid_until
    assert until is not None
    assert until == source.conn.execute("SELECT expires_at FROM store WHERE key = 'a key/1'").fetchone()["expires_at"]
    await adapter.aget(("bob", "a/b", "密"), "a key/1")
    assert (await store.documents.list("bob"))[0].item.valid_until > until  # type: ignore[operator]
    assert (await _import(empty_url))["new_documents"] == 0


async def test_later_import_adds_and_replaces_what_was_written_in_the_source_since(
    source: Any, empty_url: str, store: AgentStore
) -> None:
    for key in ("a", "b", "c"):
        source.put(("alice",), key, {"n": 1})
    assert (await _import(empty_url))["new_documents"] == 3
    source.put(("alice",), "a", {"n": 2})
    source.put(("alice",), "b", {"n": 2})
    source.put(("alice",), "d", {"n": 2})
    adapter = _adapter(store)
    await adapter.aput(("alice",), "b", {"n": 3})  # here it is newer than in the source
    assert (await _import(empty_url))["new_documents"] == 2
    found = {each.key: each.value["n"] for each in await adapter.asearch(("alice",))}
    assert found == {"a": 2, "b": 3, "c": 1, "d": 2}


async def test_items_of_many_pages_belong_to_the_given_user(
    source: Any, empty_url: str, store: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langgraph.store.base import PutOp

    from agentstore.importing import langgraph_store

    monkeypatch.setattr(langgraph_store, "_PAGE", 7)
    source.batch([PutOp((f"n{number % 5}", "x"), f"k{number}", {"n": number}) for number in range(50)])
    assert (await _import(empty_url, "--user", "carol"))["new_documents"] == 50
    assert [user.id for user in await store.users.list_users()] == ["carol"]
    adapter = _adapter(store, user_id="carol")
    assert len(await adapter.asearch((), limit=100)) == 50


async def test_item_that_cannot_be_stored_is_reported_and_the_others_are_imported(
    source: Any, empty_url: str, store: AgentStore
) -> None:
    source.put(("alice",), "k" * 600, {"n": 1})
    source.put(("alice",), "good", {"n": 1})
    source.conn.execute("INSERT INTO store (prefix, key, value) VALUES ('alice', 'list', '[1]')")
    done = await _import(empty_url, code=5)
    assert (done["documents"], done["new_documents"], done["problems"]) == (1, 1, 2)
    assert "item list in alice" in done["err"]
    assert [each.key for each in await _adapter(store).asearch(("alice",))] == ["good"]


async def test_table_of_the_first_releases_and_a_missing_one(source: Any, empty_url: str, store: AgentStore) -> None:
    source.put(("alice",), "k", {"n": 1})
    source.conn.execute("ALTER TABLE store DROP COLUMN expires_at, DROP COLUMN ttl_minutes")
    assert (await _import(empty_url))["new_documents"] == 1
    source.conn.execute("DROP TABLE store CASCADE")
    done = await asyncio.to_thread(run, "import", "--from", "langgraph-store", empty_url)
    assert done.code == 2
    assert "lacks the expected tables" in done.err
