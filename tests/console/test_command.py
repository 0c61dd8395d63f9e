"""``agentstore console``, the command."""

import os
import re
import signal
import socket
import sys

import httpx
import pytest

from tests.support.cli import run, started


@pytest.mark.slow
def test_the_command_serves_pages_until_it_is_interrupted(direct_url: str) -> None:
    assert run("sessions", "append", "alice", "s", "hello", "--create", "--url", direct_url).code == 0
    command = [sys.executable, "-m", "agentstore", "console", "--port", "0", "--url", direct_url]
    environment = {**os.environ, "AGENTSTORE_CONSOLE_TOKEN": "a token of sixteen"}
    with started(command, env=environment) as process:
        assert process.stdout is not None
        found = re.fullmatch(
            r"serving (http://127.0.0.1:\d+/) \(read-only\); Ctrl-C stops it\n", process.stdout.readline()
        )
        assert found is not None
        with httpx.Client(base_url=found[1]) as client:
            assert client.get("/users").headers["location"] == "/login?next=%2Fusers"
            client.post("/login", data={"token": "a token of sixteen"})
            assert "hello" in client.get("/session", params={"user": "alice", "session": "s"}).text
            # A page that follows a session does not delay the end.
            with client.stream("GET", "/session/events", params={"user": "alice", "session": "s"}) as events:
                assert next(events.iter_lines()) == "retry: 2000"
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 130


def test_options_that_are_not_valid_are_refused() -> None:
    for arguments, message in (
        (("--host", "0.0.0.0"), "AGENTSTORE_CONSOLE_TOKEN"),
        (("--root-path", "console"), "path prefix"),
    ):
        done = run("console", *arguments)
        assert (done.code, message in done.err) == (1, True)
    assert run("console", environment={"AGENTSTORE_CONSOLE_TOKEN": "short"}).code == 1
    assert run("console", "--port", "70000").code == 2


def test_an_address_that_is_in_use_is_refused(direct_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for arguments in (("console", "--port", str(port)), ("metrics", "--serve", str(port))):
            done = run(*arguments, "--url", direct_url)
            assert (done.code, done.out) == (1, "")
            assert f"127.0.0.1:{port}: Address already in use" in done.err
