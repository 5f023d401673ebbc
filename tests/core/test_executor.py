"""Jobs on real threads, and the context that an action works with."""

from __future__ import annotations

import contextlib
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.clock import Mailbox, SystemClock, VirtualClock
from engine.errors import Cancelled, Failed, Refused, TimedOut, Unreachable
from engine.executor import (
    ANSWER_PATIENCE,
    LOG_FULL,
    Attempt,
    Job,
    JobResult,
    Services,
    TaskContext,
    ThreadExecutor,
    carry_out,
)
from engine.module_api import Context, Probe, Result

PATIENCE = 20.0


def services(**keys: Any) -> Services:
    """What the tasks of a run share."""
    return Services(**{"run_id": "r", "clock": SystemClock(), "root": Path("/"), **keys})


def job(function: Callable[..., Any], shared: Services | None = None, **keys: Any) -> Job:
    """A job of a step ``a/b``."""
    context = TaskContext(shared or services(), Attempt("a/b", **keys))
    return Job("a/b", 0, 1, function, {}, context)


@pytest.fixture
def threads() -> Iterator[tuple[ThreadExecutor, Mailbox]]:
    """An executor and where its outcomes arrive."""
    mailbox = Mailbox()
    executor = ThreadExecutor(mailbox)
    yield executor, mailbox
    executor.close()


# -- outcomes -------------------------------------------------------------------------------------
def test_whatever_an_action_does_is_an_outcome(tmp_path: Path) -> None:
    def leaves(ctx: Context) -> Result:
        raise SystemExit(3)

    def breaks(ctx: Context) -> Result:
        raise ZeroDivisionError("oh")

    def refuses(ctx: Context) -> Result:
        raise Refused("no", hint="ask nicely")

    shared = services(logs=tmp_path)
    assert carry_out(job(lambda ctx: Result(True), shared)).result == Result(True)
    assert carry_out(job(lambda ctx: Probe("done"), shared)).probe == Probe("done")
    wrong = carry_out(job(lambda ctx: 5, shared)).error
    assert wrong is not None
    assert "returned int" in wrong.message
    broken = carry_out(job(breaks, shared)).error
    assert isinstance(broken, Failed)
    assert broken.message == "the module failed with ZeroDivisionError: oh"
    assert "Traceback" in (tmp_path / "a~b.0.1.log").read_text()
    left = carry_out(job(leaves, shared)).error
    assert isinstance(left, Failed)
    refused = carry_out(job(refuses, shared)).error
    assert isinstance(refused, Refused)


def test_a_flood_of_lines_does_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.executor.logs.LOG_BYTES", 20)

    def work(ctx: Context) -> Result:
        for number in range(1000):
            ctx.log(f"line {number}")
        return Result()

    carry_out(job(work, services(logs=tmp_path)))
    [log] = tmp_path.iterdir()
    assert log.read_text() == f"line 0\nline 1\nline 2\n{LOG_FULL}"


def test_half_a_character_can_be_logged_and_told(tmp_path: Path) -> None:
    told: list[str] = []

    def work(ctx: Context) -> Result:
        ctx.progress("a\ud800b")
        return Result()

    shared = services(logs=tmp_path, report=lambda step, task, text: told.append(text))
    assert carry_out(job(work, shared)).result == Result()
    assert told == ["a\ufffdb"]


def test_a_driver_that_was_shut_by_a_cancellation_was_cancelled() -> None:
    cancelled: list[Job] = []

    def work(ctx: Context) -> Result:
        cancelled[0].context.cancel()
        raise Unreachable("connection reset")

    cancelled.append(job(work))
    error = carry_out(cancelled[0]).error
    assert isinstance(error, Cancelled)
    assert error.evidence == ["connection reset"]


def test_jobs_run_at_the_same_time(threads: tuple[ThreadExecutor, Mailbox]) -> None:
    executor, mailbox = threads
    together = threading.Barrier(8)

    def meet(ctx: Context) -> Result:
        together.wait(PATIENCE)
        return Result()

    for _ in range(8):
        executor.start(job(meet))
    seen: list[JobResult] = []
    while len(seen) < 8:
        found = mailbox.wait(PATIENCE)
        assert found
        seen += found
    assert all(outcome.result is not None for outcome in seen)


