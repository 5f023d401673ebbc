"""Servers that tests talk to and that a machine may lack: where they are, and what to install.

A test that needs one asks `program` for it. Where it is missing the test is skipped, and the end of
the run says in one line what was skipped and what brings it; with ``REQUIRE_SERVICES`` in the
environment, as in CI, it fails instead, so that a missing install step cannot look green.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from tests.surroundings import ROOT

UNPACKED = ROOT / ".services" / "usr"
"""Where ``.ci/services`` unpacks packages that need no installation."""

_FOLDERS = (UNPACKED / "bin", UNPACKED / "sbin", Path("/usr/sbin"), Path("/usr/local/sbin"))

_SKIPPED = "not on this machine: "


def program(name: str, install: str, *, variable: str = "") -> str:
    """The path of a program: what the environment variable says, PATH, the usual folders.

    Skips or fails the test, with `install` (``apt-get install …``) as advice, where there is none.
    """
    named = os.environ.get(variable) if variable else None
    path = named or shutil.which(name)
    if path is None:
        candidates = (folder / name for folder in _FOLDERS)
        path = next((str(each) for each in candidates if os.access(each, os.X_OK)), None)
    return path or missing(name, install)


def missing(what: str, install: str) -> NoReturn:
    """Skip the test because the machine lacks something; fail it with ``REQUIRE_SERVICES``."""
    if os.environ.get("REQUIRE_SERVICES"):
        pytest.fail(f"{what} is not on this machine, and REQUIRE_SERVICES is set: {install}")
    pytest.skip(f"{_SKIPPED}{what} ({install})")


def summary(reasons: list[str]) -> str:
    """One line about what tests were skipped for want of; empty if nothing was missing."""
    lacking = [each.split(_SKIPPED, 1)[1] for each in reasons if _SKIPPED in each]
    if not lacking:
        return ""
    kinds = ", ".join(sorted(set(lacking)))
    return f"{len(lacking)} skipped for want of: {kinds}; as root, `.ci/services` brings them"
