"""What every run gives to templates: fields of ``steps.<id>``, ``run``, ``failure``; functions.

The fields do not depend on the world, so that a wrong one is found before a run. A test holds
this table against what the evaluation makes.
"""

from __future__ import annotations

from collections.abc import Mapping

FIELDS: Mapping[str, tuple[str, ...]] = {
    "steps": ("result", "status", "changed", "failed", "skipped", "started", "seconds"),
    "run": (
        "id",
        "name",
        "runbook",
        "started",
        "started_at",
        "elapsed",
        "mode",
        "check",
        "reason",
        "force",
        "by",
    ),
    "failure": ("summary", "message", "step", "kind", "hint", "evidence", "retryable"),
}
"""Fields by the name in a template; those of ``steps`` are of each step."""

WORDS: Mapping[str, str] = {"steps": "a step", "run": "the run", "failure": "a failure"}
"""What has these fields, in words."""

FUNCTIONS = frozenset(
    ("env", "secret", "lab", "now", "range", "dict", "namespace", "cycler", "joiner")
)
"""What every template can call."""

OURS = frozenset(("env", "secret", "lab", "now"))
"""Functions of ours. A variable may have such a name, as `env` often has in inventories: a call is
always the function, without one it is the variable."""

CALL = "ƒ"
"""What compiled templates have before the name of a function of ours where it is called."""
