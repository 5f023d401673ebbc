"""Who is at work: the person, the machine, and the way by which they reached it."""

from __future__ import annotations

import os

from engine.events import Person
from engine.text import writable


def this_person(name: str | None = None) -> Person:
    """Who is at work here: user, host, and by which way (terminal, CI job, or none).

    In a job of GitHub Actions it is who started (or repeated) it. Another `name` is what somebody
    claims: it stands beside that of the account.
    """
    user = writable(_actor() or os.environ.get("SUDO_USER") or os.environ.get("USER") or _login())
    claims = writable(name or "")
    return Person(user, os.uname().nodename, _via(), claims if claims != user else "")


def _actor() -> str:
    """The person for whom GitHub Actions runs this; empty elsewhere."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return ""
    return os.environ.get("GITHUB_TRIGGERING_ACTOR") or os.environ.get("GITHUB_ACTOR") or ""


def _login() -> str:
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
