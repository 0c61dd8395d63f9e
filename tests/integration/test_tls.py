"""TLS options of the URL. Needs a Postgres built with OpenSSL: ``-m tls --postgres=/usr/lib/postgresql/15``."""

import asyncio
import datetime
import gc
import os
import shutil
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentstore import AgentStore, EmbeddedPostgres, LimitExceeded, NotConfigured, Settings, Unavailable
from agentstore.testing import text
from tests.support.pgbouncer import free_port

pytestmark = pytest.mark.tls


def _certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Write a self-signed certificate for an address and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agentstore test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "server.crt", folder / "server.key"


@pytest.fixture
def tls_server(tmp_path: Path, binaries: str | None) -> Iterator[tuple[int, Path]]:
    """The port of a server that accepts only TLS, with a certificate for 127.0.0.1; and that certificate."""
    assert binaries is not None, "these tests need --postgres: an installation that was built with OpenSSL"
    folder = tmp_path / "tls"
    with EmbeddedPostgres(folder, binaries=binaries, durable=False):
        pass
    data = folder / "data"
    for file in _certificate(data, "127.0.0.1"):
        os.chown(file, data.stat().st_uid, data.stat().st_gid)
        file.chmod(0o600)
    (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
    port = free_port()
    parameters = {"listen_addresses": "127.0.0.1", "port": str(port), "ssl": "on"}
    with EmbeddedPostgres(folder, binaries=binaries, durable=False, parameters=parameters):
        shutil.copy(data / "server.crt", tmp_path / "root.crt")
        yield port, tmp_path / "root.crt"
    shutil.rmtree(folder)


async def _encrypted(url: str) -> bool:
    async with AgentStore(url, settings=Settings(auto_migrate="off")) as store, store._database.connection() as driver:
        return bool(await driver.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))


async def test_every_sslmode_is_enforced(
    tls_server: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # ignore the developer's ~/.postgresql
    port, root = tls_server
    url = f"postgres://postgres@127.0.0.1:{port}/postgres"
    assert await _encrypted(f"{url}?sslmode=require")
    assert await _encrypted(f"{url}?sslmode=prefer")
    assert await _encrypted(f"{url}?ssl=require")
    for mode in ("verify-ca", "verify-full"):
        assert await _encrypted(f"{url}?sslmode={mode}&sslrootcert={root}")
    with pytest.raises(NotConfigured):
        await _encrypted(f"{url}?sslmode=disable")
    with pytest.raises(NotConfigured, match="certificate"):
        await _encrypted(f"{url}?sslmode=verify-full")
    with pytest.raises(NotConfigured, match=r"certificate|CERTIFICATE"):
        await _encrypted(f"{url}?sslmode=verify-full&sslrootcert=system")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other, _ = _certificate(elsewhere, "127.0.0.2")
    with pytest.raises(NotConfigured, match=r"certificate|CERTIFICATE"):
        await _encrypted(f"{url}?sslmode=verify-full&sslrootcert={other}")


async def test_migrations_use_tls(tls_server: tuple[int, Path]) -> None:
    from agentstore import migrate

    port, root = tls_server
    url = f"postgres://postgres@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={root}"
    await migrate.upgrade(url)
    assert (await asyncio.wait_for(_encrypted(url), 60)) is True
    with pytest.raises((NotConfigured, Unavailable)):
        await migrate.upgrade(url.replace("127.0.0.1", "localhost"))


async def test_replies_are_limited_over_tls(tls_server: tuple[int, Path]) -> None:
    port, _ = tls_server
    url = f"postgres://postgres@127.0.0.1:{port}/postgres?sslmode=require"
    settings = Settings(auto_migrate="upgrade", max_reply_bytes=1_000_000, pool_size=1)
    async with AgentStore(url, settings=settings) as store:
        session = await store.sessions.create_session("alice", "s")
        for _ in range(3):
            await store.sessions.append_message(session, text("x" * 400_000))
        for _ in range(2):
            with pytest.raises(LimitExceeded):
                await store.sessions.get_session("alice", "s")
            found = await store.sessions.get_session("alice", "s", limit=2)
            assert found is not None
            assert len(found.messages) == 2


def test_encrypted_connections_pass_from_one_event_loop_to_another(tls_server: tuple[int, Path]) -> None:
    """Large values too, and a call that is canceled, and one whose backend was terminated."""
    port, root = tls_server
    url = f"postgres://postgres@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={root}"
    store = AgentStore(url, settings=Settings(auto_migrate="upgrade"))
    large = "x" * 20_000_000

    async def use(number: int) -> int:
        await store.states.save_state("alice", {"large": large, "number": number}, "s")
        assert await store.states.export_state("alice", "s") == {"large": large, "number": number}
        return await backend()

    async def backend(seconds: float = 0.0) -> int:
        async with store._database.connection() as connection:
            (row,) = await connection.fetch(
                "SELECT pid, ssl, pg_sleep($1) FROM pg_stat_ssl WHERE pid = pg_backend_pid()", seconds
            )
            assert row["ssl"]
            return int(row["pid"])

    async def cancel() -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await backend(20.0)
        return await backend()

    async def terminate(process: int) -> None:
        async with store._database._get_pool().separate_connection() as connection:
            assert await connection.fetchval("SELECT pg_terminate_backend($1, 5000)", process)

    asyncio.run(store.start())
    small = [asyncio.run(backend()) for _ in range(3)]
    assert len(set(small)) == 1
    for number in range(3):
        asyncio.run(use(number))
    asyncio.run(cancel())
    processes = [asyncio.run(backend()) for _ in range(3)]
    assert len(set(processes)) == 1
    asyncio.run(terminate(processes[0]))
    assert asyncio.run(backend()) != processes[0]
    asyncio.run(store.stop())
    gc.collect()
