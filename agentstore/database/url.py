"""Database URLs as people have them, turned into a function that opens connections.

asyncpg reads ``postgresql://`` URLs, but takes every parameter that it does not know for a server setting, and the
URLs that cloud consoles print hold parameters of other clients. So the URL is read here, strictly: a parameter that
nobody knows is an error and not a TLS option that is silently lost.
"""

import logging
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import asyncpg

from agentstore.errors import NotConfigured

_log = logging.getLogger(__name__)

Password = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""A password, or what returns the one of the moment (an IAM token), asked at each new connection."""

Connect = Callable[[], Awaitable[asyncpg.Connection]]
"""Opens one connection of the driver."""

_STRICT = re.compile(r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?(?P<hosts>[^@/?#]*)(?P<rest>([/?].*)?)")
# A password with a raw @, /, ? or #: up to the last @ that a host can follow.
_LENIENT = re.compile(r"(?P<user>[^:@/]*):(?P<password>.*)@(?P<hosts>[^@/?#]*)(?P<rest>([/?].*)?)")

# Read by asyncpg from a DSN's query only, not as arguments.
_TLS = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version",
)  # fmt: skip
_ARGUMENTS = ("target_session_attrs", "passfile", "service", "krbsrvname", "gsslib")
_SERVER_SETTINGS = ("application_name", "options")
# Of libpq and of other clients, and without a meaning for this one.
_IGNORED = (
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "gssencmode",
    "fallback_application_name", "client_encoding", "load_balance_hosts", "sslcompression", "sslsni",
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
        places = ",".join(
            f"[{host}]:{port}" if ":" in host and host[0] != "/" else f"{host}:{port}"
            for host, port in zip(self.hosts, self.ports, strict=True)
        )
        return f"postgresql://{quote(self.user or '')}{'@' if self.user else ''}{places}/{quote(self.database or '')}"


def parse_url(url: str) -> DatabaseUrl:
    """Read a Postgres URL.

    ``postgres://``, ``postgresql://`` and ``postgresql+DRIVER://`` mean the same. Several hosts are separated by
    commas. A password is percent-encoded or, where that is not ambiguous, as it is.

    Raises:
        NotConfigured: it is no such URL, or has a parameter that is unknown here. The text never holds the URL.
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
        raise NotConfigured("The database URL could not be read: percent-encode the special characters in it.")
    path, _, query = matched["rest"].partition("?")
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        # SQLAlchemy's form of several hosts repeats the parameter; of any other the last one counts.
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


def connector(
    url: str,
    *,
    password: Password | None = None,
    server_settings: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    statement_cache_size: int = 100,
) -> Connect:
    """Return a function that opens a connection to the database that `url` names.

    `password` is used instead of the URL's. What the URL leaves out comes from the ``PG*`` variables of the
    environment and from ``~/.pgpass``, as with psql.

    Raises:
        NotConfigured: see :func:`parse_url`; also for a certificate that cannot be read.
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
        # Neon prints it. Refusing the URL would help nobody; keeping quiet would not be honest.
        _log.warning("channel_binding=require in the database URL is not enforced: the driver has no channel binding")
    if "connect_timeout" in parameters:
        timeout = float(parameters["connect_timeout"]) or timeout
    if parsed.hosts:
        arguments |= {"host": list(parsed.hosts), "port": list(parsed.ports)}
    if parameters.get("sslrootcert") == "system":
        arguments["ssl"] = _system_roots(parameters)
        tls = {}
    else:
        tls = {name: parameters[name] for name in _TLS if name in parameters}
        for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
            if name in tls and not os.access(tls[name], os.R_OK):
                raise NotConfigured(f"{name} in the database URL names {tls[name]}, which cannot be read.")
    arguments |= {
        "dsn": "postgresql:///?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in tls.items())
        if tls
        else None,
        "user": parsed.user,
        "password": parsed.password if password is None else password,
        "database": parsed.database,
        "server_settings": {**settings, **(server_settings or {})},
        "timeout": timeout,
        "statement_cache_size": statement_cache_size,
    }

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(**arguments)

    return connect


def _is_plausible(url: re.Match[str]) -> bool:
    """Whether the @ after the hosts belongs to a parameter, and not to the end of a raw password."""
    path, _, query = url["rest"].partition("?")
    ports = all(port.isdigit() for port in re.findall(r":([^,]*)", url["hosts"]))
    return (url["user"] is not None or ports) and "@" not in path and all("=" in part for part in query.split("&"))


def _hosts(netloc: str, host: str, port: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The hosts and ports of a URL; `host` and `port`, of its query, win over the place before the path."""
    names, numbers = [], []
    for place in (host or netloc).split(",") if host or netloc else []:
        if bracketed := re.fullmatch(r"\[(.*)\](?::(\d*))?", place):
            name, number = bracketed[1], bracketed[2] or ""
        elif unquote(place).startswith("/"):  # a socket's folder may hold colons: /cloudsql/project:region:instance
            name, number = place, ""
        else:
            name, _, number = place.partition(":")
        names.append(name if host else unquote(name))
        numbers.append(number)
    given = port.split(",")
    default = os.environ.get("PGPORT") or "5432"
    numbers = [
        number or (given[0] if len(given) == 1 else "".join(given[index : index + 1])) or default
        for index, number in enumerate(numbers)
    ]
    if not all(number.isdigit() and 0 < int(number) < 65536 for number in numbers):
        raise NotConfigured("The database URL has a port that is not a number from 1 to 65535.")
    return tuple(names), tuple(int(number) for number in numbers)


def _check_parameters(parameters: Mapping[str, str]) -> None:
    known = {*_TLS, *_ARGUMENTS, *_SERVER_SETTINGS, *_IGNORED, "ssl", "connect_timeout", "channel_binding"}
    if unknown := sorted(set(parameters) - known):
        # Not by name where it could be the end of a raw password.
        plain = not any(re.search("[@/?#]", part) for parameter in parameters.items() for part in parameter)
        raise NotConfigured(
            f"The database URL has {f'the unknown parameter {unknown[0]!r}' if plain else 'an unknown parameter'}. "
            f"Settings of the server go into options, as in options=-c%20search_path%3Dx."
        )
    modes = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    if (mode := parameters.get("sslmode")) is not None and mode not in modes:
        raise NotConfigured(f"sslmode in the database URL must be one of {', '.join(modes)}.")
    if (mode := parameters.get("ssl")) is not None and mode not in (*modes, "true", "false"):
        raise NotConfigured(f"ssl in the database URL must be one of {', '.join(modes)}, true, false.")
    if not re.fullmatch(r"\d{1,9}", parameters.get("connect_timeout", "0")):
        raise NotConfigured("connect_timeout in the database URL must be a whole number of seconds.")


def _system_roots(parameters: Mapping[str, str]) -> ssl.SSLContext:
    """The certificates that the machine trusts: libpq's ``sslrootcert=system``, which implies verify-full."""
    if parameters.get("sslmode", "verify-full") != "verify-full":
        raise NotConfigured("sslrootcert=system in the database URL needs sslmode=verify-full.")
    context = ssl.create_default_context()
    if certificate := parameters.get("sslcert"):
        try:
            context.load_cert_chain(certificate, parameters.get("sslkey"), parameters.get("sslpassword"))
        except OSError as error:
            raise NotConfigured(f"The certificate that the database URL names cannot be used: {error}") from error
    return context
