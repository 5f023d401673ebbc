"""The way in: finds the command, runs it, and turns whatever goes wrong into words and a status.

Nothing but click is imported here, so that ``ce-run --version`` costs no more than click does.
The table of commands below is all that is known of them until one is used.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from engine import VERSION

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

UNEXPECTED = 70
"""Exit status after a defect of ours: ``EX_SOFTWARE``, which no outcome of a run uses."""

BROKEN_PIPE = 141

OUTPUT_LOST = 74
"""Exit status of a command whose answer could not be written: ``EX_IOERR``. A run goes on without
its output and has a status of its own."""

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))

TRACEBACK_VARIABLE = "CE_RUN_TRACEBACK"

SECTIONS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Running",
        (
            ("run", "engine.cli.run:run", "Run a runbook; `ce-run FILE` is the same."),
            ("resume", "engine.cli.run:resume", "Go on with a run that stopped or died."),
            ("stop", "engine.cli.operate:stop", "Interrupt a run, or have it roll back."),
            ("approve", "engine.cli.operate:approve", "Say yes to a run that waits for a person."),
            ("reject", "engine.cli.operate:reject", "Say no to a run that waits for a person."),
            ("reason", "engine.cli.operate:reason", "Tell afterwards why a run was started."),
        ),
    ),
    (
        "Looking",
        (
            ("runs", "engine.cli.runs:runs", "List the runs and how they stand."),
            ("show", "engine.cli.runs:show", "Show a run step by step: what, when, why."),
            ("logs", "engine.cli.logs:logs", "Show what a step's attempts wrote."),
            ("locks", "engine.cli.operate:locks", "List the locks and who holds them."),
            ("unlock", "engine.cli.operate:unlock", "Take a lock away from its owner."),
        ),
    ),
    (
        "Writing",
        (
            ("init", "engine.cli.init:init", "Start a project in an empty folder."),
            ("validate", "engine.cli.validate:validate", "Check runbooks without running them."),
            ("modules", "engine.cli.modules:modules", "Show modules, actions and arguments."),
            ("graph", "engine.cli.graph:graph", "Draw a runbook with its critical path."),
        ),
    ),
    (
        "Trying out",
        (
            ("drill", "engine.cli.drill:drill", "Play scenarios in a simulated world."),
            ("lab", "engine.cli.lab:lab", "A small production on this machine to try runbooks."),
            ("version", "engine.cli.version:version", "Show the version."),
        ),
    ),
)

EXAMPLES = """\
Examples:
  ce-run runbooks/deploy-5.1.yml -i inventories/lab.yml
  ce-run runbooks/deploy-5.1.yml --check --diff
  ce-run validate runbooks/*.yml
  ce-run show last
  ce-run resume last
"""


class Unexpected(Exception):
    """A defect of ours while a run was under way; its traceback lies in the run's folder.

    `told` is that traceback without secrets: the error itself must not be printed.
    """

    def __init__(self, told: str, where: str) -> None:
        super().__init__(told.rstrip().rsplit("\n", 1)[-1])
        self.told = told
        self.where = where


class ReaderLeft(Exception):
    """Whoever read our output has closed it: BrokenPipeError, out of the reach of click's own
    handler, which would end the process as if the command had failed."""


class OutputLost(Exception):
    """What a command had to say could not be written: a full disk."""


class CommandTable(click.Group):
    """The commands of the table, imported at first use, listed by section."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.table = {name: (where, help) for _, rows in SECTIONS for name, where, help in rows}
        self.chosen = ""
        """The command that was asked for, once the command line was read."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, imported; None if there is none of that name."""
        if name not in self.table:
            return None
        import importlib

        module, _, attribute = self.table[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """``ce-run FILE …`` and ``ce-run -i … FILE`` become ``ce-run run …``."""
        if "--traceback" in args:
            args = [each for each in args if each != "--traceback"]
            ctx.meta["traceback"] = True
            os.environ[TRACEBACK_VARIABLE] = "1"
        first = args[0] if args else ""
        if first and first not in self.table and first not in ("--help", "-h", "--version"):
            self._refuse_misspelled(ctx, first)
            args = ["run", *args]
        self.chosen = args[0] if args else ""
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise ReaderLeft from error
        except OSError as error:
            if error.errno not in _FULL or error.filename is not None:
                raise
            raise OutputLost(os.strerror(error.errno).lower()) from error
        return result

    def _refuse_misspelled(self, ctx: click.Context, word: str) -> None:
        """A word that is neither a file nor looks like one was meant as a command."""
        if word.startswith("-") or "/" in word or "." in word or os.path.exists(word):  # noqa: PTH110
            return
        from difflib import get_close_matches

        near = get_close_matches(word, self.table, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise click.UsageError(f"there is no command and no file '{word}'{hint}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, without importing them, and files, since a runbook may stand there."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        found = [(name, help) for name, (_, help) in self.table.items()]
        names = [CompletionItem(n, help=help) for n, help in found if n.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by section, without importing them."""
        for title, rows in SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(name, help) for name, _, help in rows])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, as they are written."""
        formatter.write_paragraph()
        formatter.write(EXAMPLES)


@click.command(
    cls=CommandTable,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="ce-run", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, expose_value=False, help="Show tracebacks of defects.")
def commands() -> None:
    """Run runbooks: rehearse them, crash them, preempt them, prove what happened.

    `ce-run FILE` runs a runbook. Exit status: 0 succeeded, 1 failed, rescued or undone, 2 usage or
    invalid runbook, 3 a person must act, 4 locked, 5 waiting for a person, 6 preempted,
    130/143 interrupted and resumable.
    """


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status. Nothing but a second SIGINT leaves otherwise."""
    try:
        given = None if arguments is None else list(arguments)
        result = commands.main(given, prog_name="ce-run", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return 130
    except OutputLost as error:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (silences the flush at exit)
        print(f"ce-run: the output cannot be written: {error}", file=sys.stderr)
        return OUTPUT_LOST
    except (BrokenPipeError, ReaderLeft):
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (silences the flush at exit)
        return BROKEN_PIPE
    except Exception as error:
        return _explain(error)


def _show(error: click.ClickException) -> None:
    """What click says of a wrong command line, whatever words that held."""
    from io import StringIO

    from engine.cli.terminal import echo

    page = StringIO()
    error.show(page)
    echo(page.getvalue().rstrip("\n"), err=True)


def _explain(error: Exception) -> int:
    """An error that somebody can act on, in words; anything else is our own defect."""
    from engine.errors import CeRunError

    if isinstance(error, CeRunError):
        from engine.cli.problems import tell_error

        tell_error(error)
        return error.exit_status
    import traceback

    if isinstance(error, Unexpected):
        said, told, hint = str(error), error.told, f"its traceback is in {error.where}"
    else:
        said, hint = f"{type(error).__name__}: {error}", "--traceback shows where"
        told = "".join(traceback.format_exception(error))
    from engine.cli.terminal import echo

    if os.environ.get(TRACEBACK_VARIABLE):
        echo(told.rstrip("\n"), err=True)
    echo(f"ce-run failed unexpectedly: {said} ({hint})", err=True)
    return UNEXPECTED


_LOOKALIKES = str.maketrans("→–·…✓✗▶─█░▒▓↻≤", ">-.~+x>-#.:=o<")
"""For terminals that know ASCII only; a column for a column, so that tables stay tables."""


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    """What is written in the place of characters that a stream cannot take."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end].translate(_LOOKALIKES)
    return "".join(each if each.isascii() else "?" for each in found), error.end


def _open_closed_streams() -> None:
    """A run does not depend on whether somebody reads (``>&-``): what is closed leads nowhere.

    The descriptors are taken, too, so that no file of a run is opened in their place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115  (for good)


def main() -> NoReturn:
    """The console script."""
    codecs.register_error("lookalike", _lookalike)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="lookalike")
    status = invoke()
    if commands.chosen in ("run", "resume"):
        from engine.cli.github import write_output

        write_output("exit-status", status)
    sys.exit(status)
