"""Parsing of database URLs, and connecting by them.

asyncpg parses ``postgresql://`` URLs, but treats every unknown parameter as a server setting, and the URLs that cloud
consoles print contain parameters of other clients. So URLs are parsed here, strictly: a misspelled parameter is an
error, instead of a TLS option that is silently ignored.
"""

import logging
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from pydantic import SecretStr

from agentstore.database.hosts import Hosts
from agentstore.database.links import Connect
from agentstore.errors import NotConfigured
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

Password = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""A password, or a function that returns the current one (such as an IAM token), called for each new connection."""

_STRICT = re.compile(r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?(?P<hosts>[^@/?#]*)(?P<rest>([/?].*)?)")
# For a password with an unencoded @, /, ? or #: it extends to the last @ that can precede a host.
_LENIENT = re.compile(r"(?P<user>[^:@/]*):(?P<password>.*)@(?P<hosts>[^@/?#]*)(?P<rest>([/?].*)?)")

# asyncpg accepts these in a DSN's query only, not as arguments.
_TLS = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version",
)  # fmt: skip
_ARGUMENTS = ("passfile", "service", "krbsrvname", "gsslib")
_TCP = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
# With the largest values that operating systems accept.
_WHOLE_NUMBERS = {
    "connect_timeout": 999_999_999, "keepalives": 1, "keepalives_idle": 32_767, "keepalives_interval": 32_767,
    "keepalives_count": 127, "tcp_user_timeout": 999_999_999,
}  # fmt: skip
_SERVER_SETTINGS = ("application_name", "options")
# Parameters of libpq and of other clients that have no effect on a connection.
_IGNORED = (
    "gssencmode", "fallback_application_name", "client_encoding", "load_balance_hosts", "sslcompression", "sslsni",
    "pgbouncer", "connection_limit", "pool_timeout", "statement_cache_size", "prepared_statement_cache_size",
    "prepared_statement_name_func", "supa", "workaround",
)  # fmt: skip


@dataclass(frozen=True)
class DatabaseUrl:
    """A parsed URL; its ``repr`` and ``str`` never show the password."""

    user: str | None
    password: str | None = field(repr=False)
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    database: str | None
    parameters: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host and host[0] != "/" else f"{host}:{port}"
            for host, port in zip(self.hosts, self.ports, strict=True)
        )
        return f"postgresql://{quote(self.user or '')}{'@' if self.user else ''}{hosts}/{quote(self.database or '')}"


def parse_url(url: str) -> DatabaseUrl:
    """Parse a Postgres URL.

    ``postgres://``, ``postgresql://`` and ``postgresql+DRIVER://`` are equivalent. Several hosts are separated by
    commas. The password is percent-encoded; unencoded special characters are accepted where they are unambiguous.

    Raises:
        NotConfigured: it is not a Postgres URL, or has an unknown parameter. The message never contains the URL.
    """
    scheme, separator, remainder = url.strip().partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise NotConfigured(
            "The database URL must begin with postgresql:// or postgres://, as in postgresql://user@host/database."
        )
    matched = _STRICT.fullmatch(remainder)
    if matched is None or ("@" in matched["rest"] and not _is_plausible(matched)):
        matched = _LENIENT.fullmatch(remainder) or matched
    if matched is None:
        raise NotConfigured("The database URL could not be parsed: percent-encode the special characters in it.")
    path, _, query = matched["rest"].partition("?")
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        # SQLAlchemy repeats the parameter `host` for several hosts; for any other parameter the last value counts.
        parameters[name] = f"{parameters[name]},{value}" if name == "host" and name in parameters else value
    other_user, other_password = parameters.pop("user", ""), parameters.pop("password", "")
    user = unquote(matched["user"] or "") or other_user
    password = other_password if matched["password"] is None else unquote(matched["password"])
    hosts, ports = _hosts(matched["hosts"], parameters.pop("host", ""), parameters.pop("port", ""))
    named = parameters.pop("dbname", "") or parameters.pop("database", "")
    parsed = DatabaseUrl(
        user=user or None,
        password=password or None,
        hosts=hosts,
        ports=ports,
        database=unquote(path[1:]) or named or None,
        parameters=parameters,
    )
    _check_parameters(parameters)
    return parsed


def settings_of_url(url: str, settings: Settings) -> Settings:
    """Return `settings` with ``pooler="transaction"`` if parameters of the URL say so.

    Prisma calls it ``pgbouncer=true``; asyncpg and SQLAlchemy users turn the cache of prepared statements off.
    """
    parameters = parse_url(url).parameters
    says_so = parameters.get("pgbouncer", "").lower() in ("true", "1") or any(
        parameters.get(name) == "0" for name in ("statement_cache_size", "prepared_statement_cache_size")
    )
    if says_so and settings.pooler == "none":
        return settings.model_copy(update={"pooler": "transaction"})
    return settings


def connector(
    url: str,
    *,
    password: Password | None = None,
    server_settings: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    statement_cache_size: int = 100,
) -> Connect:
    """Return a function that opens a connection to the database at `url`.

    Parts that the URL omits come from the ``PG*`` environment variables and from ``~/.pgpass``, as with psql.

    Args:
        url: see :func:`parse_url`.
        password: replaces the password of the URL; a function is called for each new connection.
        server_settings: settings of the session, such as ``statement_timeout``.
        timeout: seconds that an attempt to connect to one host may take; ``connect_timeout`` in the URL overrides it.
        statement_cache_size: number of prepared statements that a connection caches; 0 behind a transaction pooler.

    Raises:
        NotConfigured: see :func:`parse_url`; or a certificate file cannot be read.
    """
    parsed = parse_url(url)
    parameters = dict(parsed.parameters)
    if "ssl" in parameters:  # the name that asyncpg and SQLAlchemy's asyncpg URLs use
        parameters.setdefault(
            "sslmode", {"true": "require", "false": "disable"}.get(parameters["ssl"], parameters["ssl"])
        )
    settings = {"application_name": "agentstore"} | {
        name: parameters[name] for name in _SERVER_SETTINGS if name in parameters
    }
    arguments: dict[str, Any] = {name: parameters[name] for name in _ARGUMENTS if name in parameters}
    if parameters.get("channel_binding") == "require":
        # Neon's console prints it, so the URL must be accepted; that it has no effect must not go unnoticed.
        _log.warning("channel_binding=require in the database URL is not enforced: the driver has no channel binding")
    if "connect_timeout" in parameters:
        timeout = float(parameters["connect_timeout"]) or timeout
    if parameters.get("sslrootcert") == "system":
        arguments["ssl"] = _system_roots(parameters)
        tls = {}
    else:
        tls = {name: parameters[name] for name in _TLS if name in parameters}
        for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
            if name in tls and not os.access(tls[name], os.R_OK):
                raise NotConfigured(f"{name} in the database URL: the file {tls[name]} cannot be read.")
    arguments |= {
        "dsn": "postgresql:///?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in tls.items())
        if tls
        else None,
        "user": parsed.user,
        "password": parsed.password if password is None else password,
        "database": parsed.database,
        "server_settings": {**settings, **(server_settings or {})},
        "statement_cache_size": statement_cache_size,
    }
    names, ports = parsed.hosts, parsed.ports
    if not names and "service" not in parameters:
        names, ports = _hosts("", os.environ.get("PGHOST", ""), os.environ.get("PGPORT", ""))
    target = parameters.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS") or "any"
    tcp = {name: int(parameters[name]) for name in _TCP if name in parameters}
    return Hosts(tuple(zip(names, ports, strict=True)), arguments, timeout=timeout, target=target, tcp=tcp)


def migration_url(url: str, settings: Settings) -> str | None:
    """Return the URL that migrations of the database at `url` connect to, or None if that is a pooler.

    It is MIGRATION_DATABASE_URL if `url` is the setting DATABASE_URL (it is another route to the same database),
    otherwise `url`, unless that is a pooler. A migration depends on its session, for its search_path and its lock: a
    transaction pooler would execute each part of it on another server connection, and leave its settings on that for
    other clients.
    """
    if settings.migration_database_url is not None and settings.database_url in (None, SecretStr(url)):
        return settings.migration_database_url.get_secret_value()
    return None if settings_of_url(url, settings).pooler == "transaction" else url


def read_url(url: str, settings: Settings) -> str | None:
    """Return READ_URL if it is that of the database at `url`, as with :func:`migration_url`, otherwise None."""
    if settings.read_url is not None and settings.database_url in (None, SecretStr(url)):
        return settings.read_url.get_secret_value()
    return None


def direct_connector(url: str, settings: Settings, *, password: Password | None = None) -> Connect | None:
    """Return a function that opens connections to :func:`migration_url`, or None if there is none."""
    direct = migration_url(url, settings)
    if direct is None:
        return None
    return connector(direct, password=password if direct == url else None, timeout=settings.connect_timeout)


def _is_plausible(url: re.Match[str]) -> bool:
    """Return whether the @ after the hosts is part of a parameter, and not the end of an unencoded password."""
    path, _, query = url["rest"].partition("?")
    ports = all(port.isdigit() for port in re.findall(r":([^,]*)", url["hosts"]))
    return (url["user"] is not None or ports) and "@" not in path and all("=" in part for part in query.split("&"))


def _hosts(netloc: str, host: str, port: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the hosts and ports of a URL; the query parameters `host` and `port` override the network location."""
    names, numbers = [], []
    for address in (host or netloc).split(",") if host or netloc else []:
        if bracketed := re.fullmatch(r"\[(.*)\](?::(\d*))?", address):
            name, number = bracketed[1], bracketed[2] or ""
        elif unquote(address).startswith("/"):  # a socket directory may contain colons: /cloudsql/project:region:name
            name, number = address, ""
        else:
            name, _, number = address.partition(":")
        names.append(name if host else unquote(name))
        numbers.append(number)
    given = port.split(",")
    default = os.environ.get("PGPORT") or "5432"
    numbers = [
        number or (given[0] if len(given) == 1 else "".join(given[index : index + 1])) or default
        for index, number in enumerate(numbers)
    ]
    if not all(number.isdigit() and 0 < int(number) < 65536 for number in numbers):
        raise NotConfigured("The database URL has an invalid port: expected a number from 1 to 65535.")
    return tuple(names), tuple(int(number) for number in numbers)


