"""Carries out tasks: the contexts that actions see, and the threads they run on.

The runner hands over a `Job` and gets an `Outcome` in its mailbox; it never waits for an
action. Threads, because every driver this project uses is synchronous; daemon threads, because
an action that cannot be stopped must not keep the process alive (its task is then in doubt, and
the journal says so).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from engine.clock import Clock, Mailbox, utc
from engine.errors import ActionError, Cancelled, Failed, Refused, TimedOut
from engine.module_api import Context, Host, Mode, Probe, Result
from engine.templating import Scope, Templates
from engine.text import writable

T = TypeVar("T")

_LOOK = 0.05
"""Seconds between two looks of who waits for a client that another task is making."""

ANSWER_PATIENCE = 1.0
"""Seconds that a request has for its answer once its task was asked to end; as long as a run that
takes over waits for it (`engine.store.files.locks`)."""

LOG_BYTES = 64 * 1024 * 1024
"""Size at which the log of an attempt is full: a command that floods it must not fill the disk."""

LOG_FULL = "… the log of this attempt is full: what comes after this line was not kept\n"

CLOSE_PATIENCE = 0.5
"""Seconds for closing all clients: part of the five within which an interrupted run leaves."""


class Fence(Protocol):
    """Guards effects of a run against happening after another run took over its locks."""

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Shared hold for one request; raises Cancelled when the locks are lost."""
        ...

    def identity(self) -> dict[str, str]:
        """Headers with run and token."""
        ...


