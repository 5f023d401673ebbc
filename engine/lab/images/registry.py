"""A small image registry: the part of the OCI distribution API that pushes and inspections use.

Digests are computed from content as everywhere, so an image's digest can be verified. The lab
starts with `claude-enhancer:5.0` and `:5.1`; what is pushed is there at once for the kubelet.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
VERSION_LABEL = "org.opencontainers.image.version"

_REFERENCE = re.compile(
    r"^(?:(?P<host>[\w.-]+(?::\d+)?|localhost)/(?=.))?"
    r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)


def digest_of(content: bytes) -> str:
    """The content's digest, `sha256:…`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def split_reference(reference: str) -> tuple[str, str, str]:
    """(host, name, tag or digest) of an image reference; the tag is `latest` if none is given.

    Raises ValueError if it is none.
    """
    match = _REFERENCE.match(reference)
    if match is None:
        raise ValueError(f"invalid reference format: {reference}")
    host, name = match["host"] or "", match["name"]
    if host and not re.search(r"[.:]|^localhost$", host):
        host, name = "", f"{host}/{name}"  # `library/nginx` has no host
    return host, name, match["digest"] or match["tag"] or "latest"


class ImageRegistry:
    """Blobs and manifests in memory."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[str, tuple[str, bytes]] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._uploads: dict[str, bytearray] = {}

    def add_image(self, name: str, tag: str, config: bytes, layers: Iterable[bytes]) -> str:
        """Store an image; its digest."""
        manifest = make_manifest(config, layers)
        for blob in (config, *layers):
            self._blobs[digest_of(blob)] = blob
        return self._store_manifest(name, tag, MANIFEST_TYPE, manifest)

    def add_release(self, name: str, version: str) -> str:
        """Store an image of the application as its build would have made it; its digest."""
        layer = f"{name} {version}\n".encode()
        return self.add_image(name, version, make_config(version, [layer]), [layer])

    def version_of(self, reference: str) -> str | None:
        """The version of the application in an image, or None if there is no such image."""
        try:
            _, name, which = split_reference(reference)
        except ValueError:
            return None
        manifest = self._find_manifest(name, which)
        if manifest is None:
            return None
        config = self._blobs[msgspec.json.decode(manifest[1])["config"]["digest"]]
        labels = (msgspec.json.decode(config).get("config") or {}).get("Labels") or {}
        return labels.get(VERSION_LABEL) or which

    def _find_manifest(self, name: str, which: str) -> tuple[str, bytes] | None:
        tags = self._tags.get(name, {})
        digest = which if which.startswith("sha256:") else tags.get(which, "")
        return self._manifests.get(digest) if name in self._tags else None

    def _store_manifest(self, name: str, which: str, kind: str, manifest: bytes) -> str:
        digest = digest_of(manifest)
        self._manifests[digest] = (kind, manifest)
        tags = self._tags.setdefault(name, {})
        if not which.startswith("sha256:"):
            tags[which] = digest
        return digest

    # -- HTTP ------------------------------------------------------------------------------

    def app(self) -> web.Application:
        """The routes of /v2/."""
        app = web.Application(client_max_size=1 << 30)
        add = app.router.add_route
        name = "{name:[a-z0-9][a-z0-9._/-]*?}"
        add("GET", "/v2/", self._base)
        add("GET", "/v2/_catalog", self._catalog)
        add("GET", f"/v2/{name}/tags/list", self._list_tags)
        add("GET", f"/v2/{name}/manifests/{{which}}", self._get_manifest)
        add("HEAD", f"/v2/{name}/manifests/{{which}}", self._get_manifest)
        add("PUT", f"/v2/{name}/manifests/{{which}}", self._put_manifest)
        add("GET", f"/v2/{name}/blobs/{{digest}}", self._get_blob)
        add("HEAD", f"/v2/{name}/blobs/{{digest}}", self._get_blob)
        add("POST", f"/v2/{name}/blobs/uploads/", self._begin_upload)
        add("PATCH", f"/v2/{name}/blobs/uploads/{{upload}}", self._continue_upload)
        add("PUT", f"/v2/{name}/blobs/uploads/{{upload}}", self._end_upload)
        return app

    async def _base(self, request: web.Request) -> web.Response:
        return _reply({})

    async def _catalog(self, request: web.Request) -> web.Response:
        return _reply({"repositories": sorted(self._tags)})

    async def _list_tags(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._tags:
            return _error(404, "NAME_UNKNOWN", "repository name not known to registry")
        return _reply({"name": name, "tags": sorted(self._tags[name])})

    async def _get_manifest(self, request: web.Request) -> web.Response:
        which = request.match_info["which"]
        entry = self._find_manifest(request.match_info["name"], which)
        if entry is None:
            return _error(404, "MANIFEST_UNKNOWN", f"manifest unknown: {which}")
        kind, manifest = entry
        return _content(manifest, kind)

    async def _put_manifest(self, request: web.Request) -> web.Response:
        body, which = await request.read(), request.match_info["which"]
        try:
            manifest = msgspec.json.decode(body)
            needed = [manifest["config"]["digest"], *(x["digest"] for x in manifest["layers"])]
        except (msgspec.MsgspecError, KeyError, TypeError):
            return _error(400, "MANIFEST_INVALID", "manifest invalid")
        missing = [digest for digest in needed if digest not in self._blobs]
        if missing:
            return _error(404, "MANIFEST_BLOB_UNKNOWN", f"blob unknown: {missing[0]}")
        if which.startswith("sha256:") and which != digest_of(body):
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        name = request.match_info["name"]
        kind = request.headers.get("Content-Type", MANIFEST_TYPE)
        digest = self._store_manifest(name, which, kind, body)
        location = f"/v2/{name}/manifests/{digest}"
        return _created(location, digest)

    async def _get_blob(self, request: web.Request) -> web.Response:
        blob = self._blobs.get(request.match_info["digest"])
        if blob is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        return _content(blob, "application/octet-stream")

    async def _begin_upload(self, request: web.Request) -> web.Response:
        name, digest = request.match_info["name"], request.query.get("mount", "")
        if digest in self._blobs:
            return _created(f"/v2/{name}/blobs/{digest}", digest)
        upload = secrets.token_hex(16)
        self._uploads[upload] = bytearray()
        headers = {"Location": f"/v2/{name}/blobs/uploads/{upload}", "Range": "0-0"}
        return web.Response(status=202, headers=headers)

    async def _continue_upload(self, request: web.Request) -> web.Response:
        upload = self._uploads.get(request.match_info["upload"])
        if upload is None:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        upload += await request.read()
        headers = {"Location": request.path, "Range": f"0-{max(0, len(upload) - 1)}"}
        return web.Response(status=202, headers=headers)

    async def _end_upload(self, request: web.Request) -> web.Response:
        upload = self._uploads.pop(request.match_info["upload"], None)
        if upload is None:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        blob = bytes(upload) + await request.read()
        digest = digest_of(blob)
        if request.query.get("digest") != digest:
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self._blobs[digest] = blob
        return _created(f"/v2/{request.match_info['name']}/blobs/{digest}", digest)


def make_config(
    version: str, layers: Iterable[bytes], labels: dict[str, str] | None = None
) -> bytes:
    """An image's configuration, always the same for the same content."""
    all_labels = {VERSION_LABEL: version, **(labels or {})}
    return msgspec.json.encode(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Labels": all_labels, "ExposedPorts": {"8080/tcp": {}}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    )


def make_manifest(config: bytes, layers: Iterable[bytes]) -> bytes:
    """The manifest of an image."""
    return msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": [_descriptor(LAYER_TYPE, layer) for layer in layers],
        }
    )


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(content), "digest": digest_of(content)}


def _content(content: bytes, kind: str) -> web.Response:
    headers = {"Docker-Content-Digest": digest_of(content), "Content-Type": kind}
    return web.Response(body=content, headers=headers)


def _created(location: str, digest: str) -> web.Response:
    headers = {"Location": location, "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)


def _reply(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        headers={"Docker-Distribution-Api-Version": "registry/2.0"},
    )


def _error(status: int, code: str, message: str) -> web.Response:
    return _reply({"errors": [{"code": code, "message": message, "detail": None}]}, status)
