"""What a module is written against: actions, their companions, results and the context.

A module is one file whose functions, marked with `@action`, are its actions. This file is all
that a module may import of the engine; it names no driver and starts nothing.

An action's signature is its schema: parameter names are the argument names (a trailing
underscore, as in ``for_`` or ``assert_``, is dropped; ``_`` and ``-`` are the same), annotations
are their types, defaults make them optional. The first parameter is the `Context`. An action
that is given a bare value (``shell: uptime``) gets it as its first argument. Its docstring's
first line is its summary; an ``Args:`` section documents arguments one a line.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, ParamSpec, Protocol, TypeVar

import msgspec

from engine import regex
from engine.errors import ActionError, Cancelled, Failed, Refused, TimedOut, Unreachable
from engine.model import Effect, Mode
from engine.processes import command_mark
from engine.regex import containing
from engine.text import is_local
from engine.units import (
    count,
    figure,
    format_duration,
    format_milliseconds,
    parse_duration,
    read_milliseconds,
    read_percent,
)

__all__ = [
    "Action",
    "ActionError",
    "Arguments",
    "Cancelled",
    "Check",
    "Condition",
    "Context",
    "Duration",
    "Effect",
    "Expression",
    "Failed",
    "File",
    "FileName",
    "Host",
    "Mode",
    "Name",
    "Probe",
    "Refused",
    "Result",
    "Template",
    "TimedOut",
    "Unreachable",
    "Value",
    "action",
    "command_mark",
    "containing",
    "count",
    "figure",
    "format_duration",
    "format_milliseconds",
    "is_local",
    "parse_duration",
    "read_milliseconds",
    "read_percent",
    "regex",
]

Duration = Annotated[float, "duration"]
"""Seconds. In a runbook ``90s``, ``5m``, ``1h30m``, ``250ms`` or a number of seconds."""

File = Annotated[Path, "file"]
"""A file below the runbook's folder; that it exists is checked before anything runs."""

Expression = Annotated[str, "expression"]
"""A Jinja2 expression without braces, kept as text until the action calls `ctx.evaluate`."""

Template = Annotated[str, "template"]
"""Text with templates that the action itself renders, once, with `ctx.render`. All other text is
rendered before the action is called and is data from then on: never render or evaluate it again."""

Value = Annotated[Any, "value"]
"""Anything, for people to read; a plain ``5.10`` is the text ``5.10``, as in variables. Where a
number may be meant, take `Any`, `float` or `int`."""

Condition = Annotated[str, "condition"]
"""An `Expression` that the action evaluates without names of its own: the loader checks those that
it reads before anything runs."""


class Name(msgspec.Struct, frozen=True):
    """``Annotated[str, Name("sql", "database")]``: an argument names an entry of the inventory.

    The loader then refuses a name that is not there before anything runs, also in rescue, undo and
    always.
    """

    section: str
    """Where its entries are: ``metrics``, a module's section (``sql``), or a part of one
    (``notify.channels``)."""
    word: str
    """What an entry is called in a message."""
    otherwise: str | None = None
    """Who does not name one gets the only entry there is, or the one of this name. None if the
    argument can be left out without getting any."""


class FileName(msgspec.Struct, frozen=True):
    """``Annotated[str, FileName(…)]``: an argument names a file by its stem, in a folder with a
    subfolder for each language; it has to be there in one of them."""

    folder: str
    """Below the runbook's folder."""
    setting: str
    """Where the inventory may name another folder: ``notify.templates``."""
    word: str
    """What such a file is called in a message."""


class Check(msgspec.Struct, frozen=True):
    """``Annotated[str, Check(read_status)]``: a function that raises Refused or ValueError for a
    value that cannot be meant. Literal values are checked before anything runs, others when they
    are rendered."""

    function: Callable[[Any], object]


COMPANION = "is a companion and takes two arguments: `(ctx: Context, args: Arguments)`"
"""What is wrong with a companion that repeats its action's signature, after its name."""

_TAKES_MORE = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS

P = ParamSpec("P")
T = TypeVar("T")
Companion = Callable[["Context", "Arguments"], T]

if TYPE_CHECKING:
    from engine.simulation.world import World


