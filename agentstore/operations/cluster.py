"""What is wrong with a Citus cluster: its servers, their versions, and how the shards are spread over them."""

from typing import NamedTuple

import asyncpg

from agentstore.database.database import Database
from agentstore.migrating import citus
from agentstore.operations.distribution import distribution

# The version of Citus and of Postgres on each worker; `success` is false for one that cannot be reached.
_VERSIONS = """
SELECT nodename || ':' || nodeport AS server, success, result FROM run_command_on_workers(
    $$SELECT extversion || ', Postgres ' || split_part(current_setting('server_version'), ' ', 1)
    FROM pg_extension WHERE extname = 'citus'$$
) ORDER BY 1
"""
_OWN_VERSION = """
SELECT extversion || ', Postgres ' || split_part(current_setting('server_version'), ' ', 1)
FROM pg_extension WHERE extname = 'citus'
"""
_HIDES_SHARDS = "SELECT current_database() WHERE current_setting('citus.override_table_visibility', true) = 'on'"
_SHARDS = """
SELECT n.nodename || ':' || n.nodeport AS server, count(p.shardid) FILTER (WHERE s.shardid IS NOT NULL) AS shards
FROM pg_dist_node n
LEFT JOIN pg_dist_placement p ON p.groupid = n.groupid
LEFT JOIN pg_dist_shard s ON s.shardid = p.shardid AND s.logicalrelid = to_regclass($1)
WHERE n.isactive AND n.noderole = 'primary' AND n.shouldhaveshards
GROUP BY 1 ORDER BY 1
"""


class ClusterProblem(NamedTuple):
    """What is wrong with the distribution, and what to do."""

    is_severe: bool
    found: str
    advice: str


async def describe_cluster(database: Database) -> tuple[str, list[ClusterProblem]] | None:
    """Return a line about a distributed database, and its problems; None if no table is distributed.

    Raises:
        Unavailable: the coordinator cannot be reached.
    """
    state = await distribution(database)
    if state.state == "local":
        return None
    problems = []
    if state.local:
        advice = "run `agentstore upgrade`; rows whose user was deleted meanwhile are removed"
        problems.append(ClusterProblem(True, f"not distributed by user: {', '.join(state.local)}", advice))
    if state.missing_functions:
        found = f"functions of this release are missing: {', '.join(state.missing_functions)}"
        problems.append(ClusterProblem(True, found, "run `agentstore upgrade`"))
    if state.has_copies:
        found = "the coordinator still stores rows from before the distribution"
        problems.append(ClusterProblem(True, found, "run `agentstore distribute`"))
    async with database.connection() as connection:
        problems += await _version_problems(connection)
        hiding = await connection.fetchval(_HIDES_SHARDS)
        shards = await connection.fetch(_SHARDS, citus.quoted(database.settings.schema, "users"))
    if hiding is not None:
        found = "each new connection takes about a second to read the types of arrays, since Citus hides shards"
        advice = f'run ALTER DATABASE "{hiding}" SET citus.override_table_visibility TO off'
        problems.append(ClusterProblem(False, found, advice))
    counts = {row["server"]: row["shards"] for row in shards}
    if counts and max(counts.values()) > 1 + min(counts.values()):
        spread = ", ".join(f"{server} has {count}" for server, count in counts.items())
        advice = "run SELECT citus_rebalance_start() on the coordinator; the store can be in use meanwhile"
        problems.append(ClusterProblem(False, f"the shards are not spread evenly: {spread}", advice))
    total = sum(counts.values())
    return f"every table is distributed by user, in {total} shards on {len(counts)} servers", problems


async def _version_problems(connection: asyncpg.Connection) -> list[ClusterProblem]:
    own, found = await connection.fetchval(_OWN_VERSION), []
    for row in await connection.fetch(_VERSIONS):
        if not row["success"]:
            advice = "start it or check the network; users whose rows are there cannot be read or written until then"
            found.append(ClusterProblem(True, f"the worker {row['server']} cannot be reached", advice))
        elif row["result"] != own:
            difference = f"the worker {row['server']} has Citus {row['result']}, the coordinator {own}"
            found.append(ClusterProblem(False, difference, "install the same versions on all servers"))
    return found