def test_a_thread_is_used_again(threads: tuple[ThreadExecutor, Mailbox]) -> None:
    executor, mailbox = threads
    names = set()

    def note(ctx: Context) -> Result:
        names.add(threading.current_thread().name)
        return Result()

    for _ in range(10):
        executor.start(job(note))
        assert mailbox.wait(PATIENCE)
    assert len(names) == 1


def test_an_action_that_leaves_its_thread_does_not_hold_up_the_next(
    threads: tuple[ThreadExecutor, Mailbox],
) -> None:
    executor, mailbox = threads

    def leave(ctx: Context) -> Result:
        raise SystemExit

    for _ in range(3):
        executor.start(job(leave))
        (outcome,) = mailbox.wait(PATIENCE)
        assert isinstance(outcome.error, Failed)


# -- being stopped --------------------------------------------------------------------------------
def test_a_cancellation_wakes_a_sleep(threads: tuple[ThreadExecutor, Mailbox]) -> None:
    executor, mailbox = threads
    asleep = threading.Event()

    def sleep(ctx: Context) -> Result:
        asleep.set()
        ctx.sleep(3600)
        return Result()

    sleeping = job(sleep)
    executor.start(sleeping)
    assert asleep.wait(PATIENCE)
    executor.cancel(sleeping)
    (outcome,) = mailbox.wait(PATIENCE)
    assert isinstance(outcome.error, Cancelled)


def test_a_cancellation_that_comes_first_is_found_by_the_sleep() -> None:
    context = job(lambda ctx: Result()).context
    context.cancel()
    assert context.stopping
    with pytest.raises(Cancelled):
        context.sleep(3600)
    with pytest.raises(Cancelled):
        context.checkpoint()
    with pytest.raises(Cancelled):
        context.remaining()


def test_a_cancellation_calls_what_shuts_the_driver(
    threads: tuple[ThreadExecutor, Mailbox],
) -> None:
    executor, mailbox = threads
    blocked = threading.Event()
    shut = threading.Event()

    def block(ctx: Context) -> Result:
        with ctx.on_cancel(shut.set):
            blocked.set()
            assert shut.wait(PATIENCE)
            raise Unreachable("socket closed")

    blocking = job(block)
    executor.start(blocking)
    assert blocked.wait(PATIENCE)
    executor.cancel(blocking)
    (outcome,) = mailbox.wait(PATIENCE)
    assert isinstance(outcome.error, Cancelled)


def test_callbacks_are_called_once_and_only_while_they_are_wanted() -> None:
    context = job(lambda ctx: Result()).context
    calls: list[str] = []
    with context.on_cancel(lambda: calls.append("before")):
        pass
    with context.on_cancel(lambda: calls.append("during")):
        context.cancel()
    with context.on_cancel(lambda: calls.append("after")):
        pass
    assert calls == ["during", "after"]


def test_a_callback_that_fails_does_not_keep_the_others_from_being_called() -> None:
    context = job(lambda ctx: Result()).context
    calls: list[str] = []

    def fail() -> None:
        raise OSError("already closed")

    with context.on_cancel(fail), context.on_cancel(lambda: calls.append("second")):
        context.cancel()
    assert calls == ["second"]


def test_a_deadline_bounds_every_wait_and_then_ends_the_action() -> None:
    clock = VirtualClock(1000.0)
    context = job(lambda ctx: Result(), services(clock=clock), deadline=1010.0).context
    assert context.remaining() == 10
    assert context.remaining(at_most=3) == 3
    assert context.remaining(at_most=30) == 10
    context.sleep(4)
    assert context.remaining() == 6
    with pytest.raises(TimedOut):
        context.sleep(60)
    assert clock.now() == 1010


