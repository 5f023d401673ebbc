"""A secret that is not here harms nobody but the entry of the inventory that needs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.conftest import Desk


class _One(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"1")

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers everything with 1."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _One) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_secret_that_is_not_here_stops_only_who_needs_it(desk: Desk, url: str) -> None:
    desk.write(
        f"""
        name: half
        secrets: {{gone: {{env: NO_SUCH_VARIABLE}}}}
        metrics:
          whole: {{url: "{url}"}}
          broken: {{url: "{url}", headers: {{Authorization: "{{{{ secret('gone') }}}}"}}}}
        notify:
          channels:
            team: {{slack: {{webhook: "{{{{ secret('gone') }}}}"}}}}
            log: {{console: {{}}}}
            everyone: {{channels: [team, log]}}
        """,
        "inventory.yml",
    )
    desk.write(
        """
        name: Half
        inventory: inventory.yml
        steps:
          - {id: measured, metrics.read: whole}
          - {id: told, notify.send: {channel: log, text: one}}
          - {id: both, notify.send: {channel: everyone, text: two}}
        """
    )
    done = desk.ce_run("book.yml")
    assert done.returncode == 1
    assert "ok        measured" in done.stdout
    assert "changed   told" in done.stdout
    assert "the notice did not reach team; sent to log" in done.stdout
    assert "export NO_SUCH_VARIABLE before the run" in done.stdout