class Result(msgspec.Struct):
    """What an action did.

    `data` becomes ``steps.<id>.result`` (JSON values only: it is written to the journal),
    `diff` is unified-diff text of what changed (or would), `message` one line for people.

    Two fields are headlines, shown wherever a run is shown: `shares` (version → percent of the
    traffic that it has now) in the live view, `figures` (name → measured value, text with its
    unit or a number) at the end of the run, the last of each name.
    """

    changed: bool = False
    data: dict[str, Any] = {}
    diff: str = ""
    message: str = ""
    shares: dict[str, float] = {}
    figures: dict[str, float | str] = {}


class Probe(msgspec.Struct):
    """The answer to "did this once-only effect happen?" after a crash.

    With ``done``, `result` is what the action would have returned, as far as it can be known.
    """

    verdict: Literal["done", "not_done", "unknown"]
    result: Result | None = None
    message: str = ""


class Host(msgspec.Struct, frozen=True):
    """A host of the inventory, with the variables of its groups and its own."""

    name: str
    vars: Mapping[str, Any] = {}


class Arguments:
    """The arguments of an action, bound and with their defaults, as its companions get them.

    An attribute for each parameter of the action, under its name in Python: ``args.replicas``,
    ``args.for_``. What an action takes beyond its named parameters (``**values``) is a mapping
    under that name.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Context(Protocol):
    """What the engine lends an action while it runs. One per attempt; used by one thread."""

    run_id: str
    step: str
    """Path of the step, such as ``canary/route``."""
    attempt: int
    """1 for the first."""
    mode: Mode
    """``check`` with ``--check``: an `@….check` companion runs, or an action with effect ``read``
    itself; what such an action looks for may be made by a step that was not carried out."""
    host: Host | None
    key: str
    """Idempotency key of the task: the same in every attempt and after a resume."""

    # -- time -------------------------------------------------------------------------------
    def now(self) -> datetime:
        """The time, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards, for measuring durations."""
        ...

    def remaining(self, at_most: float | None = None) -> float | None:
        """Seconds until the attempt's deadline, bounded by `at_most`; None when there is none.

        Raises TimedOut when nothing is left. Use it as the time-out of every request.
        """
        ...

    def elapsed_since_first_start(self) -> float:
        """Seconds since the task was first started, counted across resumes."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait. Raises Cancelled or TimedOut at once when that happens first."""
        ...

    # -- being stopped ----------------------------------------------------------------------
    @property
    def stopping(self) -> bool:
        """Whether the task was asked to end."""
        ...

    def checkpoint(self) -> None:
        """Raise Cancelled or TimedOut if the action has to end now."""
        ...

    def on_cancel(self, callback: Callable[[], None]) -> AbstractContextManager[None]:
        """While the block runs, call `callback` (from another thread) if the task must end.

        It has to make the blocked call return: kill the process group, close the socket,
        cancel the query on its server. It must not raise.
        """
        ...

    def fence(self) -> AbstractContextManager[None]:
        """Wrap every request that changes something outside: ``with ctx.fence(): send()``.

        Raises Cancelled when the run no longer owns its locks; while the block runs, a run that
        takes over waits for it (briefly). Keep it around single requests, not around waiting.
        """
        ...

    def identity(self) -> dict[str, str]:
        """HTTP headers that tell a receiver which run and fencing token a request comes from."""
        ...

    # -- the world --------------------------------------------------------------------------
    @property
    def endpoints(self) -> Mapping[str, Any]:
        """The inventory's ``endpoints``, rendered."""
        ...

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The inventory's ``metrics``, rendered."""
        ...

    @property
    def world(self) -> World:
        """The simulated world, in mode ``simulate``; there is none in the others."""
        ...

    def holds_while(self, condition: Callable[[], bool]) -> None:
        """In mode ``simulate``: asked again, the action would answer the same as long as the
        condition holds. It is tested after whatever happens in the world."""
        ...

    def connection(self, module: str) -> Mapping[str, Any]:
        """The inventory's section for a module (``kubectl``, ``sql``, ...); may be empty.

        Its entries are rendered when they are read, so that a secret that is missing stops only
        who needs it; reading one may raise.
        """
        ...

    def secret(self, name: str) -> str:
        """A secret of the inventory. Masked in everything that the run writes."""
        ...

    def mask(self, value: str) -> None:
        """Have `value` masked, too (a password found inside a DSN, a token just received)."""
        ...

    def file(self, path: str | Path) -> Path:
        """The absolute path of a file below the runbook's folder; Refused if it lies outside."""
        ...

    def render(self, value: Any, **extra: Any) -> Any:
        """Render templates in a `Template`, or in a file of the runbook, in the step's scope with
        `extra` names added. Never what came from outside, nor an argument that is no `Template`:
        those were rendered, and what stands in them now is data."""
        ...

    def evaluate(self, expression: str, **extra: Any) -> Any:
        """Evaluate an `Expression` in the step's scope with `extra` names added."""
        ...

    def cached(
        self, key: str, make: Callable[[], T], close: Callable[[T], None] | None = None
    ) -> T:
        """A client shared by the whole run: made at first use, closed when the run ends."""
        ...

    def folder(self) -> Path:
        """The attempt's own folder in the run's ``logs/`` (0700), for captured output."""
        ...

    def holds_secret(self, text: str) -> bool:
        """Whether a secret that is known so far stands in `text`, in whatever form."""
        ...

    # -- telling ----------------------------------------------------------------------------
    def log(self, text: str) -> None:
        """Add a line to the attempt's log (masked)."""
        ...

    def warn(self, text: str) -> None:
        """Tell people of something unsafe that goes on all the same, such as a certificate that
        is not verified. Shown in the terminal and in every report, once a run for each text."""
        ...

    def progress(self, text: str) -> None:
        """Say in one line how far it is; shown in the live view, kept in the attempt's log."""
        ...


