"""Who is at work: the person, the machine, and the way by which they reached it."""

from __future__ import annotations

import os

from engine.events import Person
from engine.text import writable


def this_person(name: str | None = None) -> Person:
    """Who is at work here: user, host, and by which way (terminal, CI job, or none)."""
    user = name or os.environ.get("SUDO_USER") or os.environ.get("USER") or _login_name()
    return Person(name=writable(user), host=os.uname().nodename, via=_via())


def _login_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _via() -> str:
    if job := os.environ.get("GITHUB_RUN_ID"):
        return f"GitHub Actions run {job} of {os.environ.get('GITHUB_WORKFLOW', '?')}"
    if os.environ.get("CI"):
        return "CI"
    try:
        return os.ttyname(0)
    except OSError:
        return "no terminal"
