"""``ce-run run`` and ``ce-run resume``: a run with somebody watching it, to its exit status."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.github import in_actions, write_output, write_summary
from engine.cli.main import Unexpected
from engine.cli.options import (
    Workspace,
    color_option,
    comma_list,
    extra_vars,
    inventory_option,
    modules_option,
    run_argument,
    state_option,
)

if TYPE_CHECKING:
    from engine.cli.ask import Asker
    from engine.cli.plain import JsonView, PlainView
    from engine.session import Options, Session, Surroundings

    View = PlainView | JsonView

OUTPUTS = ("auto", "live", "plain", "json")
_SHOWN = ("output", "no_color", "verbose", "diff", "yes")
"""What `output_options` say of how a run is shown."""


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How a run is shown."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Also starts, progress, observations."),
        color_option,
        click.option(
            "--output",
            type=click.Choice(OUTPUTS),
            default="auto",
            show_default=True,
            help="live on a terminal, plain lines elsewhere, or the journal's events as JSON.",
        ),
        click.option("--diff", is_flag=True, help="Show the diff of each change."),
        click.option("-y", "--yes", is_flag=True, help="Answer every confirmation with yes."),
        state_option,
    ):
        function = option(function)
    return function


@click.command()
@click.argument("file", metavar="FILE", type=click.Path())
@inventory_option
@click.option(
    "-e",
    "--extra-vars",
    "extra",
    multiple=True,
    metavar="VAR",
    help="name=value, a JSON object, or @FILE (YAML or JSON); may be repeated.",
)
@click.option("--check", is_flag=True, help="Read for real, change nothing, tell what would.")
@click.option("--simulate", is_flag=True, help="Rehearse it in a simulated world; touch nothing.")
@click.option(
    "--world",
    type=click.Path(),
    metavar="FILE",
    help="With --simulate: what the world is like (docs/rehearsing.md).",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.1),
    metavar="N",
    help="With --simulate: N seconds of the world in a real one; else as fast as can be.",
)
@click.option("-t", "--tags", multiple=True, help="Only steps with these tags (a,b).")
@click.option("--skip-tags", multiple=True, help="No steps with these tags (a,b).")
@click.option("-l", "--limit", metavar="PATTERN", help="Only these hosts.")
@click.option(
    "-f",
    "--forks",
    type=click.IntRange(1, 1000),
    default=None,
    help="Tasks that run at the same time.  [default: 20]",
)
@click.option(
    "--force",
    is_flag=True,
    help="Take locks over and skip confirmations; the runbook must say `preempts`.",
)
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the journal.")
@click.option("--list-tasks", "listed", is_flag=True, help="List the steps; run nothing.")
@modules_option
@output_options
def run(
    file: str,
    state: str | None,
    listed: bool,
    world: str | None,
    speed: float | None,
    **words: Any,
) -> int:
    """Run a runbook. `ce-run FILE` is the same.

    Everything is checked before the first step. On a terminal a live view shows phases, running
    steps, traffic and guards; Ctrl-C stops the run so that it can be resumed. Where nobody
    can be asked, a confirmation ends the run with status 5 and says how to go on.

    \b
    Examples:
      ce-run runbooks/deploy-5.1.yml -i inventories/lab.yml --yes
      ce-run runbooks/deploy-5.1.yml --check --diff
      ce-run runbooks/deploy-5.1.yml -e version=5.1 -e @release.yml --tags canary
      ce-run runbooks/emergency-rollback.yml --force --reason error_rate_high
    """
    from engine.session import begin

    shown = {name: words.pop(name) for name in _SHOWN}
    options = _options(words, yes=shown["yes"])
    for option, value in (("--world", world), ("--speed", speed)):
        if value is not None and not options.simulate:
            raise click.UsageError(f"{option} goes with --simulate")
    if listed:
        from engine.cli.tasks import list_tasks
        from engine.cli.terminal import Writer

        Writer(no_color=shown["no_color"]).lines(list_tasks(file, options))
        return 0
    watcher = Watcher(Workspace(state, file), **shown, approved=options.force)

    def start() -> Session:
        around = watcher.surroundings()
        if options.simulate:
            around = _rehearsed(around, world, speed)
        return begin(file, options, around)

    if options.simulate:  # it makes little garbage; to look for it takes a tenth of its time
        gc.set_threshold(200_000, 50, 100)
    return watcher.watch(start)


def _rehearsed(around: Surroundings, world: str | None, speed: float | None) -> Surroundings:
    """The same in a simulated world. Raises InvalidRunbook for what is wrong with its file."""
    from engine.session.rehearsal import Rehearsal
    from engine.simulation.description import read_description

    told = read_description(Path(world)) if world is not None else None
    return Rehearsal(told, speed).surroundings(around)


def _options(words: dict[str, Any], *, yes: bool) -> Options:
    """What the command line's words say about a run."""
    from engine.scheduler import DEFAULT_FORKS
    from engine.session import Options

    if words["simulate"] and words["check"]:
        raise click.UsageError("--check reads the real world, --simulate none: choose one")
    inventories = words.pop("inventories")
    return Options(
        inventory=inventories[0] if inventories else None,
        more_inventories=inventories[1:],
        extra=extra_vars(words.pop("extra")),
        tags=comma_list(words.pop("tags")),
        skip_tags=comma_list(words.pop("skip_tags")),
        forks=words.pop("forks") or DEFAULT_FORKS,
        yes=yes,
        **words,
    )


