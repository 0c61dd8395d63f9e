"""``agentstore vector`` and ``agentstore embed``."""

from dataclasses import asdict
from typing import Annotated

import typer

from agentstore import migrating as migrate
from agentstore.cli.connect import load_settings, run_with_database, run_with_store
from agentstore.cli.options import Json, Url, Wait, Yes, confirm, new_group, require_text
from agentstore.cli.output import counted, echo, echo_error, echo_json
from agentstore.cli.progress import count_bar
from agentstore.cli.tables import Column, Table
from agentstore.database.database import Database
from agentstore.errors import NotConfigured
from agentstore.repositories.memory.vectors import EMBEDDERS
from agentstore.search import embedding
from agentstore.store import AgentStore

group = new_group("Enable, disable and index vectors (pgvector).")
commands = new_group()


@group.command()
def enable(url: Url = None, json_: Json = False) -> None:
    """Enable vectors: install pgvector and create their table.

    Full-text search is not affected.
    """

    async def run(database: Database) -> None:
        found = await migrate.vector_status(database)
        if not json_ and found.state != "at head":
            schema = database.settings.schema
            if found.installed is None and found.available is not None:
                echo(f"CREATE EXTENSION vector WITH SCHEMA public: pgvector {found.available}")
            echo(f"CREATE TABLE {schema}.memory_vectors: the vectors of memories")
            echo(f"CREATE TRIGGER on {schema}.memories: deletes the vectors of a memory whose text changes")
        await migrate.enable_vectors(database)
        now = await migrate.vector_status(database)
        if json_:
            echo_json({"from": found.current, "to": now.current})
        elif found.state == "at head":
            echo("already enabled")
        else:
            echo("done; run `agentstore embed` to embed the existing memories")

    run_with_database(url, run)


@group.command()
def disable(yes: Yes = False, url: Url = None, json_: Json = False) -> None:
    """Disable vectors: drop their table and all vectors.

    The extension stays installed, since other applications may use it.
    """
    confirm("Drop all vectors? Memories are not affected, but embedding them again costs as much as before.", yes)

    async def run(database: Database) -> None:
        found = await migrate.vector_status(database)
        await migrate.disable_vectors(database)
        if json_:
            echo_json({"from": found.current, "to": None})
        else:
            echo("not enabled" if found.current is None else "done; the table of vectors and its trigger are dropped")

    run_with_database(url, run)


@group.command()
def status(url: Url = None, json_: Json = False) -> None:
    """Print whether vectors are enabled, and their number by embedder.

    Counts all vectors, which may take a while.
    """

    async def run(database: Database) -> None:
        found = await migrate.vector_status(database)
        rows = await database.fetch(EMBEDDERS) if found.current is not None else []
        if json_:
            echo_json(asdict(found) | {"embedders": {row[0]: row[1] for row in rows}})
            return
        echo(f"vectors: {found.state}" + (f" ({found.current})" if found.current else ""))
        available = "not available" if found.available is None else f"{found.available} available"
        echo(f"pgvector: {available} on this server, {found.installed or 'not'} installed in this database")
        if found.state == "not enabled":
            echo(
                "to enable vectors: agentstore vector enable"
                if found.available
                else "full-text search works without vectors"
            )
        if rows:
            counts = Table(Column("embedder", "id"), Column("vectors", "number"))
            for row in rows:
                counts.add_row(row[0], f"{row[1]:,}")
            counts.echo()

    run_with_database(url, run)


@group.command()
def index(
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the embedder; default: that of AGENTSTORE_EMBEDDING_*.", callback=require_text
        ),
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=2_000, help="Dimensions of its vectors.")
    ] = None,
    wait: Wait = migrate.WAIT,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Build an HNSW index of one embedder's vectors.

    The store can be used meanwhile. An index that an earlier build left INVALID is dropped first. Search works
    without an index, by comparing all vectors of a user; an index helps for users with very many memories.
    """
    if embedder is None or dimensions is None:
        configured = embedding.configured(load_settings())
        if configured is None:
            raise NotConfigured("pass --embedder and --dimensions, or set AGENTSTORE_EMBEDDING_URL")
        embedder, dimensions = embedder or configured.name, dimensions or configured.dimensions
    name, size = embedder, dimensions

    def report(line: str) -> None:
        echo_error(line, label="index", style="dim")

    async def run(database: Database) -> None:
        if not json_:
            index_name = migrate.vector_index_name(name, size)
            echo(f"CREATE INDEX CONCURRENTLY {index_name}: the vectors of {name!r}, by cosine distance")
        created = await migrate.index_vectors(database, name, size, wait=wait, report=report)
        if json_:
            echo_json({"index": created})
        else:
            echo("done")

    run_with_database(url, run)


@commands.command()
def embed(
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Only memories of this user.", callback=require_text)
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Memories embedded at a time.")] = 100,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Compute missing embeddings of memories.

    AGENTSTORE_EMBEDDING_* names the embedder. Safe to interrupt and run again.
    """

    async def run(store: AgentStore) -> None:
        with count_bar("memories") as progress:
            embedded = await store.memory.embed(user_id=user, batch=batch, progress=progress)
        if json_:
            echo_json({"embedded": embedded})
        else:
            echo(f"embedded: {counted(memory=embedded)}")

    run_with_store(url, run)
