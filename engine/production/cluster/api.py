"""What can be done to objects: create, replace, patch, apply, delete. No HTTP here.

Each write goes the same way::

    read against the type ─▶ restrict to what this endpoint may change ─▶ defaults
      ─▶ owners of fields ─▶ generation ─▶ validation ─▶ store (unless nothing changed, or dry run)

The HTTP server, the lab and the controllers all come through here, so that an object looks the
same whoever wrote it.
"""

from __future__ import annotations

from typing import Any

from engine.production.cluster import deletion, quota
from engine.production.cluster.decoding import read_patch, read_yaml
from engine.production.cluster.identities import Identities
from engine.production.cluster.intake import (
    WriteOptions,
    check_name,
    read,
    read_config,
    read_patched,
)
from engine.production.cluster.objects import cautions, custom_schema, managed_fields, refusals
from engine.production.cluster.objects.allotment import Allotment
from engine.production.cluster.objects.common import Obj, copy_json, is_deleting, key_of, timestamp
from engine.production.cluster.objects.defaults import apply_defaults, blank, prepare
from engine.production.cluster.objects.managed_fields import FieldWriter, ManagerId, Managers
from engine.production.cluster.objects.patch import json_patch, merge_patch, strategic_merge
from engine.production.cluster.objects.refusals import ApiError, bad_request
from engine.production.cluster.objects.resources import Catalog, Resource
from engine.production.cluster.objects.schema import schema_for
from engine.production.cluster.objects.store import ObjectStore
from engine.production.cluster.objects.transitions import (
    METADATA_ORDER,
    grace_period,
    is_new_generation,
    is_same,
    within,
)
from engine.production.cluster.objects.validation import validate, validate_update
from engine.production.cluster.timeline import Timeline

CONTROLLER = "kube-controller-manager"

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

# Kinds whose deletion answers with the object even when it is gone at once.
_RETURNED_WHEN_DELETED = frozenset(
    {
        "pods",
        "services",
        "serviceaccounts",
        "persistentvolumeclaims",
        "namespaces",
        "resourcequotas",
    }
)


