"""One request and its answer: what handlers see of HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, cast

from aiohttp import web

from engine.lab.cluster.api import media
from engine.lab.cluster.api.requestlog import RequestLog, RequestRecord
from engine.lab.cluster.api.table import partial, render
from engine.production.cluster.authorization import User
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.refusals import (
    ApiError,
    FieldError,
    bad_request,
    field_forbidden,
    invalid_options,
    not_supported,
)
from engine.production.cluster.objects.resources import Resource

_OPTIONS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "DELETE": "DeleteOptions"}
_MANAGER_BYTES = 128
_BODY_LIMIT = 3 * 1024 * 1024


class Exchange:
    """A request on its way. Answers are recorded in the request log exactly once."""

    def __init__(self, request: web.BaseRequest, log: RequestLog) -> None:
        self.request = request
        self.query: Mapping[str, str] = request.query
        self.user = User("system:anonymous", ("system:unauthenticated",))
        self.warnings: list[str] = []
        """What the client is told along with the answer, whatever that is."""
        self._media = media.JSON
        self._body: bytes | None = None
        self._log = log
        self._seq, self._time = log.arrival()
        self._recorded = False

    @property
    def content_type(self) -> str:
        return self.request.headers.get("Content-Type", "").partition(";")[0].strip()

    async def body(self) -> bytes:
        """The body; raises ApiError (413) when it is too large."""
        if self._body is not None:
            return self._body
        body = await self.request.content.read(-1)
        if len(body) > _BODY_LIMIT:
            message = f"Request entity too large: limit is {_BODY_LIMIT}"
            raise ApiError(413, "RequestEntityTooLarge", message)
        self._body = body
        return body

    def record(self, status: int) -> None:
        """Note the outcome of this request; later outcomes of the same one do not count."""
        if self._recorded:
            return
        self._recorded = True
        headers = self.request.headers
        self._log.add(
            RequestRecord(
                self._seq,
                self._time,
                self.request.method,
                self.request.raw_path,
                status,
                headers.get("X-CE-Run", ""),
                headers.get("X-CE-Token", ""),
                headers.get("User-Agent", ""),
            )
        )

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("true", "1")

    def integer(self, name: str) -> int | None:
        """A numeric parameter. Raises ApiError (400) for what is no number."""
        text = self.query.get(name, "")
        if not text:
            return None
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        return int(text)

    def options(self, *, apply: bool = False) -> WriteOptions:
        """How a write is meant. An apply must name its manager, others have one by default."""
        kind = _OPTIONS.get(self.request.method, "PatchOptions")
        dry_run = self.query.get("dryRun", "")
        if dry_run not in ("", "All"):
            raise invalid_options(kind, not_supported("dryRun", [dry_run], ("All",)))
        manager = self.query.get("fieldManager", "")
        if not manager and not apply:
            agent = self.request.headers.get("User-Agent", "")
            manager = agent.partition("/")[0][:128] or "unknown"
        if len(manager.encode()) > _MANAGER_BYTES:
            detail = f"Too long: may not be more than {_MANAGER_BYTES} bytes"
            raise invalid_options(kind, FieldError("FieldValueTooLong", "fieldManager", detail))
        if self.request.method == "PATCH" and not apply and self.query.get("force"):
            detail = "may not be specified for non-apply patch"
            raise invalid_options(kind, field_forbidden("force", detail))
        validation = self.query.get("fieldValidation", "Warn")
        if validation not in ("Ignore", "Warn", "Strict"):
            allowed = ("", "Ignore", "Strict", "Warn")
            raise invalid_options(kind, not_supported("fieldValidation", validation, allowed))
        return WriteOptions(
            manager,
            dry_run=dry_run == "All",
            force=self.flag("force"),
            validation=cast(Literal["Ignore", "Warn", "Strict"], validation),
        )

    # -- answers -------------------------------------------------------------------------

    @property
    def wants_table(self) -> bool:
        return "as=Table" in self.request.headers.get("Accept", "")

    @property
    def wants_metadata(self) -> bool:
        return "as=PartialObjectMetadata" in self.request.headers.get("Accept", "")

    def negotiate(self) -> None:
        """Choose the format of the answer. Raises ApiError (406) when there is none to choose."""
        self._media = media.negotiate(self.request.headers.get("Accept", ""))

    def headers(self) -> dict[str, str]:
        """The headers that this answer has beside those of its format."""
        texts = dict.fromkeys(self.warnings)
        return {"Warning": ", ".join(f"299 - {_quoted(text)}" for text in texts)} if texts else {}

    def json(
        self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        """A document; as YAML if the client would rather have that."""
        return web.Response(
            body=media.encode(body, self._media),
            status=status,
            content_type=self._media,
            headers={**self.headers(), **(headers or {})},
        )

    def object(
        self, resource: Resource, obj: Obj, status: int = 200, options: WriteOptions | None = None
    ) -> web.Response:
        """An object, or the Table or metadata of it if the client asked for that."""
        self.warnings += options.warnings if options is not None else []
        return self.json(self.shown(resource, obj), status)

    def shown(self, resource: Resource, obj: Obj, *, head: bool = True) -> Obj:
        """An object in the form that the client asked for; Status objects stay as they are."""
        if obj.get("kind") == "Status":
            return obj
        if self.wants_table:
            version = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return render(resource, [obj], version, self.include, head=head)
        return partial(obj) if self.wants_metadata else obj

    @property
    def include(self) -> str:
        """What rows of a Table carry besides their cells."""
        return self.query.get("includeObject", "Metadata")


def _quoted(text: str) -> str:
    """A warning as a header takes it: in quotes, on one line, whatever a client called its keys."""
    line = re.sub(r"[\x00-\x1f\x7f]+", " ", text)
    return '"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"'
