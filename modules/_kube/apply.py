"""Manifests: reading them, applying them on the server, and telling what became of each object.

Apply is server-side: the server merges, keeps book of who owns which field, and refuses to take
a field from another manager unless it is told to. A dry run is the same request with
``dryRun=All``, so what --check shows is what the server itself would store.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.module_api import ActionError, Context, Failed, Refused, Result
from modules._kube import diff as kube_diff
from modules._kube.api import Cluster, Object
from modules._kube.errors import NotFound
from modules._kube.kinds import Kind


class Item(NamedTuple):
    """One object of a manifest, with where it belongs."""

    kind: Kind
    namespace: str
    object: Object

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.object["metadata"]["name"])

    @property
    def label(self) -> str:
        """``deployment/claude-enhancer-canary``."""
        return self.kind.label(self.name)


class Applied(NamedTuple):
    """What became of one object."""

    item: Item
    outcome: str
    """``created``, ``configured`` or ``unchanged``."""
    diff: str

    @property
    def data(self) -> dict[str, Any]:
        """For a result."""
        return {
            "kind": self.item.kind.kind,
            "name": self.item.name,
            "namespace": self.item.namespace if self.item.kind.namespaced else None,
            "result": self.outcome,
        }


def read(
    ctx: Context,
    cluster: Cluster,
    files: list[Path],
    objects: list[Object],
    namespace: str | None,
) -> list[Item]:
    """The objects of manifests, rendered, in order; Refused says what is wrong with them."""
    documents = [(str(file), document) for file in files for document in _documents(ctx, file)]
    documents += [("objects", document) for document in objects]
    items = [
        _item(ctx, cluster, where, item, namespace)
        for where, document in documents
        for item in _flattened(where, document)
    ]
    if not items:
        raise Refused(
            "there is nothing to apply: the manifests hold no object",
            hint="give `file: …` with Kubernetes objects, or `objects: […]`",
        )
    return items


def apply(
    ctx: Context, cluster: Cluster, items: list[Item], *, force: bool, dry_run: bool
) -> list[Applied]:
    """Apply items in order. An error tells in `data["objects"]` which were applied before it."""
    done: list[Applied] = []
    for item in items:
        try:
            live = cluster.find(ctx, item.kind, item.namespace, item.name)
            if dry_run:
                done.append(_rehearse(ctx, cluster, item, live, force, done))
            else:
                done.append(_apply(ctx, cluster, item, live, force))
                ctx.log(f"{item.label} {done[-1].outcome}")
        except ActionError as error:
            error.message = f"{item.label}: {error.message}"
            error.args = (error.message,)
            error.data = {"objects": [one.data for one in done], **error.data}
            if done and not dry_run:
                applied = ", ".join(f"{one.item.label} {one.outcome}" for one in done)
                error.evidence.append(f"applied before: {applied}")
            raise
    return done


def result(done: list[Applied], rollouts: dict[str, dict[str, Any]], verb: str) -> Result:
    """What a step tells; `verb` is empty, or ``would be `` under --check."""
    return Result(
        changed=any(one.outcome != "unchanged" for one in done),
        data={"objects": [one.data for one in done], "rollouts": rollouts},
        diff="".join(one.diff for one in done),
        message=", ".join(f"{one.item.label} {verb}{one.outcome}" for one in done),
    )


def _apply(ctx: Context, cluster: Cluster, item: Item, live: Object | None, force: bool) -> Applied:
    answer = cluster.apply(ctx, item.kind, item.namespace, item.object, force=force)
    return _outcome(item, live, answer.body)


def _outcome(item: Item, live: Object | None, now: Object) -> Applied:
    diff = kube_diff.unified(item.label, live, now)
    if live is None:
        return Applied(item, "created", diff)
    if not diff:  # its status may have moved meanwhile; that is not our doing
        return Applied(item, "unchanged", "")
    return Applied(item, "configured", diff)


def _rehearse(
    ctx: Context,
    cluster: Cluster,
    item: Item,
    live: Object | None,
    force: bool,
    before: list[Applied],
) -> Applied:
    """The server's dry run. What only an earlier object would make possible is taken as it is."""
    try:
        answer = cluster.apply(
            ctx, item.kind, item.namespace, item.object, force=force, dry_run=True
        )
    except NotFound:
        if live is None and _prepared(item, before):
            return Applied(item, "created", kube_diff.unified(item.label, None, item.object))
        raise
    diff = kube_diff.unified(item.label, live, answer.body)
    outcome = "created" if live is None else "configured" if diff else "unchanged"
    return Applied(item, outcome, diff)


def _prepared(item: Item, before: list[Applied]) -> bool:
    """Whether an earlier document makes the namespace or the kind of `item`."""
    for one in before:
        if one.item.kind.kind == "Namespace" and one.item.name == item.namespace:
            return True
        if one.item.kind.kind == "CustomResourceDefinition":
            names = one.item.object.get("spec", {}).get("names", {})
            if names.get("kind") == item.kind.kind:
                return True
    return False


def _documents(ctx: Context, file: Path) -> Iterator[object]:
    import yaml

    path = ctx.file(file)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{file} is not text in UTF-8") from error
    rendered = ctx.render(text)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from yaml.load_all(str(rendered), Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise Refused(
            f"{file}{place} is not YAML: {getattr(error, 'problem', None) or error}",
            hint='the place is counted in the rendered text; quote templates: "{{ … }}"',
        ) from error


def _flattened(where: str, document: object) -> Iterator[Object]:
    """The objects of a document: none if it is empty, several if it is a List."""
    if document is None:
        return
    if not isinstance(document, dict):
        raise Refused(f"{where}: an object must be a mapping, not {type(document).__name__}")
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _flattened(where, item)
        return
    yield document


def _item(ctx: Context, cluster: Cluster, where: str, item: Object, namespace: str | None) -> Item:
    for key in ("apiVersion", "kind"):
        if not isinstance(item.get(key), str):
            raise Refused(f"{where}: an object has no `{key}`")
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise Refused(f"{where}: a {item['kind']} has no `metadata.name`")
    kind = _kind(ctx, cluster, item)
    if not kind.namespaced:
        return Item(kind, "", item)
    own = metadata.get("namespace")
    if own and namespace and own != namespace:
        raise Refused(
            f"{where}: {kind.label(metadata['name'])} belongs to namespace {own!r}, "
            f"but `namespace: {namespace}` was asked for"
        )
    place = str(own or namespace or cluster.namespace)
    return Item(kind, place, {**item, "metadata": {**metadata, "namespace": place}})


def _kind(ctx: Context, cluster: Cluster, item: Object) -> Kind:
    """The kind of an object; one that is yet to be defined is taken to follow the custom."""
    try:
        return cluster.kind_of(ctx, item)
    except Failed:
        if ctx.mode != "check":
            raise
        name = str(item["kind"])
        return Kind(str(item["apiVersion"]), name, f"{name.lower()}s")