def _check_parameters(parameters: Mapping[str, str]) -> None:
    known = {
        *(*_TLS, *_ARGUMENTS, *_TCP, *_SERVER_SETTINGS, *_IGNORED),
        *("ssl", "connect_timeout", "channel_binding", "target_session_attrs"),
    }
    if unknown := sorted(set(parameters) - known):
        # The name is not shown where it could be the end of an unencoded password.
        is_safe = not any(re.search("[@/?#]", part) for parameter in parameters.items() for part in parameter)
        raise NotConfigured(
            f"The database URL has {f'the unknown parameter {unknown[0]!r}' if is_safe else 'an unknown parameter'}. "
            f"Server settings are given in options, as in options=-c%20search_path%3Dx."
        )
    modes = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    if (mode := parameters.get("sslmode")) is not None and mode not in modes:
        raise NotConfigured(f"sslmode in the database URL must be one of {', '.join(modes)}.")
    if (mode := parameters.get("ssl")) is not None and mode not in (*modes, "true", "false"):
        raise NotConfigured(f"ssl in the database URL must be one of {', '.join(modes)}, true, false.")
    targets = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
    if parameters.get("target_session_attrs", "any") not in targets:
        raise NotConfigured(f"target_session_attrs in the database URL must be one of {', '.join(targets)}.")
    for name, maximum in _WHOLE_NUMBERS.items():
        value = parameters.get(name, "0")
        if not re.fullmatch(r"\d{1,9}", value) or int(value) > maximum:
            raise NotConfigured(f"{name} in the database URL must be a whole number, at most {maximum}.")


def _system_roots(parameters: Mapping[str, str]) -> ssl.SSLContext:
    """Return an SSL context that trusts the system's CAs: libpq's ``sslrootcert=system``, which implies verify-full."""
    if parameters.get("sslmode", "verify-full") != "verify-full":
        raise NotConfigured("sslrootcert=system in the database URL requires sslmode=verify-full.")
    context = ssl.create_default_context()
    if certificate := parameters.get("sslcert"):
        try:
            context.load_cert_chain(certificate, parameters.get("sslkey"), parameters.get("sslpassword"))
        except OSError as error:
            raise NotConfigured(f"The client certificate in the database URL cannot be loaded: {error}") from error
    return context


def with_database(url: str, database: str) -> str:
    """Return the URL of another database on the same server.

    Raises:
        NotConfigured: the URL is invalid.
    """
    parsed = parse_url(url)
    login = quote(parsed.user or "", safe="") + (f":{quote(parsed.password, safe='')}" if parsed.password else "")
    parameters = {
        **parsed.parameters,
        "host": ",".join(parsed.hosts),
        "port": ",".join(str(port) for port in parsed.ports),
    }
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    return f"postgresql://{login}@/{quote(database)}?{query}"
