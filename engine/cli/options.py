"""Options that several commands share, and what they mean together."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from engine.cli.github import in_actions
from engine.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from engine.loader import Extra
    from engine.report.next_steps import CommandLines
    from engine.store import RunEntry, Store

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z_][\w-]*\Z")
_PAIR = re.compile(r"[A-Za-z_][\w-]*=")
_MOST_EXTRA_BYTES = 1 << 20


# -- options ------------------------------------------------------------------------------------
def state_option(function: F) -> F:
    """``--state DIR``."""
    return click.option(
        "--state",
        metavar="DIR",
        help="Where runs, locks and the lab live. Default: CE_RUN_STATE, else .ce-run of the "
        "project.",
    )(function)


def inventory_option(function: F) -> F:
    """``-i``, as in Ansible; repeatable."""
    return click.option(
        "-i",
        "--inventory",
        "inventories",
        metavar="FILE",
        multiple=True,
        type=click.Path(),
        help="The inventory, ce-run's or Ansible's; overrides the one that the runbook names. "
        "Several are added up, later ones winning.",
    )(function)


def modules_option(function: F) -> F:
    """``--modules DIR``, repeatable."""
    return click.option(
        "--modules",
        "modules",
        metavar="DIR",
        multiple=True,
        type=click.Path(),
        help="A folder of modules, searched first; may be repeated.",
    )(function)


def color_option(function: F) -> F:
    """``--no-color``."""
    return click.option(
        "--no-color", is_flag=True, help="No colours; NO_COLOR and TERM=dumb mean the same."
    )(function)


def json_option(function: F) -> F:
    """``--output plain|json``."""
    return click.option(
        "--output",
        type=click.Choice(["plain", "json"]),
        default="plain",
        show_default=True,
        help="For people, or for programs.",
    )(function)


def run_argument(function: F) -> F:
    """``RUN``: an id, a part of one that fits no other, or ``last``."""
    return click.argument("run", metavar="RUN", shell_complete=_complete_run)(function)


def step_argument(required: bool = True) -> Callable[[F], F]:
    """``STEP``: the path of a step."""
    metavar = "STEP" if required else "[STEP]"
    return click.argument("step", metavar=metavar, required=required, shell_complete=_complete_step)


# -- where runs are -----------------------------------------------------------------------------
class Workspace:
    """The state folder that a command works on."""

    def __init__(self, state: str | None, runbook: str | None = None) -> None:
        """`runbook` is the file of a run that begins: its project's state is meant by default."""
        from engine.store import state_folder

        self.folder: Path = state_folder(state, Path(runbook) if runbook else None)
        self.given = state
        self._option = state
        if state is None and self.folder != state_folder():  # from here another one is meant
            self._option = str(self.folder)

    @property
    def store(self) -> Store:
        """Its runs and locks."""
        from engine.store import open_store

        return open_store(self.folder)

    def find(self, name: str) -> RunEntry:
        """One run; UsageError when it is not clear which."""
        return self.store.find(name)

    @property
    def commands(self) -> CommandLines:
        """How to spell commands that work on the same folder."""
        from engine.report.next_steps import CommandLines, program

        if in_actions():  # read elsewhere: a path of the runner leads nowhere there
            return CommandLines(self.given, "ce-run")
        return CommandLines(self._option, program(sys.argv[0]))


def _complete_run(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    workspace = Workspace(ctx.params.get("state"))
    ids = ["last", *(run.run_id for run in workspace.store.runs())]
    return [CompletionItem(each) for each in ids if incomplete in each]


def _complete_step(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from engine.errors import CeRunError
    from engine.session import read_run

    try:
        _, state, _ = read_run(Workspace(ctx.params.get("state")).find(ctx.params["run"]))
    except (CeRunError, KeyError):
        return []
    paths = [node.path for node in state.walk() if node.step and node.index in state.steps]
    return [CompletionItem(path) for path in paths if path.startswith(incomplete)]


# -- variables of the command line --------------------------------------------------------------
def extra_vars(given: Iterable[str]) -> Extra:
    """What ``-e`` says, later ones winning: ``name=value``, a JSON object, or ``@file``.

    Values of ``name=value`` are text; an input's declared type converts them. As in Ansible
    ``-e "a=1 b=2"`` gives two. Raises UsageError.
    """
    from engine.loader import Extra

    found = Extra()
    for text in given:
        stripped = text.strip()
        if stripped.startswith("@"):
            found.add(_from_file(Path(stripped[1:])))
        elif stripped.startswith("{"):
            found.add(_from_json(stripped, "-e"))
        else:
            found.add(_pairs(text))
    return found


def _pairs(text: str) -> dict[str, str]:
    words, whole = _words(text)
    given = sum(_PAIR.match(word) is not None for word in words)
    if whole and given == len(words) > 1:
        pairs = [word.partition("=") for word in words]
    elif given > 1:
        raise UsageError(
            f"-e {text}: it can be read as one value or as {given} variables",
            hint="give each its own -e, quote values that hold spaces, or write a JSON object",
        )
    else:
        pairs = [text.partition("=")]
    for name, equals, _ in pairs:
        if not equals or not _NAME.match(name):
            raise UsageError(
                f"-e {text}: expected name=value",
                hint="or a JSON object, or @ and the name of a YAML or JSON file",
            )
    return {name: value for name, _, value in pairs}


def _words(text: str) -> tuple[list[str], bool]:
    """The words as a shell splits them, and whether it could: a lone quote, as in `it's`, ends
    nowhere."""
    try:
        return shlex.split(text), True
    except ValueError:
        return text.split(), False


def _from_json(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{where}: this is no JSON: it cannot be read from line {error.lineno}, "
            f"column {error.colno}, on",
            hint='a JSON object is written {"name": "value"}, with names in double quotes',
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or endless brackets
        raise UsageError(f"{where}: this JSON is too big to be read") from None
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected a JSON object such as {{}}, with a value by name")
    return value


def _from_file(path: Path) -> dict[str, Any]:
    """A file is read as runbooks are: what is wrong is told with its place, and what is written
    stays as it is written until an input says which type it wants."""
    from engine.loader import load_variables

    if path.suffix == ".json":
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.is_file() and path.stat().st_size <= _MOST_EXTRA_BYTES:
                return _from_json(path.read_text(encoding="utf-8-sig"), f"-e @{path}")
    return load_variables(path)


def comma_list(given: Iterable[str]) -> tuple[str, ...]:
    """Values of an option that may be repeated and may hold commas, as Ansible's ``--tags``."""
    return tuple(part.strip() for text in given for part in text.split(",") if part.strip())
