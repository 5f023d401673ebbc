"""Commands inside pods, over the websocket that the API server offers for them.

Each message begins with a byte for its channel: 0 stdin, 1 stdout, 2 stderr, 3 a Status object
that tells how the command ended, 255 (protocol v5) that a channel is closed. The `kubernetes`
library's own client would drop our identity headers, so this speaks to its websocket library.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from engine.module_api import Context, Failed, Refused, Unreachable
from modules._kube.api import Cluster
from modules._kube.errors import lost, refusal
from modules._kube.kinds import known
from modules._kube.transport import cut
from modules._process.finished import Finished

_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_CONNECT = 3.0


class PodPlace(NamedTuple):
    """Where a command runs."""

    cluster: Cluster
    namespace: str
    pod: str
    container: str
    """Empty: the only one of the pod."""


class _Bounded:
    """Output within a bound: its beginning and its end are kept, what lay between is dropped."""

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self.dropped = 0

    def add(self, data: bytes) -> None:
        """Take more output."""
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:] if room > 0 else data
        if (over := len(self._tail) - self._half) > 0:
            del self._tail[:over]
            self.dropped += over

    def text(self) -> str:
        """What was kept, without a newline at its end."""
        gap = f"\n… {self.dropped} bytes left out …\n".encode() if self.dropped else b""
        return bytes(self._head + gap + self._tail).decode(errors="replace").rstrip("\n")


def run(
    ctx: Context,
    place: PodPlace,
    command: list[str],
    *,
    stdin: str | None = None,
    limit: int = 65536,
) -> Finished:
    """Run a command in a pod to its end.

    A cancellation or deadline closes the connection; the cluster does not promise to end the
    command then. Raises Failed when it could not be started at all.
    """
    if ctx.mode == "simulate":
        return _simulated(ctx, place, command)
    kind = known("Pod")
    assert kind is not None
    cluster, namespace, pod, container = place
    query: list[tuple[str, str]] = [("command", word) for word in command]
    query += [("stdout", "true"), ("stderr", "true")]
    query += [("container", container)] if container else []
    query += [("stdin", "true")] if stdin is not None else []
    path = f"{kind.path(namespace, pod, 'exec')}?{urlencode(query)}"
    channels = {_STDOUT: _Bounded(limit), _STDERR: _Bounded(limit), _STATUS: _Bounded(65536)}
    with contextlib.ExitStack() as stack:
        wire = _connect(ctx, cluster, path)
        stack.callback(_hang_up, wire)
        stack.enter_context(ctx.on_cancel(lambda: cut(wire.sock)))
        if stdin is not None:
            with ctx.fence():
                _send(wire, stdin)
        for channel, data in _messages(ctx, wire):
            if channel in channels:
                channels[channel].add(data)
    ctx.checkpoint()
    out, err = channels[_STDOUT], channels[_STDERR]
    return Finished(
        _exit_code(channels[_STATUS].text(), pod),
        out.text(),
        err.text(),
        bool(out.dropped or err.dropped),
    )


def _simulated(ctx: Context, place: PodPlace, command: list[str]) -> Finished:
    """What the command does in a pod of the simulated world."""
    with ctx.fence():
        spoken, seconds = ctx.world.commands.run(place.pod, command)
    if spoken.assumed:
        ctx.log("assumed: the simulated world does not know this command; it succeeds, silently")
    ctx.sleep(seconds)
    return Finished(spoken.code, spoken.stdout, spoken.stderr)


def _connect(ctx: Context, cluster: Cluster, path: str) -> Any:
    """The websocket, opened. It goes through the fence even for a command that only looks."""
    import websocket

    access = cluster.access
    headers = [f"{k}: {v}" for k, v in cluster.headers(ctx).items() if k != "Accept"]
    with ctx.fence(), contextlib.ExitStack() as cancelling:
        try:
            return websocket.create_connection(
                access.server.replace("http", "ws", 1) + path,
                timeout=ctx.remaining(at_most=access.timeout),
                header=headers,
                subprotocols=_PROTOCOLS,
                suppress_origin=True,
                **_transport(ctx, cluster, cancelling),
            )
        except websocket.WebSocketBadStatusException as error:
            ctx.checkpoint()
            body = error.resp_body or b""
            data = body if isinstance(body, bytes) else str(body).encode()
            request = f"exec {path.partition('?')[0]}"
            location = (error.resp_headers or {}).get("location", "")
            raise refusal(error.status_code, data, request, access, location=location) from error
        except (OSError, websocket.WebSocketException) as error:
            ctx.checkpoint()
            raise lost(error, access) from error


def _transport(ctx: Context, cluster: Cluster, cancelling: contextlib.ExitStack) -> dict[str, Any]:
    """A socket of our own, so that no proxy of the environment comes in between unasked.

    While `cancelling` is open, a cancellation cuts it off, in the middle of a handshake, too.
    """
    import ssl

    access = cluster.access
    if access.proxy:
        proxy = urlsplit(access.proxy.url)
        if proxy.scheme != "http":
            raise Refused(
                "a command in a pod cannot be reached through a proxy that speaks TLS",
                hint="name an http:// proxy, or reach the cluster directly",
            )
        return {
            "http_proxy_host": proxy.hostname,
            "http_proxy_port": proxy.port or 80,
            "http_proxy_auth": (access.proxy.user, access.proxy.password)
            if access.proxy.user
            else None,
            "proxy_type": "http",
            "sslopt": {"context": access.tls, "server_hostname": access.server_name},
        }
    place = urlsplit(access.server)
    host = place.hostname or ""
    wire = socket.create_connection(
        (host, place.port or (443 if access.tls else 80)), ctx.remaining(at_most=_CONNECT)
    )
    if access.tls is not None:
        name = access.server_name or host
        wire = access.tls.wrap_socket(wire, server_hostname=name, do_handshake_on_connect=False)
    cancelling.enter_context(ctx.on_cancel(lambda: cut(wire)))
    try:
        if isinstance(wire, ssl.SSLSocket):
            wire.do_handshake()
    except OSError:
        wire.close()
        raise
    return {"socket": wire}


def _messages(ctx: Context, wire: Any) -> Iterator[tuple[int, bytes]]:
    import websocket

    while True:
        wire.settimeout(ctx.remaining())
        try:
            opcode, data = wire.recv_data()
        except websocket.WebSocketConnectionClosedException:
            return
        except (OSError, websocket.WebSocketException) as error:
            ctx.checkpoint()
            raise Unreachable(
                "the connection to the pod was lost while a command ran in it",
                hint="whether the command went on is not known",
                evidence=[f"{type(error).__name__}: {error}"],
            ) from error
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return
        if data and data[0] != _CLOSE:
            yield data[0], data[1:]


def _send(wire: Any, text: str) -> None:
    if getattr(wire, "subprotocol", None) != _PROTOCOLS[0]:
        raise Failed(
            "this cluster cannot tell a command that its input has ended: it was begun without it",
            hint="Kubernetes 1.30 or newer is needed for `stdin`; what the command did without "
            "its input is not known",
        )
    wire.send_binary(bytes([_STDIN]) + text.encode())
    wire.send_binary(bytes([_CLOSE, _STDIN]))


def _exit_code(status_text: str, pod: str) -> int:
    """The exit code from the Status object of the third channel."""
    try:
        status = json.loads(status_text)
    except ValueError:
        raise Unreachable(
            f"pod {pod} did not tell how the command ended",
            hint="whether it ran to its end is not known",
            evidence=[status_text] if status_text else [],
        ) from None
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise Failed(
        f"the command could not be run in pod {pod}: {status.get('message')}",
        hint="is the program in the container's image?",
        evidence=[status_text],
    )


def _hang_up(wire: Any) -> None:
    """Close without a handshake: the command has ended, or is being let go."""
    cut(wire.sock)
    with contextlib.suppress(Exception):
        wire.shutdown()
