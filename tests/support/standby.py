"""A primary and a standby that replicates it synchronously."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentstore import EmbeddedPostgres
from tests.support.pgbouncer import free_port
from tests.support.servers import copy_cluster

_ACCESS = "local all all trust\nhost all,replication all 127.0.0.1/32 trust\n"


@dataclass(frozen=True)
class Pair:
    """Two servers on ports of this machine; the superuser `postgres` needs no password."""

    primary: int
    standby: int
    folder: Path

    def kill_primary(self) -> None:
        """Kill the primary as a crash of its machine would, except that its port refuses connections."""
        os.kill(int((self.folder / "primary/data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)


@contextmanager
def primary_and_standby(folder: Path, cluster: Path, binaries: str | None) -> Iterator[Pair]:
    """Run copies of a stopped cluster: what the primary has committed is on the standby."""
    pair = Pair(free_port(), free_port(), folder)
    for name in ("primary", "standby"):
        data = copy_cluster(cluster, folder / name) / "data"
        (data / "pg_hba.conf").write_text(_ACCESS)
    (data / "standby.signal").touch()
    shutil.chown(data / "standby.signal", data.stat().st_uid, data.stat().st_gid)
    common = {"listen_addresses": "127.0.0.1", "synchronous_commit": "on"}
    of_primary = {**common, "port": str(pair.primary), "synchronous_standby_names": "*"}
    of_standby = {
        **common,
        "port": str(pair.standby),
        "primary_conninfo": f"host=127.0.0.1 port={pair.primary} user=postgres",
    }
    with (
        EmbeddedPostgres(folder / "primary", binaries=binaries, parameters=of_primary, durable=False),
        EmbeddedPostgres(folder / "standby", binaries=binaries, parameters=of_standby, durable=False),
    ):
        yield pair
