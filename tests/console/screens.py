"""Make the screenshots for the documentation: ``python -m tests.console.screens [FOLDER]``.

The data are the conversations of the demo, and what else the console shows, in an embedded Postgres of its own.
"""

import asyncio
import sys
from pathlib import Path
from urllib.parse import urlencode

import asyncpg

from agentstore import AgentStore, Settings, migrate
from agentstore.console.security import ConsoleOptions
from agentstore.embedded.postgres import EmbeddedPostgres
from tests.console.sample import fill, fill_queue, serving
from tests.support.cli import run
from tests.support.servers import data_folder

CHROMIUM = "/usr/bin/chromium"
CONVERSATIONS = Path(__file__).parents[2] / "examples" / "conversations.jsonl"
FOLDER = Path(__file__).parents[2] / "docs" / "console"


def page(path: str, **parameters: str) -> str:
    """Return the path of a page with parameters."""
    return f"{path}?{urlencode(parameters)}" if parameters else path


PAGES = {
    "overview": page("/"),
    "users": page("/users"),
    "user": page("/user", user="alice"),
    "files": page("/user", user="alice", show="files"),
    "file": page("/file", user="alice", session="lisbon", name="viewpoint.png"),
    "documents": page("/user", user="alice", show="documents"),
    "document": page("/document", user="alice", id="settings"),
    "checkpoints": page("/checkpoints", user="alice", session="lisbon"),
    "checkpoint": page("/checkpoint", user="alice", session="lisbon", namespace="", id="1f04-0000"),
    "channel": page("/checkpoint", user="alice", session="lisbon", namespace="", id="1f04-0000", channel="plan"),
    "session": page("/session", user="alice", session="lisbon"),
    "search": page("/search", user="alice", q="trains and budget for Lisbon"),
    "states": page("/states", user="alice", session="lisbon"),
    "diff": page("/diff", user="alice", session="lisbon", a="1", b="3"),
    "queue": page("/queue"),
    "leased": page("/queue", show="leased"),
    "failed": page("/queue", show="failed"),
    "operations": page("/operations"),
    "arabic": page("/session", user="سارة", session="رحلة"),
    "erase": page("/act/erase", user="alice"),
    "empty": page("/search", user="alice", q="zzzz"),
    "error": page("/session", user="alice", session="missing"),
    "chinese": page("/session", user="李雷", session="天气", lang="zh"),
}
SIZES = {"wide": (1440, 900), "phone": (360, 760)}
# What the documentation shows, small enough for a repository.
DOCUMENTED = {
    ("overview", "light", "wide"),
    ("session", "light", "wide"),
    ("search", "dark", "wide"),
    ("session", "dark", "phone"),
}


def main(folder: Path, *, everything: bool) -> None:
    """Write the screenshots: those of the documentation, or of every page in every size and theme."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with data_folder() as data, EmbeddedPostgres(data / "server") as server:
        url = server.url_of("postgres")
        asyncio.run(migrate.upgrade(url, settings=Settings()))
        assert run("import", str(CONVERSATIONS), environment={"AGENTSTORE_DATABASE_URL": url}).code == 0

        async def prepare() -> None:
            async with AgentStore(url) as store:
                await fill(store)
            await fill_queue(url)
            connection = await asyncpg.connect(url)
            await connection.execute("VACUUM (ANALYZE)")
            await connection.close()

        asyncio.run(prepare())
        options = ConsoleOptions(allow_writes=everything)
        with serving(url, options) as served, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for size, (width, height) in SIZES.items():
                for theme in ("light", "dark"):
                    context = browser.new_context(
                        viewport={"width": width, "height": height}, color_scheme=theme, locale="en-US"
                    )
                    for name, path in PAGES.items():
                        if not everything and (name, theme, size) not in DOCUMENTED:
                            continue
                        tab = context.new_page()
                        tab.goto(served.url + path)
                        tab.wait_for_timeout(200)
                        if name in ("session", "chinese"):
                            tab.locator("details.call").first.evaluate("each => each.open = true")
                        if name == "search":
                            tab.locator(".hit details").first.evaluate("each => each.open = true")
                        tab.screenshot(path=folder / f"{name}-{theme}-{size}.png", full_page=everything)
                        tab.close()
                    context.close()
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER, everything="--all" in sys.argv)
