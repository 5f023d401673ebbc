"""HTTP answers are compared with what is expected, once or many times."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, TimedOut, Unreachable
from modules import http_check
from tests.modules.conftest import Answer, Certificate, MakeContext, Request, Serve

READY = {"ready_for_traffic": True, "status": "ready", "checks": {"agents": 61, "database": True}}


def ready(request: Request) -> Answer:
    return 200, READY


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unmet(caught: pytest.ExceptionInfo[Failed]) -> list[Any]:
    reasons = caught.value.data["unmet"]
    assert isinstance(reasons, list)
    return reasons


def test_an_answer_becomes_the_result(ctx: TaskContext, serve: Serve) -> None:
    server = serve(ready)
    data = http_check.get(ctx, f"{server.url}/health/ready").data
    assert (data["status"], data["json"], data["samples"], data["failures"]) == (200, READY, 1, 0)
    assert data["headers"]["content-type"] == "application/json"
    assert data["tls_days"] is None
    assert data["statuses"] == {"200": 1}
    assert set(data["latency"]) == {"p50", "p95", "p99", "max"}
    assert data["latency"]["p50"] > 0


def test_the_request_carries_headers_and_the_run(make_context: MakeContext, serve: Serve) -> None:
    server = serve(ready)
    ctx = make_context({"http-check": {"headers": {"X-Health-Check": "ce-run"}}})
    http_check.get(ctx, server.url, headers={"x-canary-user": "true"})
    headers = server.requests[0].headers
    assert headers["x-health-check"] == "ce-run"
    assert headers["x-canary-user"] == "true"
    assert headers["x-ce-run"] == "run-1"


@pytest.mark.parametrize(
    "expect",
    [
        {"status": 200},
        {"status": "2xx"},
        {"status": [204, "2xx"]},
        {"json": {"ready_for_traffic": True, "checks.agents": 61, "json.status": "ready"}},
        {"json": ["checks.agents == 61", "checks | length == 2"]},
        {"json": "ready_for_traffic and checks.database"},
        {"text": ["ready_for", "agents"]},
        {"regex": r'"agents": \d+'},
        {"headers": {"Content-Type": "/json/"}},
        {"headers": {"content-type": "application/json"}},
        {"latency": {"p95": "30s", "max": "1m"}},
        {"error_rate": "0 %"},
    ],
)
def test_what_is_as_expected_passes(ctx: TaskContext, serve: Serve, expect: Any) -> None:
    http_check.get(ctx, serve(ready).url, expect=expect)


@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        ({"status": [204, "3xx"]}, "expected status 204 or 3xx, got 200"),
        ({"json": {"status": "live"}}, "expected status to be 'live', got 'ready'"),
        ({"json": {"checks.agents": True}}, "expected checks.agents to be True, got 61"),
        ({"json": ["checks.agents > 61"]}, "expected checks.agents > 61, which is False"),
        ({"json": {"checks.redis.up": True}}, "expected checks.redis.up, but"),
        ({"text": "live"}, "expected the body to contain 'live'"),
        ({"regex": "^live"}, "expected the body to match /^live/"),
        ({"headers": {"X-Version": "5.1"}}, "expected header X-Version, got none"),
        (
            {"headers": {"content-type": "text/html"}},
            "expected header content-type to be text/html, got application/json",
        ),
        ({"latency": {"p50": "0.001ms"}}, "expected p50 within 0.001ms, got"),
        ({"tls_days": 14}, "expected a TLS certificate, but the connection is not TLS"),
    ],
)
def test_what_is_not_as_expected_fails_with_both_sides(
    ctx: TaskContext, serve: Serve, expect: Any, reason: str
) -> None:
    with pytest.raises(Failed) as caught:
        http_check.get(ctx, serve(ready).url, expect=expect)
    assert len(unmet(caught)) == 1
    assert unmet(caught)[0].startswith(reason)
    assert reason in caught.value.message
    assert caught.value.data["status"] == 200


def test_an_error_answer_fails_with_the_servers_words(ctx: TaskContext, serve: Serve) -> None:
    server = serve(lambda request: (503, {"error": "agents are loading"}))
    with pytest.raises(Failed, match="expected status 2xx, got 503") as caught:
        http_check.get(ctx, server.url)
    assert caught.value.evidence == ['{"error": "agents are loading"}']
    assert caught.value.data["json"] == {"error": "agents are loading"}


def test_text_where_json_is_expected_is_a_reason(ctx: TaskContext, serve: Serve) -> None:
    with pytest.raises(Failed, match="expected a JSON document, got text/plain"):
        http_check.get(
            ctx, serve(lambda request: (200, "fine")).url, expect=http_check.Expect(json={"a": 1})
        )


def test_nobody_there_is_unreachable(ctx: TaskContext) -> None:
    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        http_check.get(ctx, f"http://127.0.0.1:{free_port()}/")
    assert caught.value.data["failures"] == 1
    with pytest.raises(Unreachable):
        http_check.get(ctx, f"http://127.0.0.1:{free_port()}/", samples=3)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense", "http://[::1", "http://a:b/"])
def test_what_is_no_url_is_refused(ctx: TaskContext, url: str) -> None:
    with pytest.raises(Refused, match="not a URL"):
        http_check.get(ctx, url)


@pytest.mark.parametrize(
    "expect",
    [
        {"status": "ok"},
        {"latency": {"p95": 500}},
        {"latency": {"p90": "1s"}},
        {"jsn": {}},
        {"error_rate": "few"},
        {"latency": {"p95": 0}},
        {"regex": "("},
        {"headers": {"content-type": "/(/"}},
    ],
)
def test_expectations_that_make_no_sense_are_refused_before_anything_is_sent(
    ctx: TaskContext, serve: Serve, expect: Any
) -> None:
    server = serve(ready)
    with pytest.raises(Refused):
        http_check.get(ctx, server.url, expect=expect)
    assert server.requests == []


def test_a_number_of_samples_with_an_error_rate(ctx: TaskContext, serve: Serve) -> None:
    turn = itertools.count()

    def flaky(request: Request) -> Answer:
        return (500, "sorry") if next(turn) % 10 == 0 else (200, "ok")

    server = serve(flaky)
    data = http_check.get(
        ctx, server.url, samples=100, concurrency=4, expect=http_check.Expect(error_rate=10)
    ).data
    assert (data["samples"], data["failures"], data["error_rate"]) == (100, 10, 10.0)
    assert data["statuses"] == {"200": 90, "500": 10}
    with pytest.raises(Failed, match="at most 9 % of requests to fail, 10 % did") as caught:
        http_check.get(ctx, server.url, samples=100, expect=http_check.Expect(error_rate="9 %"))
    assert unmet(caught)[1] == "expected status 2xx, got 500 (10 of 100 times)"
    assert len(server.requests) == 200


def test_without_an_error_rate_the_first_failure_ends_it(ctx: TaskContext, serve: Serve) -> None:
    turn = itertools.count()
    server = serve(lambda request: (200 if next(turn) < 3 else 502, ""))
    with pytest.raises(Failed, match="got 502"):
        http_check.get(ctx, server.url, samples=1000)
    assert len(server.requests) == 4


def test_samples_for_a_duration(ctx: TaskContext, serve: Serve) -> None:
    server = serve(ready)
    data = http_check.get(ctx, server.url, duration=0.3, interval=0.01, concurrency=2).data
    assert data["samples"] == len(server.requests)
    assert data["samples"] >= 2


def test_redirects_are_answers_unless_followed(ctx: TaskContext, serve: Serve) -> None:
    def redirect(request: Request) -> Answer:
        return (301, "", {"Location": "/there"}) if request.path == "/" else (200, "there")

    server = serve(redirect)
    moved = http_check.get(
        ctx, server.url, expect=http_check.Expect(status=301, headers={"location": "/there"})
    )
    assert moved.data["status"] == 301
    assert http_check.get(ctx, server.url, follow=True).data["text"] == "there"


def test_tls_is_verified_and_its_end_is_known(
    make_context: MakeContext, serve: Serve, certificate: Callable[[float], Certificate]
) -> None:
    made = certificate(20)
    server = serve(ready, made.server)
    url = server.url.replace("http:", "https:")
    with pytest.raises(Refused, match="certificate is not to be trusted"):
        http_check.get(make_context(), url)
    trusting = make_context({"http-check": {"ca": str(made.file)}})
    data = http_check.get(trusting, url, expect=http_check.Expect(tls_days=14)).data
    assert data["tls_days"] == pytest.approx(20, abs=0.1)
    with pytest.raises(Failed, match="a certificate good for 30 days, it ends in"):
        http_check.get(trusting, url, expect=http_check.Expect(tls_days=30))


def test_without_verification_the_end_of_a_certificate_is_known(
    make_context: MakeContext, serve: Serve, certificate: Callable[[float], Certificate]
) -> None:
    server = serve(ready, certificate(5).server)
    ctx = make_context({"http-check": {"verify": False}})
    data = http_check.get(ctx, server.url.replace("http:", "https:")).data
    assert data["tls_days"] == pytest.approx(5, abs=0.1)


def test_a_server_that_does_not_answer_in_time_is_unreachable(
    ctx: TaskContext, serve: Serve
) -> None:
    release = threading.Event()
    server = serve(lambda request: (200, str(release.wait(20))))
    with pytest.raises(Unreachable, match=r"did not answer within 0\.1 s"):
        http_check.get(ctx, server.url, timeout=0.1)
    release.set()


def test_a_cancelled_check_does_not_wait_for_the_answer(
    ctx: TaskContext, serve: Serve, cancel_when: Any
) -> None:
    release = threading.Event()
    server = serve(lambda request: (200, str(release.wait(20))))
    cancel_when(ctx, lambda: bool(server.requests))
    with pytest.raises(Cancelled):
        http_check.get(ctx, server.url, timeout=20)
    release.set()


def test_a_deadline_ends_a_check(make_context: MakeContext, serve: Serve) -> None:
    with pytest.raises(TimedOut):
        http_check.get(make_context(seconds=0.2), serve(ready).url, duration=60, interval=0.01)


def test_an_endless_body_is_read_up_to_a_bound(ctx: TaskContext, serve: Serve) -> None:
    server = serve(lambda request: (200, b"x" * (12 << 20), {"Content-Type": "text/plain"}))
    data = http_check.get(ctx, server.url).data
    assert len(data["text"]) == 16384
    assert data["json"] is None


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"text": "\\ud800"}', b"9" * 5000])
def test_a_body_that_nobody_should_send_is_only_an_answer(
    ctx: TaskContext, serve: Serve, body: bytes
) -> None:
    server = serve(lambda request: (200, body, {"Content-Type": "application/json"}))
    assert http_check.get(ctx, server.url).data["status"] == 200
    with pytest.raises(Failed, match="expected"):
        http_check.get(ctx, server.url, expect=http_check.Expect(json={"text": "well"}))


@pytest.mark.parametrize("value", ["a\nX-Injected: yes", "中"])
def test_a_header_that_cannot_be_sent_is_refused(
    ctx: TaskContext, serve: Serve, value: str
) -> None:
    server = serve(ready)
    with pytest.raises(Refused, match="cannot be sent as it stands"):
        http_check.get(ctx, server.url, headers={"X-Team": value})
    assert server.requests == []


def test_samples_are_strangers_to_each_other(ctx: TaskContext, serve: Serve) -> None:
    """A cookie that pins users to one server must not pin the samples of a check."""
    server = serve(lambda request: (200, "", {"Set-Cookie": "claude-session=blue-1; Path=/"}))
    http_check.get(ctx, server.url, samples=3)
    assert [request.headers.get("cookie") for request in server.requests] == [None] * 3


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_refused_by_name(
    ctx: TaskContext, serve: Serve, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(Refused, match="ALL_PROXY") as caught:
        http_check.get(ctx, serve(ready).url)
    assert "NO_PROXY" in caught.value.hint


def test_requests_go_through_the_environments_proxy(
    ctx: TaskContext, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(ready)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    assert http_check.get(ctx, "http://far.example/health").data["json"] == READY
    assert proxy.requests[0].path == "http://far.example/health"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert http_check.get(ctx, serve(ready).url).data["json"] == READY
    assert len(proxy.requests) == 1


def trickle(client: socket.socket) -> None:
    """Answer one byte at a time, for as long as the other side stands it."""
    pause = threading.Event()
    with client, contextlib.suppress(OSError):
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not pause.wait(0.02):
            client.sendall(b"x")


def test_a_server_that_trickles_is_given_up_in_time(
    ctx: TaskContext, make_context: MakeContext
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            for _ in range(2):
                client, _ = listener.accept()
                threading.Thread(target=trickle, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(Unreachable, match=r"did not answer within 0\.3 s"):
            http_check.get(ctx, url, timeout=0.3)
        with pytest.raises(TimedOut):
            http_check.get(make_context(seconds=0.3), url, timeout=60)


def test_a_server_of_ipv6_can_be_asked(ctx: TaskContext) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://[::1]:{listener.getsockname()[1]}/"
        assert http_check.get(ctx, url).data["text"] == "ok"
