"""Odd but lawful answers, and ways to servers: what real servers and proxies do."""

from __future__ import annotations

import contextlib
import gzip
import ipaddress
import json
import socketserver
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, Unreachable
from modules import http, http_check
from modules._http import client as http_client
from modules._http.decoding import Decoder
from modules._http.response import Response
from tests.modules.conftest import MakeContext, Serve, Told

HEALTHY = json.dumps({"status": "healthy"}).encode()
JSON = "Content-Type: application/json"

Raw = Callable[[str, int], bytes | None]
"""A request's path and how many its connection had before → the answer; None hangs up."""


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Paths:
    """What a raw server was asked for, and on how many connections."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.connections = 0


@pytest.fixture
def raw() -> Iterator[Callable[[Raw], Paths]]:
    """Start servers that write their answers by hand."""
    with contextlib.ExitStack() as stack:

        def start(reply: Raw) -> Paths:
            paths = Paths()

            class Handler(socketserver.StreamRequestHandler):
                def handle(self) -> None:
                    paths.connections += 1
                    before = 0
                    while line := self.rfile.readline():
                        length = 0
                        while header := self.rfile.readline().strip():
                            name, _, value = header.lower().partition(b":")
                            length = int(value) if name == b"content-length" else length
                        self.rfile.read(length)
                        path = line.split()[1].decode()
                        paths.asked.append(path)
                        written = reply(path, before)
                        before += 1
                        if written is None:
                            return
                        self.wfile.write(written)

            socketserver.ThreadingTCPServer.allow_reuse_address = True
            server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
            server.daemon_threads = True
            server.block_on_close = False
            thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
            )
            thread.start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            paths.url = f"http://127.0.0.1:{server.server_address[1]}"
            return paths

        yield start


Start = Callable[[Raw], Paths]


# -- encodings ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("encoding", "header"),
    [
        ("iso-8859-1", "text/plain; charset=iso-8859-1"),
        ("utf-16", "text/plain; charset=utf-16"),
        ("utf-16", "text/plain"),
        ("utf-8-sig", "text/plain"),
        ("utf-8", 'text/plain; charset="UTF-8"'),
        ("utf-8", "text/plain; charset=zlib"),
        ("utf-8", "text/plain; charset=no-such-thing"),
    ],
)
def test_text_is_read_by_its_charset(
    ctx: TaskContext, raw: Start, encoding: str, header: str
) -> None:
    body = "Zustand: grün".encode(encoding)
    server = raw(lambda path, before: answer(body, f"Content-Type: {header}"))
    data = http_check.get(ctx, server.url, expect=http_check.Expect(text="grün")).data
    assert data["text"] == "Zustand: grün"


def test_json_may_have_a_byte_order_mark(ctx: TaskContext, raw: Start) -> None:
    server = raw(lambda path, before: answer(b"\xef\xbb\xbf" + HEALTHY, JSON))
    assert http_check.get(ctx, server.url).data["json"] == {"status": "healthy"}


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(HEALTHY, mtime=0), "gzip"),
        (gzip.compress(HEALTHY[:9], mtime=0) + gzip.compress(HEALTHY[9:], mtime=0), "x-gzip"),
        (zlib.compress(HEALTHY), "deflate"),
        (raw_deflate(HEALTHY), "deflate"),
        (gzip.compress(zlib.compress(HEALTHY), mtime=0), "deflate, gzip"),
        (HEALTHY, "identity"),
    ],
)
def test_encoded_answers_are_decoded(
    ctx: TaskContext, raw: Start, body: bytes, encoding: str
) -> None:
    server = raw(lambda path, before: answer(body, JSON, f"Content-Encoding: {encoding}"))
    assert http_check.get(ctx, server.url).data["json"] == {"status": "healthy"}


@pytest.mark.parametrize(
    ("body", "encoding", "words"),
    [
        (b"\x0b\x02\x80abc\x03", "br", "the encoding 'br', which it was not asked for"),
        (b"no gzip at all", "gzip", "is not what it says, gzip"),
        (gzip.compress(HEALTHY, mtime=0)[:-12], "gzip", "ends in the middle of its encoding"),
        (HEALTHY, "gzip, " * 9, "encoded its answer 9 times"),
    ],
)
def test_an_answer_that_cannot_be_decoded_fails_in_words(
    ctx: TaskContext, raw: Start, body: bytes, encoding: str, words: str
) -> None:
    server = raw(lambda path, before: answer(body, f"Content-Encoding: {encoding}"))
    with pytest.raises(Failed, match=words):
        http_check.get(ctx, server.url)


def test_an_answer_is_counted_after_decoding(ctx: TaskContext, raw: Start) -> None:
    bomb = gzip.compress(gzip.compress(bytes(64 << 20), mtime=0))
    assert len(bomb) < 4096
    server = raw(lambda path, before: answer(bomb, JSON, "Content-Encoding: gzip, gzip"))
    response = http_client.request(ctx, "GET", server.url)
    assert len(response.body) == http_client.BODY
    with pytest.raises(Failed, match="more than 8 MiB: too much to be read as JSON"):
        response.json()
    decoder = Decoder("it", "gzip, gzip, gzip")
    hull = gzip.compress(gzip.compress(gzip.compress(b"") * 4_000_000, mtime=0))
    with pytest.raises(Failed, match="one large hull around little"):
        list(decoder.feed(hull))


# -- connections --------------------------------------------------------------------------------
def test_a_safe_request_on_a_connection_that_was_closed_is_sent_once_more(
    ctx: TaskContext, raw: Start
) -> None:
    server = raw(lambda path, before: None if before else answer(HEALTHY, JSON))
    data = http_check.get(ctx, server.url, samples=4).data
    assert (data["failures"], data["statuses"]) == (0, {"200": 4})
    assert server.connections == 4


def test_a_new_connection_that_breaks_off_is_a_failure(ctx: TaskContext, raw: Start) -> None:
    server = raw(lambda path, before: None)
    with pytest.raises(Unreachable, match="broke off the connection"):
        http_check.get(ctx, server.url)
    assert len(server.asked) == 1


def test_a_request_that_changes_something_is_sent_once(ctx: TaskContext, raw: Start) -> None:
    server = raw(lambda path, before: None)
    with pytest.raises(Unreachable, match="whether it arrived is not known"):
        http.request(ctx, server.url)
    assert len(server.asked) == 1


def test_a_redirect_is_no_success_and_says_where_it_leads(ctx: TaskContext, raw: Start) -> None:
    login = answer(b"", "Location: https://login.example.com/", status="302 Found")
    server = raw(lambda path, before: login)
    with pytest.raises(Failed, match=r"got 302, which leads to https://login\.example\.com/"):
        http_check.get(ctx, server.url)
    with pytest.raises(Failed, match="expected status 2xx, got 302") as caught:
        http.request(ctx, server.url)
    assert caught.value.evidence == ["Location: https://login.example.com/"]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Sat, 28 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 28 Nov 2026 12:00:30 -0000", 30.0),
        ("Sat, 28 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_may_be_a_date(header: str, seconds: float | None) -> None:
    response = Response("it", 429, {"retry-after": header}, b"", 0.0, None)
    response.at = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
    assert response.retry_after == seconds


def test_a_pattern_that_takes_long_keeps_nobody_from_leaving(
    ctx: TaskContext, raw: Start, cancel_when: Any
) -> None:
    server = raw(lambda path, before: answer(b"a" * 40 + b"!"))
    cancel_when(ctx, lambda: any(one.name == "http-check" for one in threading.enumerate()))
    with pytest.raises(Cancelled):
        http_check.get(ctx, server.url, expect=http_check.Expect(regex="(a+)+$"))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (answer(b"", "X Bad: 1"), "answered with what is no HTTP"),
        (answer(b"", "Location: /", status="302 Found"), "redirects without end"),
        (answer(b'{"load": NaN}', JSON), "got application/json: NaN is not a JSON value"),
    ],
)
def test_what_came_is_told_in_words(
    ctx: TaskContext, raw: Start, written: bytes, words: str
) -> None:
    server = raw(lambda path, before: written)
    with pytest.raises(Failed, match=words):
        http_check.get(ctx, server.url, follow=True, expect=http_check.Expect(json={"load": 1}))


# -- proxies ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rules", "direct"),
    [
        ("127.0.0.0/8", True),
        ("example.com, 127.0.0.1", True),
        ("127.0.0.1:{port}", True),
        ("127.0.0.1:1", False),
        ("10.0.0.0/8", False),
        ("*", True),
        ("", False),
    ],
)
def test_no_proxy_may_name_networks_and_ports(
    ctx: TaskContext, raw: Start, monkeypatch: pytest.MonkeyPatch, rules: str, direct: bool
) -> None:
    proxy = raw(lambda path, before: answer(b"", status="403 Forbidden"))
    server = raw(lambda path, before: answer(HEALTHY, JSON))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", rules.format(port=server.url.rpartition(":")[2]))
    if direct:
        http_check.get(ctx, server.url)
        assert proxy.asked == []
        return
    with pytest.raises(Failed, match="got 403"):
        http_check.get(ctx, server.url)
    assert server.asked == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_of_another_scheme_is_refused_where_it_would_be_used(
    ctx: TaskContext, raw: Start, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "socks5://127.0.0.1:1080")
    server = raw(lambda path, before: answer(HEALTHY, JSON))
    with pytest.raises(Refused, match=f"{variable} names a proxy by socks5"):
        http_check.get(ctx, server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    http_check.get(ctx, server.url)


# -- settings and certificates ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"verfy": False}, "http-check of the inventory is not right: unknown setting 'verfy'"),
        ({"verify": "nope"}, "'verify' of http-check of the inventory is not right: it must be"),
        ({"headers": ["X: 1"]}, "'headers' of http-check of the inventory is not right"),
    ],
)
def test_a_setting_that_is_not_known_is_refused_by_name(
    make_context: MakeContext, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        http_check.get(make_context({"http-check": settings}), "http://127.0.0.1:1/")


def test_verify_false_may_be_text(
    make_context: MakeContext, serve: Serve, certificate: Any, told: Told
) -> None:
    server = serve(lambda request: (200, "ok"), certificate(30).server)
    url = server.url.replace("http:", "https:")
    http_check.get(make_context({"http-check": {"verify": "false"}}), url)
    assert told.warnings


def make_chain(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A root (its file), and a server whose certificate is good for 90 days, with an
    intermediate that ends in 5."""
    now = datetime.now(UTC)

    def make(name: str, days: int, issuer: Any = None) -> tuple[Any, Any, x509.Name]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer, issued_by = (issuer[1], issuer[2]) if issuer else (key, subject)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issued_by)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(name != "server", None), critical=True)
        )
        if name == "server":
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), False)
        return builder.sign(signer, hashes.SHA256()), key, subject

    root = make("root", 3650)
    middle = make("middle", 5, root)
    server = make("server", 90, middle)
    pem = serialization.Encoding.PEM
    (folder / "root.pem").write_bytes(root[0].public_bytes(pem))
    (folder / "chain.pem").write_bytes(server[0].public_bytes(pem) + middle[0].public_bytes(pem))
    (folder / "server.key").write_bytes(
        server[1].private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "chain.pem", folder / "server.key")
    return folder / "root.pem", tls


@pytest.mark.parametrize("verify", [True, False])
def test_an_intermediate_certificate_that_ends_first_counts(
    make_context: MakeContext, serve: Serve, tmp_path: Path, verify: bool
) -> None:
    root, tls = make_chain(tmp_path)
    url = serve(lambda request: (200, "ok"), tls).url.replace("http:", "https:")
    ctx = make_context({"http-check": {"ca": str(root), "verify": verify}})
    with pytest.raises(Failed, match="that of CN=middle, which it depends on, ends in 5") as caught:
        http_check.get(ctx, url, expect=http_check.Expect(tls_days=30))
    assert caught.value.data["tls_days"] == pytest.approx(5, abs=0.1)