class NoFence:
    """For a run that owns no lock."""

    def __init__(self, run_id: str) -> None:
        self._headers = {"X-CE-Run": run_id, "X-CE-Token": "0"}

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Nothing to hold."""
        yield

    def identity(self) -> dict[str, str]:
        """The run; token 0 stands for "no lock"."""
        return self._headers


class Services:
    """What all tasks of a run share; the runner makes one and closes it at the end."""

    def __init__(
        self,
        *,
        run_id: str,
        clock: Clock,
        root: Path,
        folders: Sequence[Path] = (),
        logs: Path | None = None,
        fence: Fence | None = None,
        section: Callable[[str], Mapping[str, Any]] = lambda name: {},
        secret: Callable[[str], str] | None = None,
        mask: Callable[[str], object] = lambda value: None,
        masked: Callable[[str], str] = lambda text: text,
        report: Callable[[str, int, str], None] = lambda step, task, text: None,
        warn: Callable[[str, str], None] = lambda step, text: None,
    ) -> None:
        """`section(name)` gives a rendered part of the inventory; `masked(text)` hides secrets;
        `report(step, task, text)` takes progress lines, `warn(step, text)` warnings; `root` is what
        paths start from, `folders` (else `root`) are those that a runbook may name files in."""
        self.run_id = run_id
        self.clock = clock
        self.root = root.resolve()
        self.folders = tuple(each.resolve() for each in folders) or (self.root,)
        self.logs = logs
        self.fence = fence or NoFence(run_id)
        self.section = section
        self.secret = secret or _no_secret
        self.mask = mask
        self.masked = masked
        self.report = report
        self.warn = warn
        self._cache: dict[str, Any] = {}
        self._closers: list[Callable[[], None]] = []
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def cached(
        self,
        key: str,
        make: Callable[[], T],
        close: Callable[[T], None] | None,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> T:
        """The client for `key`, made by the first who asks.

        Whoever waits for it looks from time to time with `checkpoint` whether to go on waiting.
        """
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        while not making.acquire(timeout=_LOOK):  # one slow connection must not hold up the others
            checkpoint()
        try:
            if key not in self._cache:
                made = make()
                self._cache[key] = made
                if close is not None:
                    self._closers.append(lambda: close(made))
            found: T = self._cache[key]
            return found
        finally:
            making.release()

    def close(self) -> None:
        """Close every cached client, newest first; a client that cannot be closed is let go, and
        one that hangs holds nobody up."""
        with self._lock:
            closers, self._closers, self._cache = self._closers, [], {}

        def close_all() -> None:
            for close in reversed(closers):
                with contextlib.suppress(Exception):
                    close()

        if closers:
            closing = threading.Thread(target=close_all, name="closing", daemon=True)
            closing.start()
            closing.join(CLOSE_PATIENCE)


def _no_secret(name: str) -> str:
    raise Refused(f"unknown secret {name!r}", hint="declare it under `secrets:` in the inventory")


class TaskContext:
    """The `Context` of one attempt of one task."""

    def __init__(
        self,
        services: Services,
        *,
        step: str,
        task: int = 0,
        attempt: int = 1,
        mode: Mode = "run",
        host: Host | None = None,
        deadline: float | None = None,
        first_started: float | None = None,
        scope: Callable[[], Scope] = Scope,
        templates: Templates | None = None,
        log_name: str = "",
        silent: bool = False,
    ) -> None:
        """`deadline` and `first_started` are epoch seconds of the services' clock; `scope` makes
        what templates of this task can read; `log_name` marks logs that are not a task's; a
        `silent` task (``no_log``) writes none and reports nothing."""
        self.run_id = services.run_id
        self.step = step
        self.task = task
        self.attempt = attempt
        self.mode = mode
        self.host = host
        self.key = f"{services.run_id}/{step}/{task}"
        self._services = services
        self._deadline = deadline
        self._first_started = services.clock.now() if first_started is None else first_started
        self._make_scope = scope
        self._templates = templates
        self._log_name = log_name
        self._silent = silent
        self._stopping = False
        self._stop: threading.Event | None = None  # made when somebody waits for it
        self._answered: threading.Event | None = None  # while a request is on its way
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._log_path: Path | None = None

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
        if self._deadline is None:
            return at_most
        left = self._deadline - self._services.clock.now()
        return left if at_most is None else min(left, at_most)

    def elapsed_since_first_start(self) -> float:
        """Seconds since the task was first started, counted across resumes."""
        return max(0.0, self._services.clock.now() - self._first_started)

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
            raise Cancelled("stopped before it was done")
        if self._deadline is not None and self._services.clock.now() >= self._deadline:
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
        """An absolute path below the runbook's folder."""
        folders = self._services.folders
        found = (self._services.root / path).resolve()
        if not any(found.is_relative_to(each) for each in folders):
            raise Refused(
                f"{path} lies outside the runbook's folder {folders[0]}",
                hint="keep the files of a runbook beside it, below its folder",
            )
        return found

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
        return self._services.cached(key, make, close, self.checkpoint)

    def folder(self) -> Path:
        """The attempt's folder below the run's ``logs/``."""
        if self._services.logs is None:
            raise Failed("this run keeps no logs, so there is no folder to write to")
        folder = self._services.logs / f"{self._stem()}.d"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def holds_secret(self, text: str) -> bool:
        """Whether a secret stands in `text`."""
        return self._services.masked(text) != text

    # -- telling ------------------------------------------------------------------------------
    def log(self, text: str) -> None:
        """Add lines to the attempt's log."""
        if self._services.logs is None or self._silent or not text:
            return
        if self._log_path is None:
            self._log_path = self._services.logs / f"{self._stem()}.log"
        # A full disk is the journal's to tell: an effect has not failed because of its log.
        with contextlib.suppress(OSError), _open_private(self._log_path) as stream:
            size = os.fstat(stream.fileno()).st_size
            lines = self._services.masked(text.rstrip("\n")) + "\n"
            if size < LOG_BYTES:
                full = size + len(lines) >= LOG_BYTES
                stream.write(lines + (LOG_FULL if full else ""))

    def warn(self, text: str) -> None:
        """Tell people of something unsafe; also with ``no_log``, since it is no result."""
        self.log(f"warning: {text}")
        self._services.warn(self.step, self._services.masked(text))

    def progress(self, text: str) -> None:
        """Tell how far it is."""
        self.log(text)
        if self._silent:
            return
        self._services.report(self.step, self.task, writable(self._services.masked(text)))

    def _stem(self) -> str:
        stem = log_stem(self.step, self.task, self.attempt)
        return f"{stem}.{self._log_name}" if self._log_name else stem


def log_stem(step: str, task: int, attempt: int) -> str:
    """The file name, without ending, of an attempt's log: ``canary/route`` → ``canary~route.0.1``.

    Paths hold no ``~``, so the name leads back to the step.
    """
    return f"{step.replace('/', '~')}.{task}.{attempt}"


