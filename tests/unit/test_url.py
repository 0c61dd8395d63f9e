"""Database URLs in the forms that cloud consoles print."""

import string
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentstore import NotConfigured, Settings
from agentstore.database.url import connector, direct_connector, parse_url
from agentstore.repositories.connect import open_database


@pytest.mark.parametrize(
    ("url", "user", "hosts", "ports", "database"),
    [
        ("postgres://u:p@h.example.com:6432/db", "u", ("h.example.com",), (6432,), "db"),
        ("postgresql://u:p@h/db?sslmode=require", "u", ("h",), (5432,), "db"),
        ("postgresql+asyncpg://u:p@h/db", "u", ("h",), (5432,), "db"),
        ("postgresql+psycopg2://u:p@h/db", "u", ("h",), (5432,), "db"),
        ("postgresql://postgres.ref:p@aws-0-eu.pooler.example.com:6543/postgres?pgbouncer=true", "postgres.ref",
         ("aws-0-eu.pooler.example.com",), (6543,), "postgres"),
        ("postgresql://u:p@ep-x.example.tech/db?sslmode=require&channel_binding=require", "u", ("ep-x.example.tech",),
         (5432,), "db"),
        ("postgres://avnadmin:p@pg.example.com:21/defaultdb?sslmode=require", "avnadmin", ("pg.example.com",), (21,),
         "defaultdb"),
        ("postgresql://user%40server:p@server.example.com:5432/db", "user@server", ("server.example.com",), (5432,),
         "db"),
        ("postgresql://u@/db?host=/cloudsql/project:region:instance", "u", ("/cloudsql/project:region:instance",),
         (5432,), "db"),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/db", "u", ("/var/run/postgresql",), (5432,), "db"),
        ("postgresql://u@/db?host=/tmp/x&port=5433", "u", ("/tmp/x",), (5433,), "db"),
        ("postgresql://u:p@a:1,b:2,c/db?target_session_attrs=read-write", "u", ("a", "b", "c"), (1, 2, 5432), "db"),
        ("postgresql+asyncpg://u:p@/db?host=a:1&host=b:2", "u", ("a", "b"), (1, 2), "db"),
        ("postgresql://u:p@[2001:db8::1]:5433/db", "u", ("2001:db8::1",), (5433,), "db"),
        ("postgresql://h/db?user=u&password=p", "u", ("h",), (5432,), "db"),
        ("postgresql:///db", None, (), (), "db"),
        ("postgresql://", None, (), (), None),
        ("postgresql://h?dbname=db", None, ("h",), (5432,), "db"),
        (" postgresql://u:p@h/my%20db\n", "u", ("h",), (5432,), "my db"),
    ],
)  # fmt: skip
def test_urls_of_cloud_consoles_are_parsed(
    url: str, user: str | None, hosts: tuple[str, ...], ports: tuple[int, ...], database: str | None
) -> None:
    parsed = parse_url(url)
    assert (parsed.user, parsed.hosts, parsed.ports, parsed.database) == (user, hosts, ports, database)
    connector(url)


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://u:p%40ss@h/db", "p@ss"),
        ("postgresql://u:p@ss@h/db", "p@ss"),
        ("postgresql://u:p/ss@h/db", "p/ss"),
        ("postgresql://u:p?ss#x@h:1/db?sslmode=require", "p?ss#x"),
        ("postgresql://u:100%@h/db", "100%"),
        ("postgresql://u:a+b@h/db", "a+b"),
        ("postgresql://h/db?user=u&password=a+b", "a+b"),
        ("postgresql://u:p@h/db?application_name=a@b", "p"),
    ],
)
def test_encoded_and_raw_passwords_are_parsed(url: str, password: str) -> None:
    assert parse_url(url).password == password


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_every_encoded_password_is_parsed(password: str) -> None:
    parsed = parse_url(f"postgresql://u:{quote(password, safe='')}@h/db")
    assert parsed.password == password
    assert parsed.hosts == ("h",)


@given(st.text(string.ascii_letters + string.digits + string.punctuation.replace("%", ""), min_size=1))
def test_every_raw_password_is_parsed(password: str) -> None:
    assume("?" not in password or "=" not in password)  # which can be read as a query
    assert parse_url(f"postgresql://u:{password}@h/db").password == password


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:secret@h/db",
        "u:secret@h/db",
        "postgresql://u:secret@h/db?sslmod=require",
        "postgresql://u:secret@h/db?sslmode=requires",
        "postgresql://u:secret@h:port/db",
        "postgresql://u:secret@h:99999/db",
        "postgresql://u:secret@h/db?connect_timeout=soon",
        "postgresql://u:secret@h/db?connect_timeout=",
        "postgresql://u:secret@h/db?keepalives=2",
        "postgresql://u:secret@h/db?keepalives_idle=40000",
        "postgresql://u:secret@h/db?tcp_user_timeout=1s",
        "postgresql://u:secret@h/db?target_session_attrs=master",
        "postgresql://u:secret@h/db?sslrootcert=/not/there.pem",
        "postgresql://u:secret@h/db?requiressl=1",
        "postgresql://u:1?secret=x@h/db",
        "postgresql://u:secret@h/db?sslrootcert=system&sslmode=require",
        "",
    ],
)
def test_errors_do_not_contain_the_password(url: str) -> None:
    with pytest.raises(NotConfigured) as caught:
        connector(url)
    assert "secret" not in str(caught.value)


def test_the_repr_of_a_url_does_not_contain_the_password() -> None:
    parsed = parse_url("postgresql://u:secret@h/db?sslpassword=secret&password=secret")
    assert "secret" not in f"{parsed} {parsed!r}"


async def test_tls_parameters_are_passed_to_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "c a.pem").write_text("")
    seen: list[dict[str, Any]] = []

    class Connected(Exception):
        """Raised instead of connecting."""

    async def connect(**arguments: object) -> None:
        seen.append(arguments)
        raise Connected

    monkeypatch.setattr(asyncpg, "connect", connect)
    for url in (
        f"postgresql://u@h/db?sslmode=verify-full&sslrootcert={tmp_path}/c%20a.pem",
        "postgresql+asyncpg://u@h/db?ssl=require",
        "postgresql://u@h/db?sslmode=verify-full&sslrootcert=system",
    ):
        with pytest.raises(Connected):
            await connector(url)()
    assert seen[0]["dsn"] == f"postgresql:///?sslmode=verify-full&sslrootcert={quote(f'{tmp_path}/c a.pem', safe='')}"
    assert seen[1]["dsn"] == "postgresql:///?sslmode=require"
    assert seen[2]["ssl"].check_hostname


@pytest.mark.parametrize(
    ("parameters", "pooler"),
    [
        ("pgbouncer=true", "transaction"),
        ("pgbouncer=false", "none"),
        ("statement_cache_size=0", "transaction"),
        ("prepared_statement_cache_size=0", "transaction"),
        ("statement_cache_size=100", "none"),
        ("sslmode=require", "none"),
    ],
)
def test_parameters_of_other_clients_configure_the_pooler(parameters: str, pooler: str) -> None:
    url = f"postgresql+asyncpg://u@h/db?{parameters}"
    assert open_database(url, settings=Settings()).settings.pooler == pooler
    assert (direct_connector(url, Settings()) is None) == (pooler == "transaction")
