"""Citus's restrictions on statements for tables distributed by user, checked on Postgres's parse trees.

Verified with Citus 14 on a coordinator and two workers. The check is slightly stricter than Citus: it does not
distinguish statements that Citus plans in several steps from those that it sends to one shard.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.support.trees import Node, inside

_UPDATE, _INSERT, _DELETE = 2, 3, 4
_RELATION, _SUBQUERY, _CTE, _RESULT = 0, 1, 6, 8
_FUNCTIONS = {
    "FUNCEXPR": "funcid",
    "OPEXPR": "opfuncid",
    "DISTINCTEXPR": "opfuncid",
    "NULLIFEXPR": "opfuncid",
    "SCALARARRAYOPEXPR": "opfuncid",
    "AGGREF": "aggfnoid",
    "WINDOWFUNC": "winfnoid",
}
_CONDITIONALS = frozenset({"CASE", "CASEEXPR", "COALESCE", "COALESCEEXPR"})  # the names since and before Postgres 16
# Citus treats CTEs as separate statements, so they are checked separately.
_CHECKED_SEPARATELY = frozenset({"cteList", "onConflict", "returningList"})


@dataclass
class Catalog:
    """The catalog entries of the OIDs in parse trees."""

    volatility: dict[int, str]  # of a function: i(mmutable), s(table), v(olatile)
    names: dict[int, str]  # of functions
    through_text: dict[int, str]  # the volatility of a type's conversion to and from text
    users: dict[int, int]  # the attribute number of a table's user column
    tables: dict[int, str]
    equals: int  # the function behind text = text
    local: dict[int, str]  # temporary tables

    @classmethod
    async def read(cls, connection: asyncpg.Connection) -> "Catalog":
        functions = await connection.fetch("SELECT oid::int8, proname, provolatile::text FROM pg_proc")
        types = await connection.fetch(
            "SELECT t.oid::int8, greatest(i.provolatile, o.provolatile)::text AS volatility FROM pg_type t"
            " JOIN pg_proc i ON i.oid = t.typinput JOIN pg_proc o ON o.oid = t.typoutput"
        )
        tables = await connection.fetch(
            "SELECT c.oid::int8, c.relname, a.attnum FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " AND a.attname = CASE c.relname WHEN 'users' THEN 'id' WHEN 'app_values' THEN 'app' ELSE 'user_id' END"
            " WHERE c.relnamespace = 'agentstore'::regnamespace AND c.relkind = 'r'"
        )
        temporary = await connection.fetch(
            "SELECT oid::int8, relname FROM pg_class WHERE relkind = 'r' AND relpersistence = 't'"
        )
        return cls(
            volatility={row["oid"]: row["provolatile"] for row in functions},
            names={row["oid"]: row["proname"] for row in functions},
            through_text={row["oid"]: row["volatility"] for row in types},
            users={row["oid"]: row["attnum"] for row in tables},
            tables={row["oid"]: row["relname"] for row in tables},
            equals=await connection.fetchval("SELECT 'texteq'::regproc::oid::int8"),
            local={row["oid"]: row["relname"] for row in temporary},
        )

    def function(self, node: Node) -> tuple[str, str]:
        """Return the volatility and the name of the function that a node calls; immutable where it calls none."""
        if node.type in _FUNCTIONS:
            oid = node.number(_FUNCTIONS[node.type])
            return self.volatility[oid], self.names[oid]
        if node.type == "COERCEVIAIO":
            types = [
                node.number("resulttype"),
                *(each.number("vartype") for each in inside(node) if each.type == "VAR"),
            ]
            return max(self.through_text[each] for each in types), "cast"
        if node.type == "SQLVALUEFUNCTION":
            return "s", "CURRENT_..."
        return ("v", "nextval") if node.type == "NEXTVALUEEXPR" else ("i", "")


class _Classes:
    """Equivalence classes of the columns and parameters that a statement equates."""

    def __init__(self) -> None:
        self._parent: dict[Any, Any] = {}

    def of(self, key: Any) -> Any:
        while key in self._parent:
            key = self._parent[key]
        return key

    def join(self, one: Any, other: Any) -> None:
        one, other = sorted((self.of(one), self.of(other)), key=lambda key: key[0] == "parameter")
        if one != other:
            self._parent[one] = other


@dataclass
class _Level:
    """A query, and its enclosing queries, the innermost last."""

    query: Node
    around: list[Node]
    is_correlated: bool

    def key(self, value: Node) -> Any:
        """Return a key of a column or parameter that is unique in the statement; None for other expressions."""
        while value.type == "RELABELTYPE":
            value = value.one("arg")
        if value.type == "PARAM" and value.number("paramkind") == 0:
            return ("parameter", value.number("paramid"))
        if value.type == "CONST":
            return ("parameter", str(value.fields["constvalue"]))
        if value.type != "VAR":
            return None
        query = ([*self.around, self.query])[-1 - value.number("varlevelsup")]
        entry = query.list("rtable")[value.number("varno") - 1]
        if "groupexprs" in entry.fields:  # since Postgres 18
            return self.key(entry.list("groupexprs")[value.number("varattno") - 1])
        return (id(query), value.number("varno"), value.number("varattno"))


def _reaches_out(part: Any, depth: int) -> bool:
    """Return whether a query reads columns of its enclosing queries."""
    if isinstance(part, list):
        return any(_reaches_out(each, depth) for each in part)
    if not isinstance(part, Node):
        return False
    depth += part.type == "QUERY"
    return (part.type == "VAR" and part.number("varlevelsup") >= depth) or any(
        _reaches_out(each, depth) for each in part.fields.values()
    )


def _levels(query: Node, around: list[Node], *, is_correlated: bool = False) -> Iterator[_Level]:
    """Yield all queries of a statement, with their enclosing queries."""
    yield _Level(query, around, is_correlated and _reaches_out(query, 0))

    def parts(value: Any, linked: bool) -> Iterator[_Level]:
        if isinstance(value, list):
            for each in value:
                yield from parts(each, linked)
        elif isinstance(value, Node):
            if value.type == "QUERY":
                yield from _levels(value, [*around, query], is_correlated=linked)
                return
            lateral = value.type == "RANGETBLENTRY" and value.one("lateral") == "true"
            for each in value.fields.values():
                yield from parts(each, linked or lateral or value.type == "SUBLINK")

    for each in query.fields.values():
        yield from parts(each, False)


def _outputs(query: Node) -> list[Node]:
    return query.list("targetList" if query.number("commandType") == 1 else "returningList")


def _ctes(level: _Level) -> dict[str, Node]:
    return {
        cte.one("ctename"): cte.one("ctequery")
        for query in [*level.around, level.query]
        for cte in query.list("cteList")
    }


def _always(part: Any) -> Iterator[Node]:
    """Yield the conditions in FROM and WHERE that hold for every row of a query."""
    if isinstance(part, list):
        for each in part:
            yield from _always(each)
    elif isinstance(part, Node) and part.type in ("FROMEXPR", "JOINEXPR"):
        for name in ("fromlist", "larg", "rarg", "quals"):
            yield from _always(part.fields.get(name, []))
    elif isinstance(part, Node) and part.type == "BOOLEXPR" and part.one("boolop") == "and":
        yield from _always(part.list("args"))
    elif isinstance(part, Node):
        yield part


def _equalities(levels: list[_Level], catalog: Catalog, *, subqueries: bool = True) -> _Classes:
    classes = _Classes()
    for level in levels:
        for node in _always(level.query.one("jointree")):
            if node.type == "OPEXPR" and node.number("opfuncid") == catalog.equals:
                one, other = (level.key(value) for value in node.list("args"))
                if one is not None and other is not None:
                    classes.join(one, other)
        if not subqueries:
            continue
        # A column of an inserted row equals the inserted value; a column of a subquery equals its output.
        if level.query.number("commandType") == _INSERT:
            for target in level.query.list("targetList"):
                key = level.key(target.one("expr"))
                if key is not None:
                    place = (id(level.query), level.query.number("resultRelation"), target.number("resno"))
                    classes.join(place, key)
        for number, entry in enumerate(level.query.list("rtable"), start=1):
            part = entry.one("subquery") if entry.number("rtekind") == _SUBQUERY else None
            if entry.number("rtekind") == _CTE:
                part = _ctes(level).get(entry.one("ctename"))
            if part is None:
                continue
            around = next(each.around for each in levels if each.query is part)
            for column, output in enumerate(_outputs(part), start=1):
                key = _Level(part, around, False).key(output.one("expr"))
                if key is not None:
                    classes.join((id(level.query), number, column), key)
    return classes


def _relations(query: Node, catalog: Catalog) -> dict[int, int]:
    """Return the tables of a query: the range table index of each, and its OID."""
    conflict = query.one("onConflict")
    excluded = 0 if conflict == "<>" else conflict.number("exclRelIndex")
    return {
        number: entry.number("relid")
        for number, entry in enumerate(query.list("rtable"), start=1)
        if entry.number("rtekind") == _RELATION and entry.number("relid") in catalog.users and number != excluded
    }


def violations(tree: Node, catalog: Catalog, *, of_one_user: bool = False) -> set[str]:
    """Return the restrictions that a statement violates, and where.

    With `of_one_user` also what makes Citus read all servers for a statement about one user.
    """
    levels = list(_levels(tree, []))
    classes = _equalities(levels, catalog)
    found: set[str] = set()
    for level in levels:
        found.update(_called_wrongly(level.query, catalog))
        found.update(_inserted_wrongly(level.query))
        found.update(_of_several_users(level, classes, catalog))
        found.update(_subqueries_wrongly(level, catalog))
        found.update(_locked_wrongly(level, catalog))
        found.update(_joined_locally(level, catalog))
        if of_one_user and not level.is_correlated and _is_limited(level.query) and not _has_own_user(level, catalog):
            found.add("reads all users in a subquery with LIMIT or OFFSET")
        if of_one_user:
            found.update(_read_everywhere(level, catalog))
    found.update(_parameters_wrongly(tree))
    if tree.list("cteList") == [] and _inserts_parameters(tree):
        found.add("INSERT ... SELECT of parameters alone")
    return found


def caches_plan(tree: Node, catalog: Catalog) -> bool:
    """Return whether a statement of a function has a plan for any values of its parameters, which Postgres caches.

    Citus 14 adds the plan of the shard to it at each execution on the server of the user: 100 kB that are never freed.
    """
    has_tables = any(_relations(each, catalog) for each in inside(tree) if each.type == "QUERY")
    return has_tables and any(_is_parameter(node) for node in inside(tree))


def _read_everywhere(level: _Level, catalog: Catalog) -> Iterator[str]:
    """Yield the subqueries in the list of a SELECT whose user is known from the query around them alone.

    Postgres does not conclude that their user is the same, so that Citus sends the query to all shards.
    """
    for target in level.query.list("targetList"):
        for node in inside(target):
            query = node.one("subselect") if node.type == "SUBLINK" else None
            if query is None or not _relations(query, catalog):
                continue
            inner = _Level(query, [*level.around, level.query], True)
            classes = _equalities([inner], catalog, subqueries=False)
            for number, oid in _relations(query, catalog).items():
                if classes.of((id(query), number, catalog.users[oid]))[0] != "parameter":
                    yield f"reads {catalog.tables[oid]} of all users in a subquery of the list"


def _inserts_parameters(query: Node) -> bool:
    """Return whether an INSERT ... SELECT reads nothing; Citus sends the rows of each to all servers."""
    entries = query.list("rtable")[1:]
    if query.number("commandType") != _INSERT or not _selects(query):
        return False
    selected = [entry.one("subquery") for entry in entries if entry.number("rtekind") == _SUBQUERY]
    return all(not each.list("rtable") or _reads_nothing(each) for each in selected)


def _reads_nothing(query: Node) -> bool:
    return {entry.number("rtekind") for entry in query.list("rtable")} <= {_RESULT}


def _called_wrongly(query: Node, catalog: Catalog) -> Iterator[str]:
    if query.number("commandType") in (_UPDATE, _DELETE):
        own = [value for name, value in query.fields.items() if name not in _CHECKED_SEPARATELY]
        for node in inside(own, leave=_CHECKED_SEPARATELY):
            volatility, name = catalog.function(node)
            if volatility == "v":
                yield f"writes with volatile {name}"
            elif volatility == "s" and any(each.type == "VAR" for each in inside(node)):
                yield f"writes with stable {name} of a column"
        for node in inside(own, leave=_CHECKED_SEPARATELY):
            if node.type in _CONDITIONALS:
                for each in inside(node, leave=_CHECKED_SEPARATELY):
                    volatility, name = catalog.function(each)
                    if volatility != "i":
                        yield f"writes with {name} in CASE or COALESCE"
    for place, field in (("ON CONFLICT", "onConflict"), ("RETURNING", "returningList")):
        for node in inside(query.fields[field]):
            volatility, name = catalog.function(node)
            if volatility != "i":
                yield f"{name} in {place}"


def _inserted_wrongly(query: Node) -> Iterator[str]:
    if query.number("commandType") != _INSERT:
        return
    selects = _selects(query)
    if selects and query.one("returningList") == "<>":
        yield "INSERT ... SELECT without RETURNING"
    own = [value for name, value in query.fields.items() if name not in _CHECKED_SEPARATELY]
    if not selects and any(node.type == "SUBLINK" for node in inside(own, leave=_CHECKED_SEPARATELY)):
        yield "a subquery in VALUES"


def _of_several_users(level: _Level, classes: _Classes, catalog: Catalog) -> Iterator[str]:
    def users(query: Node) -> dict[int, Any]:
        tables = _relations(query, catalog).items()
        return {number: classes.of((id(query), number, catalog.users[oid])) for number, oid in tables}

    here = users(level.query)
    names = {number: catalog.tables[oid] for number, oid in _relations(level.query, catalog).items()}
    for mark in level.query.list("rowMarks"):
        number = mark.number("rti")
        if number in here and here[number][0] != "parameter":
            yield f"locks {names[number]} of several users"
    together = set(here.values())
    if level.is_correlated:
        together.update(*(users(outer).values() for outer in level.around))
    if here and len(together) > 1:
        yield f"joins {', '.join(sorted(names.values()))} without the user"


def _parameters_wrongly(query: Node) -> Iterator[str]:
    """Yield the parameters that Citus does not pass on with the rows of the outermost INSERT ... SELECT."""
    if query.number("commandType") != _INSERT or not _selects(query):
        return
    for place, field in (("ON CONFLICT", "onConflict"), ("RETURNING", "returningList")):
        if any(_is_parameter(node) for node in inside(query.fields[field])):
            yield f"a parameter in {place} of INSERT ... SELECT"


def _is_parameter(node: Node) -> bool:
    return node.type == "PARAM" and node.number("paramkind") == 0


def _selects(query: Node) -> bool:
    """Return whether the rows of an INSERT are those of a SELECT."""
    return _SUBQUERY in {entry.number("rtekind") for entry in query.list("rtable")[1:]}


def _has_own_user(level: _Level, catalog: Catalog) -> bool:
    """Return whether conditions of a query itself limit its tables to one user, or to that of a table around it."""
    classes = _equalities([level], catalog, subqueries=False)
    around = {
        classes.of((id(outer), number, catalog.users[oid]))
        for outer in level.around
        for number, oid in _relations(outer, catalog).items()
    }
    own = {
        classes.of((id(level.query), number, catalog.users[oid]))
        for number, oid in _relations(level.query, catalog).items()
    }
    return all(each[0] == "parameter" or each in around for each in own)


def _is_limited(query: Node) -> bool:
    return any(query.fields[name] != ["<>"] for name in ("limitCount", "limitOffset"))


def _subqueries_wrongly(level: _Level, catalog: Catalog) -> Iterator[str]:
    query = level.query
    names = ", ".join(sorted(catalog.tables[oid] for oid in _relations(query, catalog).values()))
    if names and level.is_correlated and not _has_own_user(level, catalog):
        if _is_limited(query):
            yield f"reads {names} in a correlated subquery with LIMIT or OFFSET, without the user"
        if any(entry.number("rtekind") == _CTE for outer in level.around[-1:] for entry in _referenced(query, outer)):
            yield f"reads {names} in a subquery that is correlated with a CTE, without the user"
    if query.one("hasAggs") == "true" and names and not _has_own_user(level, catalog):
        for node in inside(query.list("targetList")):
            queries = [each for each in inside(node) if each.type == "QUERY"] if node.type == "SUBLINK" else []
            if any(_relations(each, catalog) for each in queries):
                yield "a subquery that reads a table, in a list of aggregates"


def _referenced(query: Node, outer: Node) -> Iterator[Node]:
    """Yield the range table entries of `outer` of which `query`, directly inside it, reads columns."""

    def columns(part: Any, depth: int) -> Iterator[Node]:
        if isinstance(part, list):
            for each in part:
                yield from columns(each, depth)
        elif isinstance(part, Node):
            depth += part.type == "QUERY"
            if part.type == "VAR" and part.number("varlevelsup") == depth:
                yield part
            for value in part.fields.values():
                yield from columns(value, depth)

    for node in columns(query, 0):
        yield outer.list("rtable")[node.number("varno") - 1]


def _locked_wrongly(level: _Level, catalog: Catalog) -> Iterator[str]:
    """Yield the locks in CTEs that join the locked table with the rows of another CTE."""
    names = [catalog.tables[oid] for oid in _relations(level.query, catalog).values()]
    joins = any(entry.number("rtekind") == _CTE for entry in level.query.list("rtable"))
    if names and joins and level.around and level.query.list("rowMarks"):
        yield f"locks {', '.join(sorted(names))} in a CTE with the rows of another"


def _joined_locally(level: _Level, catalog: Catalog) -> Iterator[str]:
    """Yield the joins of a distributed table with one that is not, in FROM or by a correlated subquery."""
    query = level.query
    target = query.number("resultRelation") if query.number("commandType") == _INSERT else 0
    entries = [entry for number, entry in enumerate(query.list("rtable"), start=1) if number != target]
    entries += [entry for outer in level.around[-1:] for entry in _referenced(query, outer)]
    oids = {entry.number("relid") for entry in entries if entry.number("rtekind") == _RELATION}
    distributed = sorted(catalog.tables[oid] for oid in oids & catalog.users.keys())
    local = sorted(catalog.local[oid] for oid in oids & catalog.local.keys())
    if distributed and local:
        yield f"joins {', '.join(distributed)} with the local {', '.join(local)}"
