"""The context of a task: what the engine lends an action while it runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from engine.clock import utc
from engine.errors import Cancelled, Refused, TimedOut
from engine.executor.logs import AttemptLog, log_stem
from engine.executor.services import Services
from engine.module_api import Host, Mode
from engine.templating import Scope, Templates
from engine.text import writable

T = TypeVar("T")

if TYPE_CHECKING:
    from engine.simulation.world import World

ANSWER_PATIENCE = 1.0
"""Seconds that a request has for its answer once its task was asked to end; as long as a run that
takes over waits for it (`engine.store.files.locks`)."""


class Attempt(msgspec.Struct, frozen=True):
    """Which attempt of which task a context is for, and under what terms it runs."""

    step: str
    task: int = 0
    number: int = 1
    mode: Mode = "run"
    host: Host | None = None
    deadline: float | None = None
    """Epoch seconds of the run's clock, or None: it has all the time."""
    first_started: float | None = None
    """Epoch seconds of the task's first attempt; None: this is it."""
    log_name: str = ""
    """Marks logs that are not a task's."""
    silent: bool = False
    """With ``no_log``: it writes no log and reports nothing."""


class TaskContext:
    """The `Context` of one attempt of one task."""

    def __init__(
        self,
        services: Services,
        attempt: Attempt,
        *,
        scope: Callable[[], Scope] = Scope,
        templates: Templates | None = None,
    ) -> None:
        """`scope` makes what templates of this task can read, when one is first rendered."""
        self.run_id = services.run_id
        self.step = attempt.step
        self.task = attempt.task
        self.attempt = attempt.number
        self.mode = attempt.mode
        self.host = attempt.host
        self.key = f"{services.run_id}/{attempt.step}/{attempt.task}"
        self._services = services
        self._terms = attempt
        self._began = services.clock.now()
        self._make_scope = scope
        self._templates = templates
        self._log: AttemptLog | None = None  # made when something is first written
        self._stopping = False
        self._stop: threading.Event | None = None  # made when somebody waits for it
        self._answered: threading.Event | None = None  # while a request is on its way
        self.lasting: Callable[[], bool] | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    # -- time ---------------------------------------------------------------------------------
    def now(self) -> datetime:
        """The time, UTC."""
        return utc(self._services.clock.now())

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return self._services.clock.monotonic()

    def remaining(self, at_most: float | None = None) -> float | None:
        """Seconds until the deadline, bounded by `at_most`; raises TimedOut when none is left."""
        self.checkpoint()
        if self._terms.deadline is None:
            return at_most
        left = self._terms.deadline - self._services.clock.now()
        return left if at_most is None else min(left, at_most)

    def elapsed_since_first_start(self) -> float:
        """Seconds since the task was first started, counted across resumes."""
        first = self._began if self._terms.first_started is None else self._terms.first_started
        return max(0.0, self._services.clock.now() - first)

    def sleep(self, seconds: float) -> None:
        """Wait; Cancelled or TimedOut as soon as the task has to end."""
        bound = self.remaining(at_most=max(0.0, seconds))
        assert bound is not None
        with self._lock:
            if self._stop is None:
                self._stop = threading.Event()
            if self._stopping:
                self._stop.set()
        self._services.clock.wait_event(self._stop, bound)
        self.checkpoint()

    # -- being stopped ------------------------------------------------------------------------
    def checkpoint(self) -> None:
        """Raise Cancelled or TimedOut if the task has to end now."""
        if self._stopping:
            raise Cancelled(Cancelled.STOPPED)
        if self._terms.deadline is not None and self._services.clock.now() >= self._terms.deadline:
            raise TimedOut(
                "its time was up", hint="raise `timeout`, or find out what it waited for"
            )

    @contextlib.contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """Have `callback` called if the task must end while the block runs."""
        with self._lock:  # so that it is called once, whichever comes first
            self._callbacks.append(callback)
            stopping = self._stopping
        try:
            if stopping:
                callback()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)

    def cancel(self) -> None:
        """Ask the action to end: wakes its sleeps and calls its callbacks. For the executor.

        A request that is on its way is given a moment for its answer. To cut it off would leave
        open whether it happens, and could have it happen later, when the fence is another run's.
        """
        with self._lock:
            self._stopping = True
            if self._stop is not None:
                self._stop.set()
            answered = self._answered
        if answered is not None:
            self._services.clock.wait_event(answered, ANSWER_PATIENCE)
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            with contextlib.suppress(Exception):
                callback()

    @property
    def stopping(self) -> bool:
        """Whether the task was asked to end."""
        return self._stopping

    def fence(self) -> contextlib.AbstractContextManager[None]:
        """Hold the run's locks for one request."""
        self.checkpoint()
        return self._fenced()

    @contextlib.contextmanager
    def _fenced(self) -> Iterator[None]:
        with self._services.fence.hold():
            with self._lock:
                outermost = self._answered is None
                answered = self._answered = self._answered or threading.Event()
            try:
                yield
            finally:
                if outermost:
                    with self._lock:
                        self._answered = None
                    answered.set()

    def identity(self) -> dict[str, str]:
        """Headers with run and token."""
        return dict(self._services.fence.identity())

    # -- the world ----------------------------------------------------------------------------
    @property
    def world(self) -> World:
        """The simulated world."""
        assert self._services.world is not None, "only a run in mode simulate has a world"
        world: World = self._services.world
        return world

    def holds_while(self, condition: Callable[[], bool]) -> None:
        """Keep the condition for whoever would ask again."""
        self.lasting = condition

    @property
    def endpoints(self) -> Mapping[str, Any]:
        """The inventory's endpoints."""
        return self._services.section("endpoints")

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The inventory's metrics."""
        return self._services.section("metrics")

    def connection(self, module: str) -> Mapping[str, Any]:
        """The inventory's section for a module."""
        return self._services.section(module)

    def secret(self, name: str) -> str:
        """A secret's value."""
        return self._services.secret(name)

    def mask(self, value: str) -> None:
        """Hide `value` in whatever the run writes from now on."""
        self._services.mask(value)

    def file(self, path: str | Path) -> Path:
        """An absolute path below the runbook's folder.

        Files that a runbook names are known from the root, which lies above that folder where
        runbooks of another are included. Anything else, such as a working folder, is meant from
        the runbook's folder.
        """
        folders = self._services.folders
        for base in (self._services.root, folders[0]):
            absolute = (base / path).resolve()
            if any(absolute.is_relative_to(each) for each in folders):
                break
        else:
            raise Refused(
                f"{path} lies outside the runbook's folder {folders[0]}",
                hint="keep the files of a runbook beside it, below its folder",
            )
        return absolute

    def render(self, value: Any, **extra: Any) -> Any:
        """Render templates in the step's scope."""
        return self._using().render(value, self._scope(extra))

    def evaluate(self, expression: str, **extra: Any) -> Any:
        """Evaluate an expression in the step's scope."""
        return self._using().evaluate(expression, self._scope(extra))

    def _using(self) -> Templates:
        if self._templates is None:
            self._templates = Templates(secret=self._services.secret)
        return self._templates

    def _scope(self, extra: dict[str, Any]) -> Scope:
        """The step's scope with names of the action, which may come from outside (the keys of a
        document) and so take no name of the engine's."""
        scope = self._make_scope()
        own = {name: value for name, value in extra.items() if name not in scope.names}
        return scope.child(own) if own else scope

    def cached(
        self, key: str, make: Callable[[], T], close: Callable[[T], None] | None = None
    ) -> T:
        """A client shared by the run."""
        return self._services.clients.cached(key, make, close, self.checkpoint)

    def folder(self) -> Path:
        """The attempt's folder below the run's ``logs/``."""
        return self._kept().folder()

    def holds_secret(self, text: str) -> bool:
        """Whether a secret stands in `text`."""
        return self._services.masked(text) != text

    # -- telling ------------------------------------------------------------------------------
    def log(self, text: str) -> None:
        """Add lines to the attempt's log."""
        if not self._terms.silent:
            self._kept().write(text)

    def warn(self, text: str) -> None:
        """Tell people of something unsafe; also with ``no_log``, since it is no result."""
        self.log(f"warning: {text}")
        self._services.warn(self.step, self._services.masked(text))

    def progress(self, text: str) -> None:
        """Tell how far it is."""
        self.log(text)
        if self._terms.silent:
            return
        self._services.report(self.step, self.task, writable(self._services.masked(text)))

    def _kept(self) -> AttemptLog:
        if self._log is None:
            stem = log_stem(self.step, self.task, self.attempt)
            stem = f"{stem}.{self._terms.log_name}" if self._terms.log_name else stem
            self._log = AttemptLog(self._services.logs, stem, self._services.masked)
        return self._log
