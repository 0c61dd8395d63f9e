"""Postgres's parse trees of statements, in which operators and casts are resolved to functions."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

_TOKEN = re.compile(r"[(){}]|(?:\\.|[^\s(){}\\])+")


@dataclass
class Node:
    """A node of a parse tree: its type, and its fields, each a list of strings, nodes and lists."""

    type: str
    fields: dict[str, list[Any]] = field(default_factory=dict)

    def one(self, name: str) -> Any:
        """Return the only value of a field."""
        (value,) = self.fields[name]
        return value

    def number(self, name: str) -> int:
        """Return a numeric field; 0 if this version of Postgres lacks it."""
        return int(self.fields[name][0]) if name in self.fields else 0

    def list(self, name: str) -> list[Any]:
        """Return a list field; empty if it is null."""
        value = self.one(name)
        return [] if value == "<>" else list(value)


def inside(value: Any, *, leave: frozenset[str] = frozenset()) -> Iterator[Node]:
    """Yield all nodes in a value, including itself, except those in the fields named `leave`."""
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, Node):
            yield each
            pending.extend(part for name, part in each.fields.items() if name not in leave)
        elif isinstance(each, list):
            pending.extend(each)


async def parse_tree(connection: asyncpg.Connection, sql: str) -> Node:
    """Return the parse tree of a statement, whose parameter types the server infers."""
    async with _logged(connection) as logged:
        await connection.prepare(sql)
    return _read(logged[0])


async def executed_trees(connection: asyncpg.Connection, sql: str) -> list[Node]:
    """Execute a statement, and return the parse trees of it and of all that the functions in it execute."""
    async with _logged(connection) as logged:
        await connection.execute(sql)
    return [_read(each) for each in logged if each.startswith("{QUERY")]


@asynccontextmanager
async def _logged(connection: asyncpg.Connection) -> AsyncIterator[list[str]]:
    """Collect the details of what the server logs."""
    logged: list[str] = []

    def listen(_: object, message: Any) -> None:
        logged.append((message.detail or "").strip())

    connection.add_log_listener(listen)
    await connection.execute("SET client_min_messages = log; SET debug_pretty_print = off; SET debug_print_parse = on")
    logged.clear()
    try:
        yield logged
    finally:
        found = list(logged)
        await connection.execute("RESET debug_print_parse; RESET client_min_messages")
        connection.remove_log_listener(listen)
        logged[:] = found


def _read(text: str) -> Node:
    tokens = iter(_TOKEN.findall(text))
    assert next(tokens) == "{"
    return _node(tokens)


def _node(tokens: Iterator[str]) -> Node:
    node = Node(next(tokens))
    values: list[Any] = []
    for token in tokens:
        if token == "}":
            return node
        if token.startswith(":"):
            values = node.fields[token[1:]] = []
        else:
            values.append(_value(token, tokens))
    raise AssertionError("the tree has no end")


def _value(token: str, tokens: Iterator[str]) -> Any:
    if token == "{":
        return _node(tokens)
    if token == "(":
        values: list[Any] = []
        for each in tokens:
            if each == ")":
                return values
            values.append(_value(each, tokens))
    return token