def test_without_a_deadline_only_what_one_asks_for_bounds_a_wait() -> None:
    context = job(lambda ctx: Result()).context
    assert context.remaining() is None
    assert context.remaining(at_most=3) == 3


def test_time_since_the_first_start_is_counted_across_attempts() -> None:
    clock = VirtualClock(1000.0)
    context = job(lambda ctx: Result(), services(clock=clock), first_started=900.0).context
    assert context.elapsed_since_first_start() == 100


# -- what tasks share -----------------------------------------------------------------------------
def test_a_client_is_made_once_however_many_ask_and_closed_in_the_end() -> None:
    shared = services()
    made: list[int] = []
    closed: list[str] = []
    together = threading.Barrier(8)

    def make() -> str:
        made.append(1)
        return "client"

    def ask() -> None:
        together.wait(PATIENCE)
        shared.clients.cached("k", make, closed.append)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for each in askers:
        each.start()
    for each in askers:
        each.join()
    assert made == [1]
    shared.close()
    assert closed == ["client"]
    shared.close()
    assert closed == ["client"]


def test_clients_are_closed_newest_first_even_if_one_cannot_be() -> None:
    shared = services()
    closed: list[str] = []

    def stuck(client: str) -> None:
        raise OSError(client)

    shared.clients.cached("a", lambda: "a", closed.append)
    shared.clients.cached("b", lambda: "b", stuck)
    shared.clients.cached("c", lambda: "c", closed.append)
    shared.close()
    assert closed == ["c", "a"]


def test_a_client_that_cannot_be_closed_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.executor.services.CLOSE_PATIENCE", 0.01)
    shared = services()
    release = threading.Event()

    def close(client: object) -> None:
        release.wait(PATIENCE)

    shared.clients.cached("stuck", object, close)
    shared.close()
    assert not release.is_set()
    release.set()


def test_a_client_that_could_not_be_made_is_tried_again() -> None:
    shared = services()
    answers: list[Any] = [Unreachable("not yet"), "client"]

    def make() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    with pytest.raises(Unreachable):
        shared.clients.cached("k", make, None)
    assert shared.clients.cached("k", make, None) == "client"


def test_who_waits_for_a_client_that_another_task_makes_can_be_stopped() -> None:
    shared = services()
    making, release = threading.Event(), threading.Event()

    def make() -> str:
        making.set()
        release.wait(PATIENCE)
        return "client"

    def stop() -> None:
        raise Cancelled("enough")

    maker = threading.Thread(target=lambda: shared.clients.cached("k", make, None))
    maker.start()
    assert making.wait(PATIENCE)
    with pytest.raises(Cancelled):
        shared.clients.cached("k", make, None, stop)
    release.set()
    maker.join()
    assert shared.clients.cached("k", make, None, stop) == "client"


def test_the_key_of_a_task_is_the_same_in_every_attempt() -> None:
    keys = {job(lambda ctx: Result(), number=attempt).context.key for attempt in (1, 2, 3)}
    assert keys == {"r/a/b/0"}


def test_files_outside_the_runbooks_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    context = job(lambda ctx: Result(), services(root=tmp_path / "in")).context
    assert context.file("a/b.sql") == (tmp_path / "in" / "a" / "b.sql").resolve()
    for path in ("../secret", "/etc/passwd", "link/secret", "a/../../x"):
        with pytest.raises(Refused, match="lies outside"):
            context.file(path)


def test_of_a_root_only_the_folders_of_runbooks_are_open(tmp_path: Path) -> None:
    for name in ("a", "b", "private"):
        (tmp_path / name).mkdir()
    shared = services(root=tmp_path, folders=[tmp_path / "a", tmp_path / "b"])
    context = job(lambda ctx: Result(), shared).context
    assert context.file("b/x.sql") == (tmp_path / "b" / "x.sql").resolve()
    for path in ("private/key", "key", "a/../private/key"):  # from the runbook's own folder, then
        assert context.file(path).is_relative_to(tmp_path / "a")
    for path in ("../private/key", str(tmp_path / "private" / "key"), "../../key"):
        with pytest.raises(Refused, match="lies outside"):
            context.file(path)


