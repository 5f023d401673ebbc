"""Credentials by a plug-in: the program that a kubeconfig's ``exec`` user names.

Managed clusters are reached this way (``aws eks get-token``, ``gke-gcloud-auth-plugin``,
``kubelogin``). The program is asked at first use and again when what it gave has expired or is
not accepted any more. It runs as the step's own child: the step's deadline and a cancellation end
it, and nobody is there to answer its questions.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from engine.module_api import Context, Failed, Refused

_APIS = (
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
    "client.authentication.k8s.io/v1alpha1",
)
_EARLY = timedelta(seconds=10)
"""How long before its end a credential is no longer used: a request takes a while."""

_LOOK = 0.05
_LIMIT = 1_048_576
_HINT = "run `kubectl get --raw /version` with the same kubeconfig to see it fail"


class Credential(NamedTuple):
    """What a plug-in gave: a token, or a client certificate with its key, or both."""

    token: str
    certificate: str | None
    key: str | None
    expires: datetime | None


class Plugin:
    """One user's plug-in; asked by all tasks of a run, from any thread."""

    def __init__(
        self, spec: Mapping[str, Any], user: str, folder: Path, cluster: Mapping[str, Any]
    ):
        """`spec` is the ``exec`` entry; `folder` that of its kubeconfig, `cluster` its cluster."""
        self._spec = spec
        self._user = user
        self._folder = folder
        self._cluster = cluster
        self._asking = threading.Lock()
        self._known: Credential | None = None
        self._check()

    def authorization(self, ctx: Context) -> str:
        """Value of the Authorization header; empty when a certificate is all there is."""
        token = self.credential(ctx).token
        return f"Bearer {token}" if token else ""

    def credential(self, ctx: Context) -> Credential:
        """What holds now; Refused when the plug-in gives nothing that can be used."""
        while not self._asking.acquire(timeout=_LOOK):
            ctx.checkpoint()  # another task asks, and it may take longer than this one has
        try:
            known = self._known
            if known is None or (known.expires and ctx.now() >= known.expires - _EARLY):
                self._known = known = self._ask(ctx)
            return known
        finally:
            self._asking.release()

    def forget(self) -> None:
        """The server does not accept it: ask anew at the next use."""
        self._known = None

    def _check(self) -> None:
        version = self._spec.get("apiVersion")
        for one in self._spec.get("env") or []:
            if not isinstance(one, dict) or "name" not in one or "value" not in one:
                raise self._refused("has an `env` whose entries are not all a name and a value")
        if version not in _APIS:
            raise self._refused(f"has apiVersion {version!r}", hint=f"known are {', '.join(_APIS)}")
        if not self._spec.get("command"):
            raise self._refused("names no command")
        if self._spec.get("interactiveMode") == "Always":
            raise self._refused(
                "wants to ask a person (interactiveMode: Always)",
                hint="a run has no terminal for it: use a token, a certificate or another plug-in",
            )

    def _ask(self, ctx: Context) -> Credential:
        from modules._process import child as child_process

        command = str(self._spec["command"])
        if os.sep in command:  # as in kubectl: then it is a path, from the kubeconfig's folder
            command = str(self._folder / Path(command).expanduser())
        words = [command, *(str(word) for word in self._spec.get("args") or [])]
        try:
            done = child_process.run(ctx, words, env=self._environment(), limit=_LIMIT, log=False)
        except Refused as error:
            hint = str(self._spec.get("installHint") or error.hint)
            raise self._refused(f"cannot be run: {error.message}", hint=hint) from error
        if done.code:
            raise Failed(
                f"{self._name} failed with exit status {done.code}",
                hint=_HINT,
                evidence=done.stderr.splitlines()[-10:],
            )
        return self._read(ctx, done.stdout)

    def _environment(self) -> dict[bytes, bytes]:
        added = {str(one["name"]): str(one["value"]) for one in self._spec.get("env") or []}
        spec: dict[str, Any] = {"interactive": False}
        if self._spec.get("provideClusterInfo"):
            spec["cluster"] = self._cluster
        added["KUBERNETES_EXEC_INFO"] = json.dumps(
            {"kind": "ExecCredential", "apiVersion": self._spec["apiVersion"], "spec": spec}
        )
        return {**os.environb, **{k.encode(): v.encode() for k, v in added.items()}}

    def _read(self, ctx: Context, output: str) -> Credential:
        try:
            answer = json.loads(output)
            status = answer["status"]
            expires = status.get("expirationTimestamp")
            credential = Credential(
                str(status.get("token") or ""),
                status.get("clientCertificateData"),
                status.get("clientKeyData"),
                datetime.fromisoformat(expires) if expires else None,
            )
            if credential.expires and credential.expires.tzinfo is None:
                raise self._refused(f"answered with a time without a zone: {expires}")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._refused("answered with no ExecCredential") from None
        for secret in filter(None, (credential.token, credential.key)):
            ctx.mask(secret)
        if answer.get("apiVersion") != self._spec["apiVersion"]:
            raise self._refused(f"answered in {answer.get('apiVersion')!r}, not as it was asked")
        if not credential.token and not (credential.certificate and credential.key):
            raise self._refused("gave neither a token nor a certificate with its key")
        return credential

    @property
    def _name(self) -> str:
        return f"the credential plug-in {self._spec.get('command') or '?'} of user {self._user!r}"

    def _refused(self, what: str, hint: str = _HINT) -> Refused:
        return Refused(f"{self._name} {what}", hint=hint)
