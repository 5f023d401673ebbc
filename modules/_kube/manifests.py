"""Manifests: reading them, and which kind and namespace each of their objects has.

A manifest is a template unless the step says that it is none: a vendor's file may be full of braces
that are not ours. Kinds that a manifest defines itself are known from its definition.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.module_api import ActionError, Context, Refused
from modules._kube import yaml as kube_yaml
from modules._kube.api import Cluster, Object
from modules._kube.kinds import Kind

DEFINITION = "CustomResourceDefinition"

_MARKS = (
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_LINE = re.compile(r" \(line (\d+)\)$")
_TEXTS = ("annotations", "labels")


class Item(NamedTuple):
    """One object of a manifest, with where it belongs."""

    kind: Kind
    namespace: str
    object: Object
    defined_here: bool = False
    """Its kind is defined by an object before it."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.object["metadata"]["name"])

    @property
    def label(self) -> str:
        """``deployment/claude-enhancer-canary``."""
        return self.kind.label(self.name)


class ToCome:
    """What earlier steps would have made, had they not only been rehearsed (--check)."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], Kind] = {}
        """Kinds by ``apiVersion`` and ``kind``."""
        self.namespaces: set[str] = set()

    def note(self, item: Item) -> None:
        """An object that would be there now."""
        self.kinds.update(definitions(item.object))
        if item.kind.kind == "Namespace":
            self.namespaces.add(item.name)


def to_come(ctx: Context, cluster: Cluster) -> ToCome:
    """What the steps of this rehearsal would have made in a cluster until now."""
    return ctx.cached(f"kubectl:to-come:{cluster.access.server}", ToCome)


def files(named: Path | list[Path] | None) -> list[Path]:
    """The files that a step names: none, one or several."""
    if named is None:
        return []
    return [Path(one) for one in (named if isinstance(named, list) else [named])]


def read(
    ctx: Context,
    cluster: Cluster,
    files: list[Path],
    objects: list[Object],
    namespace: str | None,
    *,
    template: bool = True,
) -> list[Item]:
    """The objects of manifests, rendered, in order; Refused says what is wrong with them."""
    documents = [
        (str(file), document) for file in files for document in _documents(ctx, file, template)
    ]
    documents += [("objects", texts(kube_yaml.as_json(one, "objects"))) for one in objects]
    flat = [(where, item) for where, document in documents for item in _flattened(where, document)]
    items: list[Item] = []
    defined = dict(to_come(ctx, cluster).kinds) if ctx.mode == "check" else {}
    for where, item in flat:
        items.append(_item(ctx, cluster, where, item, namespace, defined))
        defined.update(definitions(item))
    if not items:
        raise Refused(
            "there is nothing to apply: the manifests hold no object",
            hint="give `file: …` with Kubernetes objects, or `objects: […]`",
        )
    return items


def texts(value: Any, within: str = "") -> Any:
    """A value of a runbook with text where Kubernetes has nothing else.

    Annotations and labels are text, and a template may give a number: ``{{ inputs.percent }}``.
    """
    if isinstance(value, list):
        return [texts(one) for one in value]
    if not isinstance(value, dict):
        return value
    if within in _TEXTS:
        return {key: _text(one) for key, one in value.items()}
    return {
        key: texts(one, key if within == "metadata" or key == "metadata" else "")
        for key, one in value.items()
    }


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _documents(ctx: Context, file: Path, template: bool) -> Iterator[object]:
    path = ctx.file(file)
    try:
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{file} is not text in UTF-8") from error
    if template:
        text = _rendered(ctx, file, text)
    yield from kube_yaml.load(text, str(file))


def _rendered(ctx: Context, file: Path, text: str) -> str:
    try:
        return str(ctx.render(text))
    except ActionError as error:
        # The message quotes the template, which here is the whole file.
        problem = error.message.rpartition("` failed: ")[2]
        line = _LINE.search(problem)
        place = f"{file}:{line[1]}" if line else str(file)
        raise Refused(
            f"{place} cannot be rendered as a template: {_LINE.sub('', problem)}",
            hint=error.hint or "a vendor's file that is no template: say `template: false`",
            evidence=error.evidence,
        ) from error


def _decoded(data: bytes) -> str:
    """Text by its byte order mark; files that were put together have more of them inside."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    return re.sub("^\ufeff", "", data.decode(encoding), flags=re.MULTILINE)


