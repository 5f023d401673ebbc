"""The Docker Engine API for `docker`: a client whose requests end with the task.

`docker` is imported at first use.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable, is_local

if TYPE_CHECKING:
    import docker

TIMEOUT = 60.0


class _Wire:
    """What a client has open, so that another thread can break it off."""

    def __init__(self) -> None:
        self._connections: list[Any] = []
        self.answer: Any = None

    def watch(self, adapter: Any) -> None:
        """Have every connection that an adapter makes remembered."""
        if getattr(adapter, "watched", False):
            return
        adapter.watched = True
        for name in ("get_connection", "get_connection_with_tls_context"):
            setattr(adapter, name, self._watching(getattr(adapter, name)))

    def _watching(self, get: Callable[..., Any]) -> Callable[..., Any]:
        def get_watched(*args: Any, **options: Any) -> Any:
            pool = get(*args, **options)
            if not getattr(pool, "watched", False):
                pool.watched = True
                make = pool._new_conn
                pool._new_conn = lambda: self._remember(make())
            return pool

        return get_watched

    def _remember(self, connection: Any) -> Any:
        self._connections.append(connection)
        return connection

    def break_off(self) -> None:
        """End what is being read, and what an answer is awaited of."""
        import socket

        with contextlib.suppress(Exception):
            self.answer.shutdown()
        for connection in self._connections:
            with contextlib.suppress(Exception):
                connection.sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def client(ctx: Context) -> Iterator[docker.APIClient]:
    """A client of the inventory's engine; what it raises becomes one of the module's errors."""
    import docker
    import requests
    import urllib3

    wire = _Wire()
    with ctx.on_cancel(wire.break_off), contextlib.closing(_connect(ctx, wire)) as made:
        made.headers.update(ctx.identity())
        _log_in(ctx, made)
        try:
            yield made
        except (
            docker.errors.DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
        ) as error:
            ctx.checkpoint()
            raise _in_our_words(error) from None


def _connect(ctx: Context, wire: _Wire) -> docker.APIClient:
    """A client that has agreed with the engine on a version; Unreachable if it does not answer."""
    import docker

    class Client(docker.APIClient):
        """Tells the wire what it opens."""

        def get_adapter(self, url: str) -> Any:
            adapter = super().get_adapter(url)
            wire.watch(adapter)
            return adapter

        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> Any:
            # What the inventory says comes before REQUESTS_CA_BUNDLE.
            checked = self.verify if verify is None else verify
            return super().merge_environment_settings(url, proxies, stream, checked, cert)

        def send(self, request: Any, **options: Any) -> Any:
            answer = super().send(request, **options)
            wire.answer = answer.raw
            return answer

        def close(self) -> None:
            with contextlib.suppress(Exception):  # a stream that was not read to its end
                wire.answer.close()
            super().close()

    with ctx.fence():
        pass  # a run that was taken over asks nothing, though reading alone harms nobody
    section = ctx.connection("docker")
    host = str(section.get("host") or _default_host())
    try:
        _knock(host)
        return Client(
            base_url=host,
            version="auto",
            timeout=seconds(ctx, TIMEOUT) or 60,
            tls=_tls(ctx, host, section.get("tls")),
        )
    except (docker.errors.DockerException, OSError) as error:
        ctx.checkpoint()
        raise Unreachable(
            f"the Docker engine {host} cannot be reached",
            hint="does it run, may this user use it, and is DOCKER_HOST or `docker: {host}` right?",
            evidence=[str(error)],
        ) from None


def seconds(ctx: Context, at_most: float | None = None) -> int | None:
    """What is left of the attempt, in the whole seconds that the library wants."""
    left = ctx.remaining(at_most=at_most)
    return None if left is None else max(1, round(left))


def _default_host() -> str:
    import os

    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _knock(host: str) -> None:
    """Raise OSError if nobody listens on a unix socket: the library would leave its own open."""
    if host.startswith("unix://"):
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            probe.connect(host.removeprefix("unix://"))


def _tls(ctx: Context, host: str, settings: Any) -> Any:
    if not isinstance(settings, Mapping):
        from urllib.parse import urlsplit

        if host.startswith("tcp:") and not is_local(urlsplit(host).hostname or ""):
            ctx.warn(f"the Docker engine {host} is spoken to without TLS: `docker` has no `tls`")
        return False
    import docker

    def path(name: str) -> str | None:
        given = settings.get(name)
        if not given:
            return None
        found = Path(str(given)).expanduser()
        return str(found if found.is_absolute() else ctx.file(found))

    cert, key = path("cert"), path("key")
    verify = settings.get("verify", True) is not False
    if not verify:
        import urllib3

        # Said once, by the run; not by urllib3 with every request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        ctx.warn(
            "the Docker engine's TLS certificate is not verified: `docker` of the inventory says so"
        )
    try:
        return docker.tls.TLSConfig(
            client_cert=(cert, key) if cert and key else None, ca_cert=path("ca"), verify=verify
        )
    except docker.errors.TLSParameterError as error:
        raise Refused(f"`tls` of the inventory's `docker` is not right: {error}") from None


def _in_our_words(error: Exception) -> ActionError:
    import docker

    if isinstance(error, docker.errors.APIError):
        words = str(error.explanation or error)
        status = error.status_code or 0
        if status in (401, 403):
            return Refused(f"Docker refused it: {words}", hint="check the registry's credentials")
        return Failed(f"Docker says: {words}")
    if isinstance(error, docker.errors.DockerException):
        return Failed(f"Docker says: {error}")
    return Unreachable("the Docker engine broke off", evidence=[str(error)])


def split(image: str) -> tuple[str, str]:
    """Name and tag of an image; without a tag it is ``latest``. A digest is left out."""
    image = image.partition("@")[0]
    head, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        return image, "latest"
    return head, tag


def find(engine: Any, image: str) -> dict[str, Any] | None:
    """What the engine knows of an image; None if it has none of that name."""
    import docker

    try:
        found: dict[str, Any] = engine.inspect_image(image)
    except docker.errors.ImageNotFound:
        return None
    return found


def local_digest(engine: Any, image: str) -> str:
    """The digest under which the engine pulled or pushed an image; empty if it did not."""
    found = find(engine, image)
    name = split(image)[0]
    for one in (found or {}).get("RepoDigests") or []:
        repository, _, digest = one.partition("@")
        if repository == name:
            return str(digest)
    return ""


def registry_digest(ctx: Context, engine: Any, image: str) -> str:
    """The digest that the image's registry has under its tag; empty if there is none."""
    import docker

    try:
        found = engine.inspect_distribution(image, auth_config=login(ctx, split(image)[0]))
    except docker.errors.NotFound:
        return ""
    except docker.errors.APIError as error:
        # Engines tell of a manifest that is not there in several ways.
        words = str(error.explanation).lower()
        if "manifest unknown" in words or "not found" in words or "name unknown" in words:
            return ""
        raise
    return str(found["Descriptor"]["digest"])


