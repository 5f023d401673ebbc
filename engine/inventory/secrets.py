"""Values of secrets: fetched where the inventory says that they live, and hidden from then on."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from engine.errors import Failed, Refused
from engine.inventory.hosts import Inventory, SecretSource
from engine.text import did_you_mean

_SECRET_COMMAND_SECONDS = 30.0


class Secrets:
    """Values of an inventory's secrets, fetched when first needed and masked from then on."""

    def __init__(
        self,
        inventory: Inventory,
        *,
        mask: Callable[[str], object] = lambda value: None,
        warn: Callable[[str], None] = lambda text: None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`mask` is given each value before anybody else sees it, and answers False if it cannot
        hide it; `warn` is told about that."""
        self._sources = inventory.secrets
        self._folder = Path(inventory.folder)
        self._mask = mask
        self._warn = warn
        self._environ = os.environ if environ is None else environ
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._sources)})"

    def prepare(self, used: Iterable[str] = ()) -> None:
        """Hide what can be had at once, from the environment and from files, also if nothing
        ever asks for it: a step may print the environment, or such a file.

        `used` are secrets that have been asked for by an earlier process of the run.
        """
        for source in self._sources.values():
            if source.name in used or source.kind == "env" or self._is_plain_file(source):
                with contextlib.suppress(Failed):  # told when somebody asks for it
                    self.get(source.name)

    def _is_plain_file(self, source: SecretSource) -> bool:
        return source.kind == "file" and self._path(source).is_file()

    def get(self, name: str) -> str:
        """A secret's value. Raises Refused for an unknown name, Failed if it cannot be had."""
        source = self._sources.get(name)
        if source is None:
            raise Refused(
                f"the inventory has no secret '{name}'",
                hint=did_you_mean(name, self._sources, what="it has")
                or "declare it under `secrets:` in the inventory",
            )
        with self._lock:
            if name not in self._values:
                value = self._fetch(source)
                self._hide(name, value)
                self._values[name] = value
            return self._values[name]

    def _hide(self, name: str, value: str) -> None:
        if self._mask(value) is False:
            self._warn(
                f"the secret '{name}' is too short to be hidden: it may appear in logs and results"
            )

    def _fetch(self, source: SecretSource) -> str:
        if source.kind == "env":
            return self._from_environment(source)
        if source.kind == "file":
            return self._from_file(source)
        return self._from_command(source)

    def _from_environment(self, source: SecretSource) -> str:
        value = self._environ.get(source.where[0])
        if not value:
            raise Failed(
                f"the secret '{source.name}' lives in the environment variable "
                f"{source.where[0]}, which is not set",
                hint=f"export {source.where[0]} before the run",
            )
        return value

    def _path(self, source: SecretSource) -> Path:
        return self._folder / Path(source.where[0]).expanduser()

    def _from_file(self, source: SecretSource) -> str:
        path = self._path(source)
        try:
            value = path.read_text(encoding="utf-8-sig").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise Failed(
                f"the secret '{source.name}' lives in {path}, which cannot be read: {reason}"
            ) from None
        if not value:
            raise Failed(f"the secret '{source.name}' lives in {path}, which is empty")
        return value

    def _from_command(self, source: SecretSource) -> str:
        import subprocess

        shown = source.where[0]
        try:
            done = subprocess.run(
                source.where,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECRET_COMMAND_SECONDS,
                check=False,
            )
            value = done.stdout.decode("utf-8-sig").rstrip("\r\n")
        except subprocess.TimeoutExpired:
            raise Failed(
                f"the secret '{source.name}' comes from `{shown}`, which did not end within "
                f"{_SECRET_COMMAND_SECONDS:.0f} s"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its output is not UTF-8"
            raise Failed(
                f"the secret '{source.name}' comes from `{shown}`, which failed: {reason}"
            ) from None
        if done.returncode or not value:
            if value:
                self._mask(value)  # it may be right all the same, and stand in what is told
            words = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
            reason = f"exit status {done.returncode}" if done.returncode else "no output"
            raise Failed(
                f"the secret '{source.name}' comes from `{shown}`, which gave {reason}",
                evidence=words,
            )
        return value