def _flattened(where: str, document: object) -> Iterator[Object]:
    """The objects of a document: none if it is empty, several if it is a List.

    The items of a typed list, such as a RoleList, need not say again of which kind they are.
    """
    if document is None:
        return
    if not isinstance(document, dict):
        raise Refused(f"{where}: an object must be a mapping, not {type(document).__name__}")
    kind = str(document.get("kind", ""))
    if kind.endswith("List") and isinstance(document.get("items", ()), list | None):
        own = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List")}
        for item in document.get("items") or []:
            typed = kind != "List" and isinstance(item, dict)
            yield from _flattened(where, {**own, **item} if typed else item)
        return
    yield document


def _item(
    ctx: Context,
    cluster: Cluster,
    where: str,
    item: Object,
    namespace: str | None,
    defined: dict[tuple[str, str], Kind],
) -> Item:
    for key in ("apiVersion", "kind"):
        if not isinstance(item.get(key), str):
            raise Refused(f"{where}: an object has no `{key}`" + _quotes(item.get(key)))
    metadata = item.get("metadata")
    if not isinstance(metadata, dict):
        raise Refused(f"{where}: a {item['kind']} has no `metadata.name`")
    name = _name(where, item["kind"], metadata)
    own_kind = defined.get((item["apiVersion"], item["kind"]))
    kind = own_kind or cluster.kind_of(ctx, item)
    if not kind.namespaced:
        return Item(kind, "", item, own_kind is not None)
    own = metadata.get("namespace")
    if own is not None and not isinstance(own, str):
        raise Refused(f"{where}: the namespace of {kind.label(name)} must be text" + _quotes(own))
    if own and namespace and own != namespace:
        raise Refused(
            f"{where}: {kind.label(name)} belongs to namespace {own!r}, "
            f"but `namespace: {namespace}` was asked for"
        )
    place = str(own or namespace or cluster.namespace)
    placed = {**item, "metadata": {**metadata, "namespace": place}}
    return Item(kind, place, placed, own_kind is not None)


def _name(where: str, kind: str, metadata: Object) -> str:
    name = metadata.get("name")
    if isinstance(name, str) and name:
        return name
    if name is not None and name != "":
        raise Refused(f"{where}: the name of a {kind} must be text" + _quotes(name))
    if metadata.get("generateName"):
        raise Refused(
            f"{where}: a {kind} has no `metadata.name` but `generateName`",
            hint="an apply needs a name, so that it can be repeated: give it one, such as "
            '`name: "migrate-{{ run.id }}"`',
        )
    raise Refused(f"{where}: a {kind} has no `metadata.name`")


def _quotes(value: object) -> str:
    """What to write instead of a number or a boolean."""
    if isinstance(value, bool | int | float):
        return f": {value} is not; put it in quotes"
    return ""


def definitions(item: Object) -> Iterator[tuple[tuple[str, str], Kind]]:
    """The kinds that a CustomResourceDefinition defines, by ``apiVersion`` and ``kind``."""
    spec = item.get("spec")
    if item.get("kind") != DEFINITION or not isinstance(spec, dict):
        return
    names = spec.get("names")
    if not isinstance(names, dict) or not names.get("plural"):
        return
    for version in spec.get("versions") or []:
        if isinstance(version, dict) and version.get("served"):
            api_version = f"{spec.get('group')}/{version.get('name')}"
            kind, namespaced = str(names.get("kind")), spec.get("scope") != "Cluster"
            yield (
                (api_version, kind),
                Kind(api_version, kind, str(names["plural"]), namespaced, is_custom=True),
            )