@click.command()
@run_argument
@click.option("--redo", multiple=True, metavar="STEP", help="Run this step again.")
@click.option("--done", multiple=True, metavar="STEP", help="Take this step as done.")
@click.option("--skip", multiple=True, metavar="STEP", help="Go on without this step.")
@click.option("--rescue", is_flag=True, help="Give it up: run its rescue, or undo what it did.")
@click.option(
    "--after",
    default="",
    metavar="RUN",
    help="Another run owned the lock meanwhile: go on all the same.",
)
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the journal.")
@output_options
def resume(
    run: str,
    redo: tuple[str, ...],
    done: tuple[str, ...],
    skip: tuple[str, ...],
    rescue: bool,
    after: str,
    reason: str,
    state: str | None,
    **shown: Any,
) -> int:
    """Go on with a run that stopped, died or waits for a person.

    RUN is an id, a part of one that fits no other, or `last`. What was done stays done, with its
    results. A step that can be repeated without harm runs again; one that cannot is looked up in
    the world, and where nobody knows, you decide with --redo or --done. The same options take up
    a failed step.

    \b
    Examples:
      ce-run resume last
      ce-run resume 20260131-140509 --redo canary/migrate
      ce-run resume last --skip notify --reason "chat is down"
      ce-run resume last --rescue --reason "not tonight"
    """
    from engine.session import Decision, Wishes
    from engine.session import resume as go_on

    if skip and not reason:
        raise click.UsageError("--skip needs a --reason: it is kept in the journal")
    words = (("redo", redo), ("done", done), ("skip", skip))
    wishes = Wishes(
        decisions=[Decision(step, word, reason) for word, steps in words for step in steps],
        give_up=(reason or "given up") if rescue else None,
        after=after,
        yes=shown["yes"],
    )
    workspace = Workspace(state)
    folder = workspace.find(run)
    watcher = Watcher(workspace, **shown)

    def start() -> Session:
        return go_on(folder, watcher.surroundings(), wishes)

    return watcher.watch(start)


