"""Kubeconfig files: their clusters, users and contexts, and what stands in them.

What is not understood is refused by name: an identity, a proxy or a check of a certificate that is
not obeyed would be another one than the user meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.module_api import Refused
from modules._kube import yaml as kube_yaml

_FILE = (
    "apiVersion",
    "kind",
    "preferences",
    "clusters",
    "users",
    "contexts",
    "current-context",
    "extensions",
)
_KNOWN = {
    "clusters": (
        "server",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "certificate-authority",
        "certificate-authority-data",
        "proxy-url",
        "disable-compression",
        "extensions",
        "LocationOfOrigin",
    ),
    "users": (
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
        "token",
        "tokenFile",
        "as",
        "as-uid",
        "as-groups",
        "as-user-extra",
        "username",
        "password",
        "auth-provider",
        "exec",
        "extensions",
        "LocationOfOrigin",
    ),
    "contexts": ("cluster", "user", "namespace", "extensions", "LocationOfOrigin"),
}


class Config:
    """One or several kubeconfig files; what comes first counts, as in kubectl."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.where = ", ".join(str(path) for path in files)
        self.folders: dict[tuple[str, str], Path] = {}
        """Section and name of an entry that was found → the folder of its file."""
        self._documents = [_read(path) for path in files]

    @property
    def current(self) -> str:
        """The current context; Refused when none is set."""
        for document in self._documents:
            if name := document.get("current-context"):
                return str(name)
        raise Refused(
            f"{self.where} has no current context",
            hint="name one with `kubectl: {context: …}` in the inventory",
        )

    def entry(self, section: str, name: str, key: str) -> dict[str, Any]:
        """The entry `name` of a list such as ``contexts``; relative paths in it made absolute."""
        known: list[str] = []
        for path, document in zip(self.files, self._documents, strict=True):
            for item in document.get(section) or []:
                known.append(str(item.get("name")))
                if str(item.get("name")) == name:
                    self.folders[section, name] = path.parent
                    what = f"{key} {name!r} of {path}"
                    return _absolute(_checked(item.get(key) or {}, section, what), path.parent)
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        raise Refused(
            f"{self.where} has no {key} {name!r}"
            + (f" … did you mean {near[0]!r}?" if near else ""),
            hint=f"its {section} are: {', '.join(known) or 'none'}",
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Refused(f"the kubeconfig {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"the kubeconfig {path} is not text in UTF-8") from error
    document = next(kube_yaml.load(text, f"the kubeconfig {path}"), None)
    if not isinstance(document, dict):
        raise Refused(f"the kubeconfig {path} is not a kubeconfig: it holds no mapping")
    _refuse_unknown(document, _FILE, f"the kubeconfig {path}")
    for section in _KNOWN:
        items = document.get(section) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise Refused(f"`{section}` of the kubeconfig {path} is no list of named entries")
    return document


def _checked(entry: object, section: str, what: str) -> dict[str, Any]:
    """An entry, if all that stands in it is understood."""
    if not isinstance(entry, dict):
        raise Refused(f"the {what} is no mapping")
    _refuse_unknown(entry, _KNOWN[section], f"the {what}")
    skip = entry.get("insecure-skip-tls-verify", False)
    if not isinstance(skip, bool | None):
        raise Refused(
            f"`insecure-skip-tls-verify` of the {what} must be true or false, not {skip!r}"
        )
    return entry


def _refuse_unknown(entry: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in entry:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(key, known, 1)
            raise Refused(
                f"{what} has an unknown key {key!r}"
                + (f" … did you mean {near[0]!r}?" if near else ""),
                hint=f"known are: {', '.join(known)}",
            )


def _absolute(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    paths = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
    return {
        key: str(folder / Path(str(value)).expanduser()) if key in paths and value else value
        for key, value in entry.items()
    }
