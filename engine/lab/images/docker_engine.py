"""A small Docker Engine API on a unix socket: build, tag, push and inspect of images.

It runs no containers. A build reads the context that the client sends and makes an image whose
digest depends on the context's content alone; a push carries that image to the lab's registry over
HTTP, blob by blob, as the real one does.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from engine.lab.images.registry import (
    MANIFEST_TYPE,
    VERSION_LABEL,
    digest_of,
    make_config,
    make_manifest,
    split_reference,
)
from engine.lab.wire import Connection, WireError

API_VERSION = "1.44"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BuildError(Exception):
    """The context cannot be built."""


@dataclass
class Image:
    """An image on the engine's own disk."""

    config: bytes
    layer: bytes
    tags: set[str] = field(default_factory=set)
    """name:tag, with the registry's host if it was given."""
    digests: set[str] = field(default_factory=set)
    """name@digest of each repository that it was pushed to."""

    @property
    def id(self) -> str:
        """The digest of its configuration, as in the real engine."""
        return digest_of(self.config)

    def summary(self) -> dict[str, Any]:
        """As in the list of images."""
        labels = msgspec.json.decode(self.config)["config"]["Labels"]
        return {
            "Id": self.id,
            "RepoTags": sorted(self.tags),
            "RepoDigests": sorted(self.digests),
            "Created": 1704067200,
            "Size": len(self.layer),
            "SharedSize": -1,
            "VirtualSize": len(self.layer),
            "Labels": labels,
            "Containers": 0,
            "ParentId": "",
        }

    def details(self) -> dict[str, Any]:
        """As in an inspection."""
        config = msgspec.json.decode(self.config)
        return {
            **self.summary(),
            "Created": config["created"],
            "Architecture": config["architecture"],
            "Os": config["os"],
            "Config": config["config"],
            "RootFS": {"Type": "layers", "Layers": config["rootfs"]["diff_ids"]},
        }


