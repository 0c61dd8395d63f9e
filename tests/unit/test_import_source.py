"""Splitting files into JSON values: places, problems, and independence of chunk sizes."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstore.importing import source
from agentstore.importing.notes import Note
from agentstore.importing.source import Piece, read


def _read(data: bytes, *, max_bytes: int = 10_000, chunk: int = 1 << 18) -> list[Piece | Note]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_CHUNK", chunk)
        return list(read(io.BytesIO(data), max_bytes=max_bytes))


def _values(found: list[Piece | Note]) -> list[Any]:
    return [each.value for each in found if isinstance(each, Piece)]


def _problems(found: list[Piece | Note]) -> list[tuple[str, str]]:
    return [(each.place, each.reason) for each in found if isinstance(each, Note)]


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_OBJECTS = st.lists(st.dictionaries(st.text(), _JSON, max_size=4) | st.lists(_JSON, max_size=3), min_size=1, max_size=6)


@given(_OBJECTS, st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_array_elements_do_not_depend_on_chunk_size(
    values: list[Any], chunk: int, indent: int | None, escaped: bool
) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    found = _read(b" \n" + data + b"\n", chunk=chunk)
    assert not _problems(found)
    assert _values(found) == values
    for number, each in enumerate(found, 1):
        assert each.place.startswith(f"element {number} (byte ")
        begin = int(each.place.partition("(byte ")[2].rstrip(")")) - 2
        assert data[begin : begin + 1] in (b"{", b"[")


@given(_OBJECTS, st.integers(1, 40), st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \n"]), st.booleans())
def test_lines_do_not_depend_on_chunk_size(values: list[Any], chunk: int, end: bytes, ended: bool) -> None:
    values = [{"first": True}, *values]
    data = end.join(json.dumps(value).encode() for value in values) + (end if ended else b"")
    found = _read(data, chunk=chunk)
    assert _values(found) == values
    lines = [int(each.place.removeprefix("line ")) for each in found]
    assert [json.loads(data.split(b"\n")[line - 1]) for line in lines] == values


@given(st.binary(max_size=200), st.sampled_from([b"", b"[", b"[{", b'[{"a": "', b'{"a": 1}\n']), st.integers(1, 50))
def test_arbitrary_bytes_are_read_or_reported(data: bytes, before: bytes, chunk: int) -> None:
    found = _read(before + data, chunk=chunk)
    assert found
    assert all(each.reason for each in found if isinstance(each, Note))


def test_document_over_several_lines_is_one_value() -> None:
    assert _values(_read(json.dumps({"messages": [{"a": "}"}]}, indent=2).encode())) == [{"messages": [{"a": "}"}]}]


def test_reading_continues_after_surplus_brackets_and_between_arrays() -> None:
    for data in (b'[{"n": 1}}, {"n": 2}]', b'[{"n": 1}]\n[{"n": 2}]', b'[{"n": 1}]\n{"n": 2}'):
        values = _values(_read(data))
        assert values[0] == {"n": 1}
        assert values[1] in ({"n": 2}, [{"n": 2}])


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b'{"messages": [\n{"n": 1},\n{"n": 2}\n]}\n', [{"messages": [{"n": 1}, {"n": 2}]}]),
        (b'{\n"n": 1}\n{"n": 2}', [{"n": 1}, {"n": 2}]),
        (b'{\n{"n": 1}\n{"n": 2}\n', [{"n": 1}, {"n": 2}]),
        (b'{"messages": [\n{"n": 1}\n{"n": 2}\n', [{"n": 1}, {"n": 2}]),
        (b'{"n": 1}\n{"n": 2}', [{"n": 1}, {"n": 2}]),
        (b'{"n": "\n{"n": 2}', [{"n": 2}]),
        (b'{"n": 1}\n\0\0\0\0', [{"n": 1}]),
        (b'{"list": [\n' + b'{"n": 1},\n' * 200_000 + b'{"n": 1}]}', []),
    ],
)
def test_multi_line_object_is_distinguished_from_an_invalid_line(data: bytes, values: list[Any]) -> None:
    found = _read(data, max_bytes=10_000_000)
    assert [value for value in _values(found) if "n" in value or "messages" in value] == values


_SAID = b'[{"id": 1, "role": "user", "content": "x"}, {"role": "user"}]'


@pytest.mark.parametrize(
    ("data", "is_lines", "places"),
    [
        (_SAID, False, ["element 1 (byte 1)", "element 2 (byte 44)"]),
        (_SAID, True, ["line 1"]),
        (_SAID + b"\n" + _SAID, False, ["line 1", "line 2"]),
        (b" " + _SAID + b"\r\n\n{}\n", False, ["line 1", "line 3"]),
        (_SAID[:-5] + b"]\n" + _SAID, True, ["line 1", "line 2"]),
        (b'[{"from": "human", "value": "x"}]\n', True, ["line 1"]),
        (b'[{"messages": [{"role": "user"}]}]', True, ["element 1 (byte 1)"]),
        (b'[{"messages": []}]\n[{"messages": []}]', True, ["element 1 (byte 1)", "element 2 (byte 19)"]),
        (b'[\n{"role": "user"},\n{"role": "user"}\n]', True, ["element 1 (byte 2)", "element 2 (byte 20)"]),
        (b'[{"role": "user"},\n{"role": "user"}]', True, ["element 1 (byte 1)", "element 2 (byte 19)"]),
    ],
)
def test_arrays_on_lines_are_distinguished_from_a_document(data: bytes, is_lines: bool, places: list[str]) -> None:
    assert [each.place for each in read(io.BytesIO(data), max_bytes=10_000, is_lines=is_lines)] == places


@pytest.mark.parametrize("value", ["\ud800", 2**70, 1e300, "\U0001f600", "\0"])
def test_values_round_trip_exactly(value: Any) -> None:
    assert _values(_read(json.dumps({"x": value}).encode())) == [{"x": value}]


def test_byte_order_mark_is_skipped() -> None:
    assert _values(_read(b"\xef\xbb\xbf" + b'{"a": 1}\n')) == [{"a": 1}]


@pytest.mark.parametrize(
    ("data", "place", "reason"),
    [
        (b"", "", "empty"),
        (b" \n\n ", "", "empty"),
        (b"\xef\xbb\xbf", "", "empty"),
        (b"[]", "", "empty"),
        ('{"a": "b"}'.encode("utf-16"), "", "UTF-16"),
        (b"\x1f\x8b\x08rest", "", "gzip"),
        (b"PK\x03\x04rest", "", "ZIP"),
        (b"\x7fELF\x02\x01\x01\x00rest", "", "binary file, with a NUL at byte 7"),
        (b'{"a": 1\n', "line 1", "not JSON"),
        (b'{"a": 1}\n{"a": "tr', "line 2", "not JSON: EOF"),
        ('{"a": "名"}\n'.encode("gbk"), "line 1", "not UTF-8: byte 0xc3 at 8"),
        (b'{"a": NaN}\n', "line 1", "not JSON"),
        (b'{"a": "\\ud800", "b": NaN}\n', "line 1", "not JSON"),
        (b'{"a": "' + b"x" * 20_000 + b'"}\n', "line 1", "20,009 bytes exceed the limit of 10,000"),
        (b"[" * 4_000 + b"]" * 4_000, "element 1 (byte 1)", "recursion"),
        (b'[{"a": 1}, {"a": ', "element 2 (byte 11)", "ends inside this element"),
        (b'[{"a": 1}', "byte 9", "ends before its array"),
        (b'[{"a": 1}] x', "byte 11", "expected a conversation, got 'x'"),
        (b'[{"a": 1}}, {"b": 2}]', "byte 9", "expected a conversation, got '}'"),
        (b'[{"a": "' + b"x" * 20_000 + b'"}]', "element 1 (byte 1)", "20,009 bytes"),
        (b'[7, {"a": 1}]', "byte 1", "expected a conversation, got '7'"),
        (b'["{", {"a": 1}]', "byte 1", "expected a conversation"),
    ],
)
@pytest.mark.parametrize("chunk", [16, 1 << 18])
def test_problems_have_a_place_and_a_reason(data: bytes, place: str, reason: str, chunk: int) -> None:
    ((found_place, found_reason),) = _problems(_read(data, chunk=chunk))
    assert found_place == place
    assert reason in found_reason


def test_integer_of_too_many_digits_is_infinity() -> None:
    """So that only the message is refused that has one."""
    (value,) = _values(_read(b'{"a": [' + b"1" * 4_300 + b", -" + b"1" * 5_000 + b', "x", 7]}\n'))
    assert value == {"a": [int("1" * 4_300), float("-inf"), "x", 7]}


def test_reading_continues_after_a_problem() -> None:
    lines = [b'{"n": 1}', b"{", b'{"n": "' + b"x" * 20_000 + b'"}', b'{"n": "\xff"}', b'{"n": 2}']
    for data, kind in ((b"\n".join(lines), "line"), (b"[" + b",".join(lines[:1] + lines[2:]) + b"]", "element")):
        for chunk in (7, 1 << 18):
            found = _read(data, chunk=chunk)
            assert _values(found) == [{"n": 1}, {"n": 2}], kind


def test_memory_is_bounded_for_lines_of_any_length() -> None:
    import tracemalloc

    class Endless(io.RawIOBase):
        left = 200_000_000

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            size = min(size, self.left)
            self.left -= size
            return b"x" * size

    for begin in (b'{"a": "', b'[{"a": "'):
        stream = Endless()
        stream.left = 50_000_000
        chain = io.BytesIO(begin)

        class Both(io.RawIOBase):
            def read(self, size: int = -1, chain: io.BytesIO = chain, stream: Endless = stream) -> bytes:
                return chain.read(size) or stream.read(size)

        tracemalloc.start()
        found = list(read(Both(), max_bytes=1_000_000))  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(_problems(found)) == 1
        assert peak < 5_000_000