def patient(ctx: Context, engine: Any) -> None:
    """From now on wait for a word of the engine as long as the task may last."""
    engine.timeout = seconds(ctx)


def login(ctx: Context, name: str) -> dict[str, str] | None:
    """Credentials of the inventory for an image's registry; None leaves it to the user's own."""
    registry, slash, _ = name.partition("/")
    if not slash or not re.search(r"[.:]|^localhost$", registry):
        registry = "docker.io"
    return _credentials(ctx).get(registry)


def _credentials(ctx: Context) -> dict[str, dict[str, str]]:
    """What the inventory has, by registry."""
    found = {}
    for registry, entry in (ctx.connection("docker").get("registries") or {}).items():
        if isinstance(entry, Mapping):
            password = str(entry.get("password") or "")
            if password:
                ctx.mask(password)
            found[registry] = {"username": str(entry.get("username") or ""), "password": password}
    return found


def _log_in(ctx: Context, engine: Any) -> None:
    """Give a client the inventory's credentials, for what a build has to pull."""
    for registry, entry in _credentials(ctx).items():
        known = "https://index.docker.io/v1/" if registry == "docker.io" else registry
        engine._auth_configs.add_auth(known, entry)


def follow(ctx: Context, stream: Iterable[Any], what: str) -> str:
    """Read what the engine tells until it has ended; the digest that it named, if any.

    Raises Failed with the last lines if the engine tells of an error.
    """
    digest, tail = "", list[str]()
    for message in stream:
        ctx.checkpoint()
        if not isinstance(message, Mapping):
            continue
        if error := message.get("error"):
            words = str(error).strip()
            denied = any(word in words.lower() for word in ("unauthorized", "denied", "forbidden"))
            kind: type[ActionError] = Refused if denied else Failed
            raise kind(f"{what} failed: {words}", evidence=tail[-10:])
        line = _line(message)
        if line:
            tail = [*tail[-20:], line]
            ctx.log(line)
        aux = message.get("aux")
        if isinstance(aux, Mapping) and aux.get("Digest"):
            digest = str(aux["Digest"])
    ctx.checkpoint()  # a stream that we broke off ends, too
    return digest


def _line(message: Mapping[str, Any]) -> str:
    if "stream" in message:
        return str(message["stream"]).rstrip()
    if "progressDetail" in message and message.get("progressDetail"):
        return ""  # the moving bar of a layer
    words = [str(message[key]) for key in ("id", "status") if message.get(key)]
    return ": ".join(words)
