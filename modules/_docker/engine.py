"""The Docker Engine API for `docker`: a client whose requests end with the task.

`docker` is imported at first use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable
from modules._docker import section as docker_section
from modules._docker.names import repository, split

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
    import requests

    with ctx.fence():
        pass  # a run that was taken over asks nothing, though reading alone harms nobody
    section = docker_section.read(ctx)
    host = section.host or docker_section.default_host()
    try:
        _knock(host)
        return _client_class(wire)(
            base_url=host,
            version="auto",
            timeout=seconds(ctx, TIMEOUT) or 60,
            tls=docker_section.tls(ctx, host, section.tls),
        )
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        ctx.checkpoint()
        if "SOCKS" in str(error) or "proxy" in type(error).__name__.lower():
            raise Refused(
                f"the proxy of the environment cannot be used for the Docker engine {host}",
                hint="name an http:// proxy, or reach the engine directly (NO_PROXY)",
                evidence=[str(error)],
            ) from None
        raise Unreachable(
            f"the Docker engine {host} cannot be reached",
            hint="does it run, may this user use it, and is DOCKER_HOST or `docker: {host}` right?",
            evidence=[str(error)],
        ) from None


def _client_class(wire: _Wire) -> type[docker.APIClient]:
    """A client that tells the wire what it opens."""
    import docker

    class Client(docker.APIClient):
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

    return Client


def seconds(ctx: Context, at_most: float | None = None) -> int | None:
    """What is left of the attempt, in the whole seconds that the library wants."""
    left = ctx.remaining(at_most=at_most)
    return None if left is None else max(1, round(left))


def _knock(host: str) -> None:
    """Raise OSError if nobody listens on a unix socket: the library would leave its own open."""
    if host.startswith("unix://"):
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            probe.connect(host.removeprefix("unix://"))


def _in_our_words(error: Exception) -> ActionError:
    import docker

    if isinstance(error, docker.errors.APIError):
        words = str(error.explanation or error)
        status = error.status_code or 0
        if status in (429, 502, 503, 504):
            return Unreachable(f"Docker cannot answer now: {words}")
        if status in (401, 403):
            return Refused(f"Docker refused it: {words}", hint="check the registry's credentials")
        return Failed(f"Docker says: {words}")
    if isinstance(error, docker.errors.DockerException):
        return Failed(f"Docker says: {error}")
    if isinstance(error, ValueError):  # requests' JSONDecodeError
        return Failed("what answered is no Docker engine: it did not answer with JSON")
    return Unreachable("the Docker engine broke off", evidence=[str(error)])


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
    name = repository(image)
    for one in (found or {}).get("RepoDigests") or []:
        its_name, _, digest = str(one).partition("@")
        if repository(its_name) == name:
            return digest
    return ""


def registry_digest(ctx: Context, engine: Any, image: str) -> str:
    """The digest that the image's registry has under its tag; empty if there is none."""
    import docker

    try:
        found = engine.inspect_distribution(
            image, auth_config=docker_section.login(ctx, split(image)[0])
        )
    except docker.errors.NotFound:
        return ""
    except docker.errors.APIError as error:
        # Engines tell of a manifest that is not there in several ways.
        words = str(error.explanation).lower()
        if "manifest unknown" in words or "not found" in words or "name unknown" in words:
            return ""
        raise
    descriptor = found.get("Descriptor") if isinstance(found, Mapping) else None
    digest = descriptor.get("digest") if isinstance(descriptor, Mapping) else None
    if not digest:
        raise Failed(f"the engine did not tell the digest of {image} in its registry")
    return str(digest)


def patient(ctx: Context, engine: Any) -> None:
    """From now on wait for a word of the engine as long as the task may last."""
    engine.timeout = seconds(ctx)


def _log_in(ctx: Context, engine: Any) -> None:
    """Give a client the inventory's credentials, for what a build has to pull."""
    for registry, entry in docker_section.credentials(ctx).items():
        known = "https://index.docker.io/v1/" if registry == "docker.io" else registry
        engine._auth_configs.add_auth(known, entry)
