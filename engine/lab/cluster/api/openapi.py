"""As much OpenAPI as clients need to know that the server validates fields itself.

kubectl looks whether PATCH of a kind takes `fieldValidation`; if so it leaves validation to the
server. Types are not described: who wants them (`kubectl explain`) finds none.
"""

from __future__ import annotations

from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.resources import Catalog, Resource

SWAGGER_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

_INFO = {"title": "Kubernetes", "version": "v1.36.0"}


def index(catalog: Catalog) -> Obj:
    """What /openapi/v3 answers: where each group's document is."""
    paths = sorted(
        {_path(resource, version) for resource in catalog for version in resource.versions}
    )
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def _path(resource: Resource, version: str) -> str:
    return f"apis/{resource.group}/{version}" if resource.group else f"api/{version}"


def document(catalog: Catalog, path: str) -> Obj | None:
    """The document of one group version, such as `apis/apps/v1`; None when it is not served."""
    paths: Obj = {}
    for resource in catalog:
        for version in resource.versions:
            if _path(resource, version) == path:
                paths |= _operations(resource, version, path)
    return {"openapi": "3.0.0", "info": _INFO, "paths": paths} if paths else None


def _operations(resource: Resource, version: str, path: str) -> Obj:
    home = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"/{path}{home}/{resource.plural}"
    kind = {"group": resource.group, "version": version, "kind": resource.kind}

    def operation(action: str, *parameters: str) -> Obj:
        return {
            "parameters": [
                {"name": name, "in": "query", "schema": {"type": "string"}} for name in parameters
            ],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
        }

    write = ("dryRun", "fieldManager", "fieldValidation")
    return {
        collection: {"get": operation("list"), "post": operation("post", *write)},
        f"{collection}/{{name}}": {
            "get": operation("get"),
            "put": operation("put", *write),
            "patch": operation("patch", *write, "force"),
            "delete": operation("delete", "dryRun"),
        },
    }


def swagger() -> Obj:
    """What /openapi/v2 answers: an empty description, for clients that insist on one."""
    return {"swagger": "2.0", "info": _INFO, "paths": {}, "definitions": {}}


def swagger_protobuf() -> bytes:
    """The same for kubectl, which reads protobuf alone: fields 1 (swagger version), 2 (info)."""
    info = _text(1, _INFO["title"].encode()) + _text(2, _INFO["version"].encode())
    return _text(1, b"2.0") + _text(2, info)


def _text(number: int, content: bytes) -> bytes:
    """A field of a protobuf message with bytes in it; all of ours are short."""
    return bytes([number << 3 | 2, len(content)]) + content
