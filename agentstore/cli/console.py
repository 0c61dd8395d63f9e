"""``agentstore console``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, cast

import typer

from agentstore.cli.connect import load_settings
from agentstore.cli.options import Url, new_group
from agentstore.cli.output import echo
from agentstore.errors import NotConfigured

if TYPE_CHECKING:
    from agentstore.console.security import ConsoleOptions
    from agentstore.interfaces import Store
    from agentstore.settings import Settings

commands = new_group()

# Bytes. What one page may read: more than the largest message, but far less than an application may.
_MOST_READ = 64_000_000


@commands.command()
def console(
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on; another one than of this machine needs a token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65_535, help="Port; 0 chooses a free one.")] = 8642,
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Path prefix under which a proxy publishes the console.")
    ] = "",
    proxy: Annotated[
        str,
        typer.Option(metavar="ADDRESSES", help="Proxies whose X-Forwarded headers are trusted, separated by commas."),
    ] = "127.0.0.1",
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Allow to rename, erase, delete, retry and prune.")
    ] = False,
    url: Url = None,
) -> None:
    """Serve the console: stored data, and its health, in a browser.

    It only reads, unless --allow-writes is given. Visitors have to enter AGENTSTORE_CONSOLE_TOKEN, if it is set.
    """
    try:
        import jinja2  # noqa: F401
        import markdown_it  # noqa: F401
        import nh3  # noqa: F401
        import pygments  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise NotConfigured(
            f"the console needs the package {error.name}: pip install 'agentstore-postgres[console]'"
        ) from error
    from agentstore.console.security import ConsoleOptions

    settings = load_settings()
    token = settings.console_token.get_secret_value() if settings.console_token is not None else None
    options = ConsoleOptions(host, token, root_path.rstrip("/"), allow_writes)
    most_read = max(_MOST_READ, 2 * settings.max_message_bytes)
    settings = settings.model_copy(update={"max_reply_bytes": min(most_read, settings.max_reply_bytes)})
    asyncio.run(_serve(url, settings, options, port, proxy))


async def _serve(url: str | None, settings: Settings, options: ConsoleOptions, port: int, proxy: str) -> None:
    import socket

    import uvicorn

    from agentstore.console.app import create_app
    from agentstore.console.recent import Recent
    from agentstore.database.telemetry import Telemetry
    from agentstore.store import AgentStore

    recent = Recent()
    telemetry = Telemetry(on_statement=recent.add_statement)
    async with AgentStore(url, settings=settings, telemetry=telemetry) as store:
        app = create_app(cast("Store", store), store._database, options, recent=recent)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            proxy_headers=True,
            forwarded_allow_ips=proxy,
            server_header=False,
            # Pages that follow a session have no end of their own.
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=65_536,
        )
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((options.host, port))
                listening.listen(config.backlog)  # visitors may connect once the address is printed
            except OSError as error:
                raise NotConfigured(f"the console cannot listen on {options.host}:{port}: {error.strerror}") from error
            name = f"[{options.host}]" if family == socket.AF_INET6 else options.host
            where = f"http://{name}:{listening.getsockname()[1]}{options.root_path}/"
            access = "with --allow-writes" if options.allow_writes else "read-only"
            echo(f"serving {where} ({access}); Ctrl-C stops it")
            await uvicorn.Server(config).serve(sockets=[listening])
