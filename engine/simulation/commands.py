"""What commands do in the simulated world: on this machine, on hosts, in pods.

A program cannot be simulated. What a scenario says of a command comes first; a few small ones of
the production are known (its files, its cache); of any other it is *assumed* that it succeeds and
says nothing, and the step's log tells so.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec


class Spoken(NamedTuple):
    """What a command did."""

    code: int
    stdout: str = ""
    stderr: str = ""
    assumed: bool = False
    """Nobody knows: it was taken to succeed."""


class Saying(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scenario says of commands that fit a pattern."""

    command: str
    """A regular expression that is found in the command's text."""
    code: int = 0
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.5


_WRITES = re.compile(r"""^printf ["']%s\\n["'] ["']?(?P<text>[^"']*)["']? > (?P<path>\S+)$""")
_READS = re.compile(r"^cat (?P<path>\S+)$")
_COMPARES = re.compile(r"""^test "\$\(cat (?P<path>\S+)\)" = ["'](?P<text>[^"']*)["']$""")


class Commands:
    """The machines on which commands run, with their files."""

    def __init__(self) -> None:
        self.sayings: list[Saying] = []
        """The last one that fits counts."""
        self.files: dict[tuple[str, str], str] = {}
        """(machine or pod, path) → text."""

    def run(self, where: str, command: str | list[str]) -> tuple[Spoken, float]:
        """Run a command on a machine or in a pod; what it did, and in how many seconds."""
        text = command if isinstance(command, str) else " ".join(command)
        for saying in reversed(self.sayings):
            if re.search(saying.command, text):
                spoken = Spoken(saying.code, saying.stdout, saying.stderr)
                return spoken, saying.seconds
        return self._known(where, text.strip()) or Spoken(0, assumed=True), 0.2

    def _known(self, where: str, text: str) -> Spoken | None:
        if text == "redis-cli PING":
            return Spoken(0, "PONG")
        if match := _WRITES.match(text):
            self.files[where, match["path"]] = match["text"]
            return Spoken(0)
        if match := _READS.match(text):
            held = self.files.get((where, match["path"]))
            if held is None and match["path"] == "/app/.phase/current":
                held = "P3"
            missing = f"cat: {match['path']}: No such file or directory"
            return Spoken(0, held) if held is not None else Spoken(1, "", missing)
        if match := _COMPARES.match(text):
            read = self._known(where, "cat " + match["path"])
            return Spoken(0 if read is not None and read.stdout == match["text"] else 1)
        return None