class DockerEngine:
    """The engine: its images, and the routes by which they are asked for."""

    def __init__(self, registry_host: str, registry_port: int) -> None:
        self._registry = (registry_host, registry_port)
        self._images: dict[str, Image] = {}

    def app(self) -> web.Application:
        """The routes, each with and without the version in front."""
        app = web.Application(client_max_size=1 << 30)
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/_ping", self._ping),
            ("HEAD", "/_ping", self._ping),
            ("GET", "/version", self._version),
            ("GET", "/info", self._info),
            ("POST", "/build", self._build),
            ("GET", "/images/json", self._list),
            ("GET", "/images/{name:.+}/json", self._inspect),
            ("POST", "/images/{name:.+}/tag", self._tag),
            ("POST", "/images/{name:.+}/push", self._push),
            ("DELETE", "/images/{name:.+}", self._remove),
            ("GET", "/distribution/{name:.+}/json", self._distribution),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
            app.router.add_route(method, r"/v{version:\d+\.\d+}" + path, handler)
        return app

    # -- about the engine ------------------------------------------------------------------

    async def _ping(self, request: web.Request) -> web.Response:
        headers = {"Api-Version": API_VERSION, "Ostype": "linux", "Docker-Experimental": "false"}
        return web.Response(text="OK", headers=headers)

    async def _version(self, request: web.Request) -> web.Response:
        return _reply(
            {
                "Version": "25.0.0",
                "ApiVersion": API_VERSION,
                "MinAPIVersion": "1.24",
                "Os": "linux",
                "Arch": "amd64",
                "Platform": {"Name": "ce-run lab"},
            }
        )

    async def _info(self, request: web.Request) -> web.Response:
        return _reply({"Name": "ce-run-lab", "Images": len(self._images), "Containers": 0})

    # -- images ----------------------------------------------------------------------------

    async def _build(self, request: web.Request) -> web.StreamResponse:
        context, query = await request.read(), request.query
        arguments = msgspec.json.decode(query.get("buildargs") or "{}", type=dict[str, str])
        labels = msgspec.json.decode(query.get("labels") or "{}", type=dict[str, str])
        tags = query.getall("t", [])
        try:
            files = _unpack(context)
            steps = _dockerfile_steps(files, query.get("dockerfile") or "Dockerfile")
        except BuildError as error:
            return await _stream(
                request, [{"errorDetail": {"message": str(error)}, "error": str(error)}]
            )
        image = _make_image(files, steps, arguments, labels, tags)
        image = self._images.setdefault(image.id, image)
        lines: list[Any] = [
            {"stream": f"Step {n}/{len(steps)} : {step}\n"} for n, step in enumerate(steps, 1)
        ]
        lines += [{"aux": {"ID": image.id}}]
        lines += [{"stream": f"Successfully built {image.id[7:19]}\n"}]
        for tag in tags:
            name = self._give_tag(image, tag)
            lines.append({"stream": f"Successfully tagged {name}\n"})
        return await _stream(request, lines)

    async def _list(self, request: web.Request) -> web.Response:
        return _reply([image.summary() for image in self._images.values()])

    async def _inspect(self, request: web.Request) -> web.Response:
        image = self._find(request.match_info["name"])
        return _reply(image.details()) if image else _missing(request.match_info["name"])

    async def _tag(self, request: web.Request) -> web.Response:
        image = self._find(request.match_info["name"])
        if image is None:
            return _missing(request.match_info["name"])
        self._give_tag(image, f"{request.query['repo']}:{request.query.get('tag') or 'latest'}")
        return web.Response(status=201)

    async def _remove(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        image = self._find(name)
        if image is None:
            return _missing(name)
        image.tags.discard(_full(name))
        gone: list[Any] = [{"Untagged": name}]
        if not image.tags:
            del self._images[image.id]
            gone.append({"Deleted": image.id})
        return _reply(gone)

    async def _push(self, request: web.Request) -> web.StreamResponse:
        tag = request.query.get("tag") or "latest"
        reference = f"{request.match_info['name']}:{tag}"
        image = self._find(reference)
        if image is None:
            message = (
                f"An image does not exist locally with the tag: {reference.rpartition(':')[0]}"
            )
            return _reply({"message": message}, 404)
        lines = [line async for line in self._carry(image, reference)]
        return await _stream(request, lines)

    async def _distribution(self, request: web.Request) -> web.Response:
        """What the registry has under a name: its digest, without pulling it."""
        _, name, which = split_reference(request.match_info["name"])
        connection = Connection(*self._registry)
        try:
            answer = await connection.request("GET", f"/v2/{name}/manifests/{which}")
        finally:
            connection.close()
        if answer.status != 200:
            return _reply({"message": f"manifest unknown: {which}"}, 404)
        descriptor = {
            "mediaType": answer.header(b"content-type"),
            "digest": answer.header(b"docker-content-digest"),
            "size": len(answer.body),
        }
        platforms = [{"architecture": "amd64", "os": "linux"}]
        return _reply({"Descriptor": descriptor, "Platforms": platforms})

    # -- inside ----------------------------------------------------------------------------

    async def _carry(self, image: Image, reference: str) -> AsyncIterator[dict[str, Any]]:
        """Push to the registry; the lines that the client is shown, an error as the last."""
        host, name, tag = split_reference(reference)
        own = "{}:{}".format(*self._registry)
        repository = reference.rpartition(":")[0]
        yield {"status": f"The push refers to repository [{host or own}/{name}]"}
        if host not in ("", own):
            message = f"Get https://{host}/v2/: dial tcp: lookup {host}: no such host"
            yield {"errorDetail": {"message": message}, "error": message}
            return
        connection = Connection(*self._registry)
        manifest = make_manifest(image.config, [image.layer])
        try:
            for blob in (image.layer, image.config):
                await _upload(connection, name, blob)
                yield {"status": "Pushed", "progressDetail": {}, "id": digest_of(blob)[7:19]}
            headers = f"Content-Type: {MANIFEST_TYPE}\r\n"
            path = f"/v2/{name}/manifests/{tag}"
            answer = await connection.request("PUT", path, headers=headers, body=manifest)
            if answer.status != 201:
                raise WireError(f"the registry answered {answer.status}")
        except WireError as error:
            yield {"errorDetail": {"message": str(error)}, "error": str(error)}
            return
        finally:
            connection.close()
        digest, size = digest_of(manifest), len(manifest)
        image.digests.add(f"{repository}@{digest}")
        yield {"status": f"{tag}: digest: {digest} size: {size}"}
        yield {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}

    def _give_tag(self, image: Image, reference: str) -> str:
        name = _full(reference)
        for other in self._images.values():
            other.tags.discard(name)
        image.tags.add(name)
        return name

    def _find(self, name: str) -> Image | None:
        """By tag, by digest of a repository, or by (the start of) its id."""
        for image in self._images.values():
            if _full(name) in image.tags or name in image.digests:
                return image
            if re.fullmatch(r"(sha256:)?[0-9a-f]{8,64}", name) and image.id[7:].startswith(
                name.removeprefix("sha256:")
            ):
                return image
        return None


async def _upload(connection: Connection, name: str, blob: bytes) -> None:
    begun = await connection.request("POST", f"/v2/{name}/blobs/uploads/")
    place = f"{begun.header(b'location')}?digest={digest_of(blob)}"
    ended = await connection.request("PUT", place, body=blob)
    if ended.status != 201:
        raise WireError(f"the registry answered {ended.status} to a blob")


def _unpack(context: bytes) -> dict[str, bytes]:
    """Path → content of each file in a build context."""
    try:
        with tarfile.open(fileobj=io.BytesIO(context)) as archive:
            return {
                member.name.removeprefix("./"): archive.extractfile(member).read()  # type: ignore[union-attr]
                for member in archive.getmembers()
                if member.isfile()
            }
    except tarfile.TarError as error:
        raise BuildError(f"Error processing tar file: {error}") from error


def _dockerfile_steps(files: dict[str, bytes], path: str) -> list[str]:
    if path not in files:
        raise BuildError(f"Cannot locate specified Dockerfile: {path}")
    text = files[path].decode(errors="replace").replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    steps = [line for line in lines if line and not line.startswith("#")]
    if not steps:
        raise BuildError(f"the Dockerfile ({path}) cannot be empty")
    if not re.match(r"(?i)(ARG|FROM)\b", steps[0]):
        raise BuildError(f"No build stage in current context: {steps[0]}")
    return steps


def _make_image(
    files: dict[str, bytes],
    steps: list[str],
    arguments: dict[str, str],
    labels: dict[str, str],
    tags: list[str],
) -> Image:
    """The image that these files make; its identity is a hash of them and nothing else."""
    content = hashlib.sha256()
    for path in sorted(files):
        content.update(f"{path}\0{len(files[path])}\0".encode() + files[path])
    content.update(msgspec.json.encode(sorted(arguments.items())))
    declared = dict(
        pair for step in steps if step.upper().startswith("LABEL ") for pair in _label_pairs(step)
    )
    version = (
        labels.get(VERSION_LABEL)
        or declared.get(VERSION_LABEL)
        or arguments.get("VERSION")
        or (split_reference(tags[0])[2] if tags else "")
    )
    layer = content.hexdigest().encode()
    return Image(make_config(version, [layer], declared | labels), layer)


def _label_pairs(step: str) -> list[tuple[str, str]]:
    return [
        (key, value.strip("\"'"))
        for key, value in re.findall(r"([\w.-]+)=(\"[^\"]*\"|'[^']*'|\S+)", step)
        if "$" not in value
    ]


def _full(reference: str) -> str:
    """A reference with its tag."""
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"


def _missing(name: str) -> web.Response:
    return _reply({"message": f"No such image: {_full(name)}"}, 404)


def _reply(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )


async def _stream(request: web.Request, lines: list[Any]) -> web.StreamResponse:
    """Lines of progress; in chunks, by which clients know that these are many values."""
    response = web.StreamResponse()
    response.content_type = "application/json"
    response.enable_chunked_encoding()
    await response.prepare(request)
    for line in lines:
        await response.write(msgspec.json.encode(line) + b"\r\n")
    await response.write_eof()
    return response