def test_logs_are_masked_and_their_owners_alone(tmp_path: Path) -> None:
    told: list[tuple[str, int, str]] = []
    shared = services(
        logs=tmp_path,
        masked=lambda text: text.replace("hunter2", "***"),
        report=lambda step, task, text: told.append((step, task, text)),
    )
    context = job(lambda ctx: Result(), shared, task=2, number=3).context
    context.log("password hunter2\n")
    context.progress("still hunter2")
    log = tmp_path / "a~b.2.3.log"
    assert log.read_text() == "password ***\nstill ***\n"
    assert told == [("a/b", 2, "still ***")]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(context.folder().stat().st_mode) == 0o700


def test_a_request_on_its_way_is_answered_before_it_is_cut_off() -> None:
    """Cut off, it could still be carried out, when the fence is another run's already."""
    context = job(lambda ctx: Result()).context
    cut: list[str] = []
    where = "in the fence"
    with context.on_cancel(lambda: cut.append(where)):
        with context.fence():
            with context.fence():  # one inside the other changes nothing
                canceller = threading.Thread(target=context.cancel)
                canceller.start()
                while not context.stopping:
                    pass
            where = "after it"
        canceller.join(PATIENCE)
    assert cut == ["after it"]


def test_a_request_without_an_answer_is_cut_off_all_the_same() -> None:
    clock = VirtualClock()
    context = job(lambda ctx: Result(), services(clock=clock)).context
    begun = clock.now()
    cut: list[float] = []
    with context.on_cancel(lambda: cut.append(clock.now() - begun)), context.fence():
        context.cancel()
    assert cut == [ANSWER_PATIENCE]


def test_requests_go_through_the_fence_of_the_run() -> None:
    class Fence:
        held = 0

        @contextlib.contextmanager
        def hold(self) -> Iterator[None]:
            self.held += 1
            yield

        def identity(self) -> dict[str, str]:
            return {"X-CE-Run": "r"}

    fence = Fence()
    context = job(lambda ctx: Result(), services(fence=fence)).context
    with context.fence():
        pass
    assert fence.held == 1
    assert context.identity() == {"X-CE-Run": "r"}
    context.cancel()
    with pytest.raises(Cancelled):
        context.fence()
    assert fence.held == 1


# -- what cannot be written down ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Result(data=[1]), "`data` is list and has to be dict"),  # type: ignore[arg-type]
        (Result(changed="yes"), "`changed` is str and has to be bool"),  # type: ignore[arg-type]
        (Result(message=5), "`message` is int and has to be str"),  # type: ignore[arg-type]
        (Probe("done", Result(diff=None)), "`diff` is NoneType"),  # type: ignore[arg-type]
    ],
)
def test_a_result_of_the_wrong_shape_fails_its_step_and_nothing_else(
    result: Any, said: str
) -> None:
    error = carry_out(job(lambda ctx: result)).error
    assert error is not None
    assert said in error.message


def test_whatever_a_module_raises_its_thread_answers(
    threads: tuple[ThreadExecutor, Mailbox],
) -> None:
    def leaves(ctx: Context) -> Result:
        raise GeneratorExit

    executor, mailbox = threads
    executor.start(job(leaves))
    (outcome,) = mailbox.wait(PATIENCE)
    assert "GeneratorExit" in outcome.error.message


def test_an_effect_has_not_failed_because_its_log_cannot_be_written(tmp_path: Path) -> None:
    def works(ctx: Context) -> Result:
        ctx.log("done")
        return Result(True)

    shared = services(logs=tmp_path / "gone")
    assert carry_out(job(works, shared)).result == Result(True)


def test_logs_take_what_is_no_character(tmp_path: Path) -> None:
    job(lambda ctx: Result(), services(logs=tmp_path)).context.log("half \udc80")
    assert (tmp_path / "a~b.0.1.log").read_text() == "half \\udc80\n"
