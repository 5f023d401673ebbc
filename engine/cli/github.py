"""What a step of GitHub Actions is told: commands in its log, outputs, and the page of the job.

The runner cancels a step by signals to its first process alone. So ``action.yml`` gives that
process to ce-run (`exec`), and ce-run writes the step's outputs itself.
"""

from __future__ import annotations

import contextlib
import os


def in_actions() -> bool:
    """Whether this process is a step of a job."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def write_output(name: str, value: str | int) -> None:
    """Set an output of the step, if this is one; `value` has one line."""
    if in_actions():
        _append(os.environ.get("GITHUB_OUTPUT"), f"{name}={value}\n")


def write_summary(markdown: str) -> None:
    """Add to the page that is shown of the job, if this is one."""
    if in_actions():
        _append(os.environ.get("GITHUB_STEP_SUMMARY"), markdown)


# -- commands in the log --------------------------------------------------------------------------
MOST_ANNOTATIONS = 10
"""Of one step of a runbook; GitHub shows no more of one step of a job."""

_LONGEST = 4000


def group(title: str) -> str:
    """The command that begins a foldable group."""
    return command("group", title)


def command(name: str, text: str) -> str:
    """A command without a place: `error` tells on the page of the job what went wrong."""
    return f"::{name}::{_data(text[:_LONGEST])}"


END_GROUP = "::endgroup::"


def annotation(
    file: str, row: int, column: int, message: str, title: str = "", *, level: str = "error"
) -> str:
    """The command for an error, or a `warning`, that shows up at its line of the file.

    GitHub looks for the file from the root of the checkout on.
    """
    root = os.environ.get("GITHUB_WORKSPACE") or "."
    place = f"file={_property(os.path.relpath(os.path.abspath(file), root))}"  # noqa: PTH100
    if row:
        place += f",line={row},col={column}"
    if title:
        place += f",title={_property(title)}"
    return f"::{level} {place}::{_data(message[:_LONGEST])}"


def _data(text: str) -> str:
    from engine.report.encoding import for_actions, visible_lines

    return for_actions(visible_lines(text)).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _append(path: str | None, text: str) -> None:
    if path:
        with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