class Action(Generic[P]):
    """An action: the function, its effect class and its companions.

    Made by `@action`; calling it calls the function.
    """

    def __init__(
        self,
        function: Callable[P, Result],
        effect: Effect,
        inline: bool = False,
        local: bool = False,
        remote: str = "",
        simulates: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.effect: Effect = effect
        self.inline = inline
        self.local = local or bool(remote)
        self.remote = remote
        self.simulates = simulates
        self.checker: Callable[..., Result] | None = None
        self.prober: Callable[..., Probe] | None = None
        self.simulator: Callable[..., Result] | None = None
        self._signature: inspect.Signature | None = None  # made for the first companion called

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        return self.function(*args, **kwargs)

    def arguments(self, *args: Any, **kwargs: Any) -> Arguments:
        """Arguments as one would call the action with, after the context, for a companion."""
        if self._signature is None:
            signature = inspect.signature(self.function)
            parameters = list(signature.parameters.values())[1:]
            self._signature = signature.replace(parameters=parameters)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return Arguments(bound.arguments)

    def _companion(self, function: Companion[T]) -> Callable[..., T]:
        """`function` as the engine calls it: with the arguments of the action."""
        code = function.__code__
        if code.co_argcount != 2 or code.co_kwonlyargcount or code.co_flags & _TAKES_MORE:
            raise TypeError(f"{function.__name__} {COMPANION}")

        @functools.wraps(function)
        def call(ctx: Context, *args: Any, **kwargs: Any) -> T:
            return function(ctx, self.arguments(*args, **kwargs))

        return call

    def check(self, function: Companion[Result]) -> Companion[Result]:
        """Register what runs under ``--check``: real reads, no writes.

        It returns a Result of the same shape, `changed` and `diff` saying what would change.
        An action with effect ``read`` needs none: it runs as it is.
        """
        self.checker = self._companion(function)
        return function

    def probe(self, function: Companion[Probe]) -> Companion[Probe]:
        """Register how to find out, after a crash, whether a ``once`` effect happened."""
        self.prober = self._companion(function)
        return function

    def simulate(self, function: Companion[Result]) -> Companion[Result]:
        """Register what happens in a simulated world, for an action that cannot run there as it is.

        Its context has `world` beside the rest; it waits with `ctx.sleep` or `ctx.world.until`.
        """
        self.simulator = self._companion(function)
        return function


def action(
    *,
    effect: Effect,
    inline: bool = False,
    local: bool = False,
    remote: str = "",
    simulates: bool = False,
) -> Callable[[Callable[P, Result]], Action[P]]:
    """Mark a function as an action of its module.

    `inline` is for actions that only compute (``assert``): they run on the engine's own thread,
    so they must neither block nor wait. `local` is for actions that work on the machine that
    ce-run runs on, whatever the step's host is: below ``hosts:`` a runbook has to say that this is
    meant. `remote` names the action that takes the same arguments and works on the step's host.
    `simulates` is for actions that run as they are in a simulated world: they wait by the context
    alone, and what they ask for the world asks them back (`ctx.world`).
    """

    def mark(function: Callable[P, Result]) -> Action[P]:
        return Action(function, effect, inline, local, remote, simulates)

    return mark
