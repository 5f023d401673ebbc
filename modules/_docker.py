"""The Docker Engine API for `docker`: a client whose streams end with the task.

`docker` is imported at first use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable
from modules import _values

if TYPE_CHECKING:
    import docker

TIMEOUT = 60.0


@contextlib.contextmanager
def client(ctx: Context) -> Iterator[docker.APIClient]:
    """A client of the inventory's engine; what it raises becomes one of the module's errors."""
    import docker
    import requests
    import urllib3

    class Client(docker.APIClient):
        """Remembers the answer that is being read, so that another thread can break it off."""

        reading: Any = None

        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> Any:
            # What the inventory says comes before REQUESTS_CA_BUNDLE.
            checked = self.verify if verify is None else verify
            return super().merge_environment_settings(url, proxies, stream, checked, cert)

        def send(self, request: Any, **options: Any) -> Any:
            answer = super().send(request, **options)
            self.reading = answer.raw
            return answer

        def break_off(self) -> None:
            with contextlib.suppress(Exception):
                if self.reading is not None:
                    self.reading.shutdown()

        def close(self) -> None:
            with contextlib.suppress(Exception):
                if self.reading is not None:  # a stream that was not read to its end
                    self.reading.close()
            super().close()

    section = ctx.connection("docker")
    host = str(section.get("host") or _default_host())
    try:
        _knock(host)
        made = Client(
            base_url=host,
            version="auto",
            timeout=seconds(ctx, TIMEOUT) or 60,
            tls=_tls(ctx, host, section.get("tls")),
        )
    except (docker.errors.DockerException, OSError) as error:
        raise Unreachable(
            f"the Docker engine {host} cannot be reached",
            hint="does it run, may this user use it, and is DOCKER_HOST or `docker: {host}` right?",
            evidence=[str(error)],
        ) from None
    made.headers.update(ctx.identity())
    with contextlib.closing(made), ctx.on_cancel(made.break_off):
        try:
            yield made
        except (
            docker.errors.DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
        ) as error:
            ctx.checkpoint()
            raise _in_our_words(error) from None


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

        if host.startswith("tcp:") and not _values.is_local(urlsplit(host).hostname or ""):
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
    """Name and tag of an image; without a tag it is ``latest``."""
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


def login(ctx: Context, name: str) -> dict[str, str] | None:
    """Credentials of the inventory for an image's registry; None leaves it to the user's own."""
    registry = name.partition("/")[0]
    entry = (ctx.connection("docker").get("registries") or {}).get(registry)
    if not isinstance(entry, Mapping):
        return None
    password = str(entry.get("password") or "")
    if password:
        ctx.mask(password)
    return {"username": str(entry.get("username") or ""), "password": password}


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
