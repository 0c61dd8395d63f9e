"""The contract of DocumentService."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.interfaces import DocumentService
from agentstore.schemas import Deleted, MemoryItem, StoredDocument
from agentstore.testing.values import CLOCK_SKEW, EXACT_VALUES, HOSTILE_IDS, NON_JSON_VALUES

_HOUR = timedelta(hours=1)


def _document(id: str, text: str = "", **fields: Any) -> dict[str, Any]:
    return {"id": id, "text": text, **fields}


@pytest.mark.asyncio
class DocumentContract:
    """Tests that every DocumentService must pass.

    Fixture ``service``: a new, empty service.
    """

    async def test_document_round_trips_and_is_replaced(self, service: DocumentService) -> None:
        found = await service.get("alice", ["a", "b"])
        assert found == {}
        began = datetime.now(UTC) - CLOCK_SKEW
        for number, value in enumerate(EXACT_VALUES):
            given = _document("a", f"text {number}", metadata={"x": value}, namespace="n/m", importance=0.25)
            await service.put("alice", given)
            for stale_ok in (False, True):
                found = await service.get("alice", ["b", "a", "a"], stale_ok=stale_ok)
                assert found["a"].item == MemoryItem(**given, kind="document")
                assert repr(found["a"].item.metadata) == repr({"x": value})
            assert list(found) == ["a"]
            assert began <= found["a"].created_at <= found["a"].updated_at <= datetime.now(UTC) + CLOCK_SKEW
        first = found["a"]
        await service.put("alice", [_document("a", "old"), _document("a", "new"), _document("b")])
        found = await service.get("alice", ["a", "b"])
        assert [found[id].item.text for id in ("a", "b")] == ["new", ""]
        assert found["a"].created_at == first.created_at
        assert found["a"].updated_at > first.updated_at
        assert await service.get("bob", ["a"]) == {}

    async def test_hostile_ids_do_not_collide(self, service: DocumentService) -> None:
        for user in HOSTILE_IDS:
            await service.put(user, [_document(id, metadata={"of": [user, id]}) for id in HOSTILE_IDS])
        for user in HOSTILE_IDS:
            found = await service.get(user, HOSTILE_IDS)
            stored = {id: each.item.metadata["of"] for id, each in found.items()}
            assert stored == {id: [user, id] for id in HOSTILE_IDS}

    async def test_invalid_documents_are_refused_and_nothing_is_written(self, service: DocumentService) -> None:
        invalid: list[dict[str, Any]] = [
            *({"metadata": {"x": value}} for value in NON_JSON_VALUES),
            {"id": "a\0"},
            {"kind": "fact"},
            {"namespace": "a//b"},
            {"valid_from": datetime.now(UTC)},
            {"valid_until": datetime.now()},
            {"unknown": 1},
        ]
        for fields in invalid:
            with pytest.raises(InvalidContent):
                await service.put("alice", [_document("b"), {**_document("a"), **fields}])
        assert await service.get("alice", ["b"]) == {}
        for wrong in ("b", ["a\0"], [1]):
            with pytest.raises(InvalidContent):
                await service.get("alice", wrong)  # type: ignore[arg-type]
            with pytest.raises(InvalidContent):
                await service.delete("alice", wrong)  # type: ignore[arg-type]
        with pytest.raises(LimitExceeded):
            await service.list("alice", limit=10_001)
        with pytest.raises(LimitExceeded):
            await service.list_namespaces(limit=10_001)
        for cursor in ("x", "é"):
            with pytest.raises(InvalidContent):
                await service.list("alice", cursor=cursor)
            with pytest.raises(InvalidContent):
                await service.list_namespaces(cursor=cursor)

    async def test_documents_are_listed_newest_first_in_pages(self, service: DocumentService) -> None:
        for number in range(7):
            place = "a/b" if number % 2 else "a-b"
            await service.put("alice", _document(f"d{number}", namespace=place, metadata={"n": number % 3}))
        await service.put("alice", _document("d0", "replaced", namespace="a-b", metadata={"n": 0}))
        await service.put("bob", _document("other", namespace="a/b"))
        expected = [f"d{number}" for number in reversed(range(7))]
        for options in ({}, {"namespace": "a"}, {"namespace": "a-b"}, {"metadata": {"n": 1}}, {"namespace": "b"}):
            filters: dict[str, Any] = options
            wanted = [
                id
                for id in expected
                if filters.get("namespace") != "b"
                and ("namespace" not in filters or (int(id[1:]) % 2 == 1) == (filters["namespace"] == "a"))
                and ("metadata" not in filters or int(id[1:]) % 3 == 1)
            ]
            ids, cursor = [], None
            while True:
                page = await service.list("alice", limit=2, cursor=cursor, **filters)
                ids += [each.item.id for each in page]
                if (cursor := page.next_cursor) is None:
                    break
            assert ids == wanted
            page = await service.list("alice", limit=3, offset=1, **filters)
            assert [each.item.id for each in page] == wanted[1:4]
        assert await service.list("alice", limit=0) == await service.list("alice", offset=7) == []
        assert await service.list("alice", offset=2**70) == []
        newest = next(iter(await service.list("alice", limit=1)))
        assert newest == (await service.get("alice", ["d6"]))["d6"]

    async def test_documents_are_found_by_their_text(self, service: DocumentService) -> None:
        await service.put("alice", _document("tea", "Alice drinks green tea", namespace="a/x", metadata={"n": 1}))
        await service.put("alice", _document("apple", "爱丽丝喜欢红色的苹果", namespace="a", metadata={"n": 2}))
        await service.put("alice", _document("hidden", namespace="a", metadata={"text": "green tea"}))
        found = await service.search("alice", "Who drinks tea?")
        assert [each.item.id for each, _ in found] == ["tea"]
        assert found[0][1] > 0
        assert [each.item.id for each, _ in await service.search("alice", "红色苹果", namespace="a")] == ["apple"]
        assert await service.search("alice", "tea", namespace="b") == []
        assert await service.search("alice", "tea", metadata={"n": 2}) == []
        assert await service.search("alice", "tea", top_k=0) == await service.search("alice", "") == []
        await service.put("alice", _document("tea", "Alice drinks coffee", namespace="a/x"))
        assert await service.search("alice", "tea") == []

    async def test_expired_documents_do_not_exist(self, service: DocumentService) -> None:
        now = datetime.now(UTC)
        await service.put("alice", _document("gone", "tea", valid_until=now - _HOUR, namespace="gone"))
        await service.put("alice", _document("soon", "tea", valid_until=now + _HOUR, namespace="soon"))
        await service.put("alice", _document("always", "tea", namespace="always"))
        assert sorted(await service.get("alice", ["gone", "soon", "always"])) == ["always", "soon"]
        assert [each.item.id for each in await service.list("alice")] == ["always", "soon"]
        assert sorted(each.item.id for each, _ in await service.search("alice", "tea")) == ["always", "soon"]
        assert list(await service.list_namespaces("alice")) == [("alice", "always"), ("alice", "soon")]
        later = now + 2 * _HOUR
        await service.renew("alice", {"gone": later, "soon": later, "always": later, "missing": later})
        found = await service.get("alice", ["gone", "soon", "always"])
        assert {id: each.item.valid_until for id, each in found.items()} == {"soon": later, "always": None}
        await service.renew("alice", {"soon": now + _HOUR})
        assert (await service.get("alice", ["soon"]))["soon"].item.valid_until == later
        assert await service.delete_expired() == 1
        assert await service.delete_expired() == 0
        for wrong in ({"a": None}, {"a": datetime.now()}, ["a"]):
            with pytest.raises(InvalidContent):
                await service.renew("alice", wrong)  # type: ignore[arg-type]

    async def test_document_that_expired_is_created_again(self, service: DocumentService) -> None:
        await service.put("alice", _document("a", "old", valid_until=datetime.now(UTC) - _HOUR))
        await service.put("alice", _document("a", "new"))
        assert (await service.get("alice", ["a"]))["a"].item.text == "new"
        then, later = datetime(2025, 1, 2, tzinfo=UTC), datetime(2025, 3, 4, tzinfo=UTC)
        expired = [MemoryItem(id=id, text="old", kind="document", valid_until=later) for id in ("b", "c")]
        assert await service.import_documents("alice", [StoredDocument(each, then, then) for each in expired]) == 2
        await service.put("alice", [_document("b", "new"), _document("beside", "new")])
        imported = StoredDocument(expired[1].model_copy(update={"valid_until": None}), later, later)
        assert await service.import_documents("alice", [imported]) == 1
        found = await service.get("alice", ["b", "c", "beside"])
        assert found["b"].created_at == found["beside"].created_at
        assert found["c"].created_at == later
        assert await service.delete_expired() == 0

    async def test_namespaces_are_listed_in_pages(self, service: DocumentService) -> None:
        names = ["a", "a-b", "a/b", "a/b/c", "a.b", "b", "密"]
        for user in ("bob", "alice"):
            await service.put(user, [_document(f"{n}{name}", namespace=name) for name in names for n in range(3)])
        await service.put("alice", _document("without"))
        ordered = sorted(names, key=str.encode)
        expected = [(user, name) for user in ("alice", "bob") for name in ordered]

        async def pages(user: str | None, namespace: str | None, limit: int) -> list[tuple[str, str]]:
            found: list[tuple[str, str]] = []
            cursor = None
            while True:
                page = await service.list_namespaces(user, namespace=namespace, limit=limit, cursor=cursor)
                found += page
                if (cursor := page.next_cursor) is None:
                    return found

        for limit in (1, 3, 100):
            assert await pages(None, None, limit) == expected
            assert await pages("bob", None, limit) == expected[len(names) :]
            below = [name for name in ordered if name == "a" or name.startswith("a/")]
            assert await pages(None, "a", limit) == [(user, name) for user in ("alice", "bob") for name in below]
            assert await pages("alice", "a/b", limit) == [("alice", "a/b"), ("alice", "a/b/c")]
        assert await pages("carol", None, 5) == []

    async def test_deletion_is_idempotent(self, service: DocumentService) -> None:
        await service.put("alice", [_document(id, "tea") for id in "abc"])
        assert await service.delete("bob", ["a"]) == await service.delete("alice", []) == Deleted()
        assert await service.delete("alice", ["a", "b", "x"]) == Deleted(memories=2)
        assert await service.delete("alice", ["a", "b"]) == Deleted()
        assert list(await service.get("alice", ["x", "a", "b", "c"])) == ["c"]

    async def test_concurrent_puts_of_one_document_leave_one_of_them(self, service: DocumentService) -> None:
        await service.put("alice", _document("a", "first", metadata={"n": -1}))
        created_at = (await service.get("alice", ["a"]))["a"].created_at
        await asyncio.gather(
            *(
                service.put("alice", [_document(id, f"text {n}", metadata={"n": n}) for id in ("a", "b")])
                for n in range(16)
            )
        )
        found = await service.get("alice", ["a", "b"])
        assert found["a"].item.metadata["n"] in range(16)
        assert found["a"].item.text == f"text {found['a'].item.metadata['n']}"
        assert found["a"].created_at == created_at
        assert len(await service.list("alice")) == 2

    async def test_import_adds_what_is_new_with_its_times(self, service: DocumentService) -> None:
        item = MemoryItem(id="a", text="tea", kind="document", namespace="n")
        then, later = datetime(2025, 1, 2, tzinfo=UTC), datetime(2025, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
        given = [StoredDocument(item, then, later)]
        assert await service.import_documents("alice", given) == 1
        assert await service.get("alice", ["a"]) == {"a": given[0]}
        changed = StoredDocument(item.model_copy(update={"text": "x"}), then, later)
        other = StoredDocument(item.model_copy(update={"id": "b"}), later, later)
        assert await service.import_documents("alice", [changed, other]) == 1
        assert await service.get("alice", ["a", "b"]) == {"a": given[0], "b": other}
        assert [each.item.id for each in await service.list("alice")] == ["b", "a"]
        newer = StoredDocument(item.model_copy(update={"text": "newer"}), later, later + _HOUR)
        assert await service.import_documents("alice", [newer]) == 1
        assert await service.import_documents("alice", [newer]) == 0
        assert await service.get("alice", ["a"]) == {"a": newer._replace(created_at=then)}
        with pytest.raises(InvalidContent):
            await service.import_documents("alice", [StoredDocument(item, then, None)])  # type: ignore[arg-type]