class Watcher:
    """Whoever watches a run from this terminal: a view of it, and somebody to ask."""

    def __init__(
        self,
        workspace: Workspace,
        *,
        output: str,
        no_color: bool,
        verbose: bool,
        diff: bool,
        yes: bool,
        approved: bool = False,
    ) -> None:
        from engine.cli.terminal import Writer, can_ask

        self.workspace = workspace
        self.attended = output != "json" and not (yes or approved) and can_ask()
        self.writer = Writer(no_color=no_color)
        self.view = _view(output, self.writer, verbose, diff)
        self.asker = self._make_asker() if self.attended else None
        self.observers = [self.view, *([self.asker] if self.asker is not None else [])]

    def surroundings(self) -> Surroundings:
        """What this process brings along to carry a run."""
        from engine.session import Surroundings

        return Surroundings(
            store=self.workspace.store,
            attended=self.attended,
            observers=self.observers,
            tick=self.view.tick_seconds,
            lab=_find_lab,
        )

    def _make_asker(self) -> Asker:
        from engine.cli.ask import Asker
        from engine.cli.plain import PlainView
        from engine.people import this_person

        assert isinstance(self.view, PlainView)
        self.view.asked = True
        return Asker(self.view.screen(), this_person(), sys.stdin.fileno())

    def watch(self, start: Callable[[], Session]) -> int:
        """Carry the run that `start` makes; its exit status."""
        with self._closing():
            session = start()
            self._connect(session)
            with _traceback_into(session):
                status = session.run()
        self._summarise(session)
        return status

    def _connect(self, session: Session) -> None:
        """Give the view and the asker what only a session has."""
        picture = getattr(self.view, "picture", None)
        if picture is not None:
            from engine.cli.thresholds import limits_of, thresholds_of

            picture.threshold = thresholds_of(session)
            picture.limit = limits_of(session)
        write_output("run", session.entry.run_id)
        if self.asker is not None:
            self.asker.connect(session.mailbox.put)

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self.asker is not None:
                self.asker.close()
            with contextlib.suppress(OSError):
                self.view.finish()

    def _summarise(self, session: Session) -> None:
        from engine.cli.plain import PlainView

        try:
            lines = end_of_run(session, self.workspace)
        except Exception as error:  # the run has its outcome, whatever there is to say of it
            lines = [_untold(session, error)]
        if isinstance(self.view, PlainView):
            with contextlib.suppress(OSError):  # whoever watched is gone, or the terminal
                self.writer.lines(lines)
        if in_actions():
            _write_step_summary(lines)


def _find_lab(folder: Path, mask: Callable[[str], object]) -> Callable[[str], Any]:
    """``lab(…)`` of templates: the lab's code is loaded when an inventory first asks for it."""

    @functools.cache
    def addresses() -> Callable[[str], Any]:
        from engine.cli.lab import addresses_in

        return addresses_in(folder, mask)

    return lambda name: addresses()(name)


def _untold(session: Session, error: Exception) -> Any:
    """What is said where the summary of a run cannot be made."""
    from engine.report.words import Span, line

    text = f"the summary of run {session.entry.run_id} could not be made: {error!r}; "
    return line(Span(text, "warn"), "its journal is complete, see `ce-run show`")


def _write_step_summary(lines: Any) -> None:
    """Add the end of the run to the page that GitHub Actions shows of a job."""
    from engine.report.encoding import fenced, for_markdown
    from engine.report.words import text_of

    outcome, *rest = [text_of(each) for each in lines if text_of(each)]
    page = fenced("\n".join(rest))
    write_summary(f"### {for_markdown(outcome)}\n\n{page}")


def _view(output: str, writer: Any, verbose: bool, diff: bool) -> View:
    from engine.cli.plain import ActionsView, JsonView, PlainView
    from engine.cli.terminal import is_capable

    if output == "json":
        return JsonView()
    if output in ("auto", "live") and is_capable(sys.stdout):
        from engine.cli.live import LiveView

        return LiveView(writer, verbose=verbose, diffs=diff)
    kind = ActionsView if in_actions() else PlainView
    return kind(writer, verbose=verbose, diffs=diff)


def end_of_run(session: Session, workspace: Workspace) -> Any:
    """The summary of a run that this process is done with."""
    import msgspec

    from engine.cli.terminal import columns
    from engine.report.gather import gather
    from engine.report.next_steps import advise
    from engine.report.summary import summary

    facts = gather(session.plan, session.state, now=session.clock.now())
    options = msgspec.to_builtins(session.options)
    advice = advise(facts, workspace.commands, options=options)
    place = _relative(session.entry.place)
    return summary(facts, session.plan, advice, place, columns())


def _relative(place: str) -> str:
    """A place that is below the working directory, from there."""
    return place.removeprefix(f"{os.getcwd()}/")  # noqa: PTH109


@contextlib.contextmanager
def _traceback_into(session: Session) -> Iterator[None]:
    """Keep the traceback of a defect of ours in the run's folder."""
    from engine.errors import CeRunError

    try:
        yield
    except (CeRunError, BrokenPipeError):
        raise
    except Exception as error:
        told = session.redactor.mask("".join(traceback.format_exception(error)))
        place = "nowhere: it could not be written"
        with contextlib.suppress(OSError, CeRunError):
            place = session.entry.keep("traceback.txt", told.encode())
        raise Unexpected(told, place) from None
