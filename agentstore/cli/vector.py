"""Commands about vectors: to have memories found by their meaning, by pgvector."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from agentstore import migrating as migrate
from agentstore.cli.console import (
    Json,
    Url,
    as_text,
    bar,
    confirmed,
    one_line,
    say,
    say_json,
    say_table,
    settings,
    table,
    with_database,
    with_store,
)
from agentstore.cli.sessions import Yes
from agentstore.database.database import Database
from agentstore.errors import NotConfigured
from agentstore.repositories.memory.vectors import EMBEDDERS
from agentstore.search import embedding
from agentstore.store import AgentStore

app = typer.Typer(help="Find memories by their meaning: pgvector, its table and its index.", no_args_is_help=True)
top = typer.Typer()


@app.command()
def enable(url: Url = None, json_: Json = False) -> None:
    """Install pgvector in the database, and make the table that keeps vectors. Full text is as it was."""

    async def run(database: Database) -> None:
        found = await migrate.vector_status(database)
        if not json_ and found.state != "at head":
            schema = database.settings.schema
            if found.installed is None and found.available is not None:
                say(f"CREATE EXTENSION vector WITH SCHEMA public: pgvector {found.available}")
            say(f"CREATE TABLE {schema}.memory_vectors: the vectors, beside the memories and apart from them")
            say(f"CREATE TRIGGER on {schema}.memories: a fact that is rewritten loses the vectors of its old text")
        await migrate.enable_vectors(database)
        now = await migrate.vector_status(database)
        if json_:
            say_json({"from": found.current, "to": now.current})
        elif found.state == "at head":
            say("enabled already")
        else:
            say("done: `agentstore embed` makes vectors of what is there")

    with_database(url, run)


@app.command()
def disable(yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Drop the table of vectors with all that is in it. The extension stays, since others may use it."""
    confirmed("Drop all vectors? Memories stay, and making the vectors anew costs what it did.", yes)

    async def run(database: Database) -> None:
        found = await migrate.vector_status(database)
        await migrate.disable_vectors(database)
        if json_:
            say_json({"from": found.current, "to": None})
        else:
            say("not enabled" if found.current is None else "done: the table of vectors and its trigger are dropped")

    with_database(url, run)


@app.command()
def status(url: Url = None, json_: Json = False) -> None:
    """Say whether vectors are enabled, and how many each embedder has made. Counts them all, which may take a while."""

    async def run(database: Database) -> None:
        found = await migrate.vector_status(database)
        rows = await database.fetch(EMBEDDERS) if found.current is not None else []
        if json_:
            say_json(asdict(found) | {"embedders": {row[0]: row[1] for row in rows}})
            return
        say(f"vectors: {found.state}" + (f" ({found.current})" if found.current else ""))
        there = "not on this server" if found.available is None else f"{found.available} on this server"
        say(f"pgvector: {there}, {found.installed or 'not'} installed in this database")
        if found.state == "not enabled":
            say("to enable them: agentstore vector enable" if found.available else "full text needs none of it")
        if rows:
            filled = table("embedder", vectors=10)
            for row in rows:
                filled.add_row(Text(one_line(row[0])), f"{row[1]:,}")
            say_table(filled)

    with_database(url, run)


@app.command()
def index(
    embedder: Annotated[
        str | None, typer.Option(help="Its name; by default that of AGENTSTORE_EMBEDDING_*.", callback=as_text)
    ] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, max=2_000, help="How many numbers a vector has.")] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Build an HNSW index of one embedder's vectors, beside all other work; one that was left INVALID is dropped first.

    A search compares a user's vectors one by one, which needs no index; it is for users with very many.
    """
    if embedder is None or dimensions is None:
        configured = embedding.configured(settings())
        if configured is None:
            raise NotConfigured("Say --embedder and --dimensions, or set AGENTSTORE_EMBEDDING_URL.")
        embedder, dimensions = embedder or configured.name, dimensions or configured.dimensions
    name, size = embedder, dimensions

    async def run(database: Database) -> None:
        if not json_:
            say(
                f"CREATE INDEX CONCURRENTLY {migrate.vector_index_name(name, size)}: the vectors of {name!r}, by cosine"
            )
        made = await migrate.index_vectors(database, name, size)
        if json_:
            say_json({"index": made})
        else:
            say("done")

    with_database(url, run)


@top.command()
def embed(
    user: Annotated[str | None, typer.Option(help="Only this user's memories.", callback=as_text)] = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="How many memories at once.")] = 100,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Make the vectors of memories that have none of AGENTSTORE_EMBEDDING_*'s embedder. May be broken off."""

    async def run(store: AgentStore) -> None:
        with bar("memories") as progress:
            made = await store.memory.embed(user_id=user, batch=batch, progress=progress)
        if json_:
            say_json({"embedded": made})
        else:
            say(f"embedded: {made:,} memories")

    with_store(url, run)
