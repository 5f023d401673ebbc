"""Requests that change something carry a key, and are not sent twice unnoticed."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Failed, Unreachable
from modules import http
from tests.modules.conftest import Answer, MakeContext, Request, Serve


class Switch:
    """A resource that is there once it was made."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.status = 0

    def __call__(self, request: Request) -> Answer:
        if self.status:
            return self.status, "sorry"
        if request.method == "GET":
            return (200, "there") if self.made else (404, "")
        self.made[request.headers["idempotency-key"]] = request
        return 201, {"made": len(self.made)}


def test_a_request_carries_key_run_and_body(make_context: MakeContext, serve: Serve) -> None:
    switch = Switch()
    ctx = make_context({"http": {"headers": {"Authorization": "Bearer x"}}})
    result = http.request(ctx, serve(switch).url, body={"pause": True}, headers={"X-Team": "sre"})
    assert (result.changed, result.data["status"], result.data["json"]) == (True, 201, {"made": 1})
    request = switch.made["run-1/step/0"]
    assert (request.method, request.json()) == ("POST", {"pause": True})
    assert request.headers["x-ce-run"] == "run-1"
    assert request.headers["x-team"] == "sre"
    assert request.headers["authorization"] == "Bearer x"


def test_another_status_fails_and_an_overloaded_server_may_be_tried_again(
    ctx: TaskContext, serve: Serve
) -> None:
    switch = Switch()
    url = serve(switch).url
    with pytest.raises(Failed, match="expected status 200 or 204, got 201") as caught:
        http.request(ctx, url, method="PUT", status=[200, 204])
    assert caught.value.data["json"] == {"made": 1}
    switch.status = 503
    with pytest.raises(Unreachable, match="got 503") as overloaded:
        http.request(ctx, url)
    assert overloaded.value.evidence == ["sorry"]


def test_what_is_there_is_not_made_again(ctx: TaskContext, serve: Serve) -> None:
    switch = Switch()
    url = serve(switch).url
    assert http.request.prober is not None
    assert http.request.checker is not None
    probe = http.request.prober
    assert probe(ctx, url).verdict == "unknown"
    assert probe(ctx, url, repeatable=True).verdict == "not_done"
    assert probe(ctx, url, done_if=f"{url}/it").verdict == "not_done"
    shown = http.request.checker(ctx, url, body={"a": 1}, done_if=f"{url}/it")
    assert (shown.changed, shown.diff) == (True, f'+ POST {url} {{"a": 1}}\n')
    assert switch.made == {}
    done = http.request(ctx, url, done_if=f"{url}/it")
    again = http.request(ctx, url, done_if=f"{url}/it")
    assert (done.changed, again.changed, again.data["already_done"]) == (True, False, True)
    assert done.data.keys() == again.data.keys() == shown.data.keys()
    assert probe(ctx, url, done_if=f"{url}/it").verdict == "done"
    assert not http.request.checker(ctx, url, done_if=f"{url}/it").changed
    switch.status = 500
    with pytest.raises(Failed, match="neither 2xx"):
        probe(ctx, url, done_if=f"{url}/it")


@pytest.fixture
def breaks_off() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes a request and hangs up without a word; what it was sent."""
    taken: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        taken.append(client.recv(65536))

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/pay", taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_what_may_have_arrived_is_not_sent_again_by_itself(
    ctx: TaskContext, breaks_off: tuple[str, list[bytes]], serve: Serve
) -> None:
    url, taken = breaks_off
    with pytest.raises(Unreachable, match="whether it arrived is not known") as caught:
        http.request(ctx, url)
    assert not caught.value.retryable
    assert "--done or --redo" in caught.value.hint
    assert len(taken) == 1
    with pytest.raises(Unreachable, match=r"broke off the connection$") as caught:
        http.request(ctx, url, repeatable=True)
    assert caught.value.retryable
    gateway = serve(lambda request: (504, "upstream timed out")).url
    with pytest.raises(Unreachable, match="got 504; whether it arrived is not known") as caught:
        http.request(ctx, gateway)
    assert (caught.value.retryable, caught.value.evidence) == (False, ["upstream timed out"])
    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        http.request(ctx, "http://127.0.0.1:1/")
    assert caught.value.retryable