def _open_private(path: Path) -> Any:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


class Job:
    """One attempt to carry out: the function to call, its arguments and its context."""

    __slots__ = (
        "arguments",
        "attempt",
        "context",
        "function",
        "inline",
        "purpose",
        "step",
        "task",
    )

    def __init__(
        self,
        step: str,
        task: int,
        attempt: int,
        function: Callable[..., Result | Probe],
        arguments: Mapping[str, Any],
        context: TaskContext,
        purpose: Literal["run", "probe", "guard"] = "run",
        inline: bool = False,
    ) -> None:
        """`purpose` tells what the outcome is for; with ``guard``, `task` is the guard's number.
        `inline` jobs only compute and may run on the runner's own thread."""
        self.step = step
        self.task = task
        self.attempt = attempt
        self.function = function
        self.arguments = arguments
        self.context = context
        self.purpose = purpose
        self.inline = inline


class Outcome(msgspec.Struct):
    """What became of a job: exactly one of `result`, `probe` and `error` is set."""

    job: Job
    result: Result | None = None
    probe: Probe | None = None
    error: ActionError | None = None


class Executor(Protocol):
    """What the runner needs of whoever carries out jobs."""

    def start(self, job: Job) -> None:
        """Begin the job; its Outcome arrives in the mailbox."""
        ...

    def cancel(self, job: Job) -> None:
        """Ask the job to end; its Outcome still arrives, unless it cannot be stopped."""
        ...

    def close(self) -> None:
        """No job will be started any more."""
        ...


def carry_out(job: Job) -> Outcome:
    """Call the job's function and turn whatever happens into an Outcome."""
    context: Context = job.context
    try:
        returned: object = job.function(context, **job.arguments)
    except ActionError as error:
        return Outcome(job, error=_with_context(job, error))
    except BaseException as error:  # whatever it is, somebody waits for an outcome
        job.context.log(traceback.format_exc())
        return Outcome(
            job,
            error=Failed(
                f"the module failed with {type(error).__name__}: {error}",
                hint="this is a defect of the module; its traceback is in the step's log",
            ),
        )
    wrong = _misfit(returned)
    if wrong:
        return Outcome(job, error=Failed(wrong, hint="this is a defect of the module"))
    if isinstance(returned, Probe):
        return Outcome(job, probe=returned)
    assert isinstance(returned, Result)
    return Outcome(job, result=returned)


def _misfit(returned: object) -> str:
    """What is wrong with what a module returned: nothing checked its types before it ran."""
    if isinstance(returned, Probe):
        return "" if returned.result is None else _misfit(returned.result)
    if not isinstance(returned, Result):
        return f"the module returned {type(returned).__name__} where a Result is due"
    for name, kind in (("changed", bool), ("data", dict), ("diff", str), ("message", str)):
        found = getattr(returned, name)
        if not isinstance(found, kind):
            return (
                f"the module returned a Result whose `{name}` is {type(found).__name__} and "
                f"has to be {kind.__name__}"
            )
    return ""


def _with_context(job: Job, error: ActionError) -> ActionError:
    """A driver that was shut by a cancellation fails in its own words; say what it really was."""
    if job.context.stopping and not isinstance(error, Cancelled):
        return Cancelled("stopped before it was done", evidence=[error.message])
    return error


class ThreadExecutor:
    """Runs jobs on daemon threads, made when needed and kept for the next job."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = threading.Semaphore(0)

    def start(self, job: Job) -> None:
        """Queue the job; a thread is made when none is idle."""
        if not self._idle.acquire(blocking=False):
            self._threads += 1
            threading.Thread(target=self._work, name=f"task-{self._threads}", daemon=True).start()
        self._jobs.put(job)

    def cancel(self, job: Job) -> None:
        """Wake the job's sleeps and run its cancel callbacks, without waiting for them."""
        threading.Thread(target=job.context.cancel, daemon=True).start()

    def close(self) -> None:
        """Let idle threads end; a busy one ends after its job."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = carry_out(job)
            self._idle.release()
            self._mailbox.put(outcome)