class Api:
    """The operations on the objects of one cluster. All raise ApiError."""

    def __init__(
        self, store: ObjectStore, catalog: Catalog, timeline: Timeline, identities: Identities
    ) -> None:
        self.store = store
        self.catalog = catalog
        self.timeline = timeline
        self.identities = identities
        self._allotment = Allotment(store)

    def timestamp(self) -> str:
        """The time, as objects have it."""
        return timestamp(self.timeline.now())

    # -- reading -------------------------------------------------------------------------

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        obj = self.store.get(resource.storage, namespace, name)
        if obj is None:
            raise refusals.not_found(resource.plural, resource.group, name)
        return obj

    # -- creating ------------------------------------------------------------------------

    def create(
        self, resource: Resource, version: str, namespace: str, obj: Any, options: WriteOptions
    ) -> Obj:
        """Create an object. Raises AlreadyExists, Invalid, NotFound (its namespace), ..."""
        new = read(resource, version, obj, options)
        metadata = new["metadata"]
        if metadata.get("resourceVersion"):
            message = "resourceVersion should not be set on objects to be created"
            raise ApiError(500, "", message)  # as a real server: an error, not a refusal
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = self._free_name(resource, namespace, metadata["generateName"])
        self._place(resource, namespace, new)
        deletion.check_definition(self.store, resource)
        return self._create(resource, version, new, options, None)

    def _free_name(self, resource: Resource, namespace: str, prefix: str) -> str:
        while self.store.get(
            resource.storage, namespace, name := prefix + self.identities.suffix()
        ):
            pass
        return name

    def _place(self, resource: Resource, namespace: str, obj: Obj) -> None:
        """Put the object into the namespace of the request, which must take new content."""
        metadata = obj["metadata"]
        if not resource.namespaced:
            metadata.pop("namespace", None)
            return
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
        home = self.store.get("namespaces", "", namespace)
        if home is None:
            raise refusals.not_found("namespaces", "", namespace)
        if is_deleting(home):
            why = (
                f"unable to create new content in namespace {namespace} because it is being "
                "terminated"
            )
            name = metadata.get("name", "")
            refusal = refusals.forbidden(resource.plural, resource.group, name, why)
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            refusal.body["details"]["causes"] = [cause]
            raise refusal

    def _create(
        self,
        resource: Resource,
        version: str,
        obj: Obj,
        options: WriteOptions,
        managers: Managers | None,
    ) -> Obj:
        if resource.has_status:
            obj.pop("status", None)
        _fill_in(resource, version, obj)
        if managers is None:
            writer = self._writer(resource, version, options, "Update")
            before = blank(resource.key, custom=resource.custom)
            kind = schema_for(resource.schema)
            managers = managed_fields.after_update({}, before, obj, kind, writer)
        obj["metadata"]["uid"] = self.identities.uid()
        prepare(resource.key, obj)
        errors = validate(resource, obj) or list(self._allotment.complaints(resource.key, obj))
        if errors:
            raise self._invalid(resource, obj, errors)
        if not resource.custom:
            options.warnings.extend(cautions.of_object(obj))
        metadata = obj["metadata"]
        excess = quota.refusal(self.store, resource, obj)
        if excess:
            raise refusals.forbidden(
                resource.plural, resource.group, metadata.get("name", ""), excess
            )
        if self.store.get(resource.storage, *key_of(obj)) is not None:
            raise refusals.already_exists(resource.plural, resource.group, metadata["name"])
        self._allotment.allot(resource.key, obj)
        for name in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"):
            metadata.pop(name, None)
        metadata["creationTimestamp"] = self.timestamp()
        metadata.pop("generation", None)
        if resource.counts_generations:
            metadata["generation"] = 1
        if not options.dry_run:
            metadata["resourceVersion"] = ""
        obj["metadata"] = {
            **{name: metadata[name] for name in METADATA_ORDER if name in metadata},
            "managedFields": managed_fields.write(managers),
        }
        return obj if options.dry_run else self.store.put(resource.storage, obj)

    def _invalid(self, resource: Resource, obj: Obj, errors: list[refusals.FieldError]) -> ApiError:
        name = obj["metadata"].get("name", "")
        return refusals.invalid(resource.kind, resource.group, name, errors)

    def _writer(
        self,
        resource: Resource,
        version: str,
        options: WriteOptions,
        operation: str,
        subresource: str = "",
    ) -> FieldWriter:
        identity = ManagerId(options.manager, operation, resource.api_version(version), subresource)
        untracked: tuple[str, ...] = ("status",) if resource.has_status else ()
        if subresource == "status":
            untracked = ("spec", "data")
        now = "" if subresource == "scale" else self.timestamp()
        return FieldWriter(identity, now, untracked)

    # -- replacing and patching ----------------------------------------------------------

    def replace(
        self,
        resource: Resource,
        version: str,
        namespace: str,
        name: str,
        obj: Any,
        options: WriteOptions,
        subresource: str = "",
    ) -> Obj:
        """PUT. A resourceVersion in `obj` must be the current one."""
        new = read(resource, version, obj, options)
        check_name(new, name)
        if resource.custom and not new["metadata"].get("resourceVersion"):
            error = refusals.FieldError(
                "FieldValueInvalid",
                "metadata.resourceVersion",
                "Invalid value: 0: must be specified for an update",
            )
            raise refusals.invalid(resource.plural, resource.group, name, [error])
        live = self.get(resource, namespace, name)
        return self._update(resource, version, live, new, options, subresource)

    def patch(
        self,
        resource: Resource,
        version: str,
        namespace: str,
        name: str,
        content_type: str,
        body: bytes,
        options: WriteOptions,
        subresource: str = "",
    ) -> tuple[Obj, bool]:
        """PATCH in any of its four forms; returns the object and whether it was created."""
        accepted = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH]
        if not resource.custom:
            accepted.insert(2, STRATEGIC_PATCH)
        if content_type not in accepted:
            if resource.custom:
                raise refusals.unsupported_media_type(accepted)
            raise refusals.unsupported_patch()
        if content_type == APPLY_PATCH:
            document = read_yaml(body, resource.kind)
            return self.apply(resource, version, namespace, name, document, options, subresource)
        document = read_patch(body)
        live = self.get(resource, namespace, name)
        shown = resource.present(live, version)
        patched = self.patched(resource, shown, content_type, document)
        new = read_patched(resource, version, patched, options)
        check_name(new, name)
        uid = new["metadata"].get("uid", "")
        if uid not in ("", live["metadata"]["uid"]):
            raise refusals.immutable_uid(resource.kind, resource.group, name, uid)
        return self._update(resource, version, live, new, options, subresource), False

    def patched(self, resource: Resource, shown: Obj, content_type: str, document: Any) -> Any:
        """`shown` after one of the three plain patches."""
        if content_type == JSON_PATCH:
            return json_patch(shown, document)
        if not isinstance(document, dict):
            raise bad_request(
                f"error decoding patch: json: cannot unmarshal {refusals.go_kind(document)} into "
                "Go value of type map[string]interface {}"
            )
        if content_type == MERGE_PATCH:
            return merge_patch(shown, document)
        return strategic_merge(shown, document, schema_for(resource.schema))

    def apply(
        self,
        resource: Resource,
        version: str,
        namespace: str,
        name: str,
        document: Any,
        options: WriteOptions,
        subresource: str = "",
    ) -> tuple[Obj, bool]:
        """Server-side apply; returns the object and whether it was created."""
        config = read_config(resource, version, namespace, name, document, options)
        live = self.store.get(resource.storage, namespace if resource.namespaced else "", name)
        if live is None and subresource:
            raise refusals.not_found(resource.plural, resource.group, name)
        base = live or blank(resource.key, custom=resource.custom)
        writer = self._writer(resource, version, options, "Apply", subresource)
        merged, managers = managed_fields.apply(
            base,
            config,
            managed_fields.read(base["metadata"].get("managedFields")),
            schema_for(resource.schema),
            writer,
            force=options.force,
        )
        if live is None:
            self._place(resource, namespace, config)
            return self._create(resource, version, config, options, managers), True
        merged = copy_json(merged)
        version_seen = config["metadata"].get("resourceVersion")
        merged["metadata"]["resourceVersion"] = version_seen
        return self._update(resource, version, live, merged, options, subresource, managers), False

    def save(self, new: Obj, *, manager: str = CONTROLLER, subresource: str = "") -> Obj:
        """A controller's write: `new` is a changed copy of the stored object.

        Nothing is validated, and no other write can have come in between.
        """
        resource = self.catalog.for_kind(new["apiVersion"], new["kind"])
        assert resource is not None
        live = self.get(resource, *key_of(new))
        version = new["apiVersion"].rpartition("/")[2]
        return self._update(resource, version, live, new, WriteOptions(manager), subresource)

    def update_part(
        self, resource: Resource, live: Obj, new: Obj, options: WriteOptions, subresource: str
    ) -> Obj:
        """Write `new`, a changed copy of `live`, through one of its subresources."""
        version = live["apiVersion"].rpartition("/")[2]
        return self._update(resource, version, live, new, options, subresource)

    def _update(
        self,
        resource: Resource,
        version: str,
        live: Obj,
        new: Obj,
        options: WriteOptions,
        subresource: str,
        managers: Managers | None = None,
    ) -> Obj:
        new = within(resource, live, new, subresource)
        _fill_in(resource, version, new)
        self._allotment.keep(resource.key, live, new)
        entries = new["metadata"].pop("managedFields", None)
        if managers is None:
            known = live["metadata"].get("managedFields") if entries is None else entries
            writer = self._writer(resource, version, options, "Update", subresource)
            kind = schema_for(resource.schema)
            managers = managed_fields.after_update(
                managed_fields.read(known), live, new, kind, writer
            )
        new["metadata"]["managedFields"] = managed_fields.write(managers)
        if resource.counts_generations and is_new_generation(resource, live, new, subresource):
            new["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
        if not subresource:
            errors = validate_update(resource, live, new)
            errors = errors or list(self._allotment.complaints(resource.key, new))
            if errors:
                raise self._invalid(resource, new, errors)
            if not resource.custom:
                options.warnings.extend(cautions.of_object(new))
        if is_same(live, new):
            return live
        if options.dry_run:
            return new
        return self._store_or_finish(resource, new)

    def _store_or_finish(self, resource: Resource, new: Obj) -> Obj:
        """ObjectStore it; an object that only waited for its last finalizer is gone instead."""
        metadata = new["metadata"]
        waiting = metadata.get("finalizers") or new.get("spec", {}).get("finalizers")
        graceful = metadata.get("deletionGracePeriodSeconds", 0) > 0
        if is_deleting(new) and not waiting and not graceful:
            self.store.remove(resource.storage, *key_of(new))
            return new
        return self.store.put(resource.storage, new)

    # -- deleting ------------------------------------------------------------------------

    def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        grace_seconds: int | None = None,
        propagation: str = "Background",
        preconditions: Obj | None = None,
        dry_run: bool = False,
    ) -> Obj:
        """Delete, or begin to; returns the answer: the object, or a Status when it is gone."""
        live = self.get(resource, namespace, name)
        deletion.check_preconditions(resource, live, preconditions or {})
        finalizers = deletion.finalizers_of(resource, live, propagation)
        grace = grace_period(resource, live, grace_seconds)
        if resource.key == "namespaces" or finalizers or grace:
            new = deletion.begin(resource, live, finalizers, grace, self.timeline.now())
            return new if dry_run or new == live else self.store.put(resource.storage, new)
        last = live if dry_run else self.store.remove(resource.storage, *key_of(live))
        if resource.key == "pods":
            ended = {"deletionTimestamp": self.timestamp(), "deletionGracePeriodSeconds": 0}
            return {**last, "metadata": {**last["metadata"], **ended}}
        if resource.key in _RETURNED_WHEN_DELETED:
            return last
        return refusals.deleted(resource.plural, resource.group, last)


def _fill_in(resource: Resource, version: str, obj: Obj) -> None:
    """Set the defaults of what is missing: of the API, or of the definition of a custom one."""
    if resource.custom:
        custom_schema.fill_in(resource.schemas.get(version, {}), obj)
    else:
        apply_defaults(resource.key, obj)
