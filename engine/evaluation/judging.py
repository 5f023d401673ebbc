"""Judging: which event the outcome of a job becomes."""

from __future__ import annotations

import msgspec

from engine.errors import ActionError, Cancelled, CeRunError, FailureKind
from engine.evaluation.material import Material, Unrecorded
from engine.evaluation.preparing import Preparing
from engine.evaluation.scopes import Scopes
from engine.evaluation.values import headlines, plain, result_value
from engine.events import (
    Failure,
    GuardObserved,
    TaskFinished,
    TaskProbed,
    TaskStatus,
    Verdict,
)
from engine.executor import Job, JobResult
from engine.module_api import Result
from engine.plan import Node
from engine.state import RunState, TaskState

_CANCEL_WORDS: dict[FailureKind, str] = {
    "timed_out": "its timeout passed",
    "budget_exceeded": "it took longer than its budget",
    "interrupted": "the run was interrupted while it worked",
}
_STOPPED: dict[FailureKind, str] = {
    "timed_out": "its timeout passed; it was stopped",
    "budget_exceeded": "it took longer than its budget; it was stopped",
}


def _cancel_words(kind: FailureKind, message: str) -> str:
    """Why a task was cancelled, and what became of it if the action could not just stop."""
    if kind not in _CANCEL_WORDS:
        return message
    if message == Cancelled.STOPPED:
        return _STOPPED.get(kind, _CANCEL_WORDS[kind])
    return f"{_CANCEL_WORDS[kind]}; {message}"


class Judging:
    """What outcomes mean: until, failed_when, changed_when, trips, and what is hidden of them."""

    def __init__(
        self, material: Material, scopes: Scopes, preparing: Preparing, unrecorded: Unrecorded
    ) -> None:
        self._material = material
        self._scopes = scopes
        self._preparing = preparing
        self._unrecorded = unrecorded
        self._redactor = material.redactor
        self._templates = material.templates

    def judge(self, state: RunState, node: Node, outcome: JobResult) -> TaskFinished:
        """The event for an outcome."""
        task = state.task((node.index, outcome.job.task))
        if outcome.error is not None:
            return self._judge_error(node, task, outcome.job, outcome.error)
        result = outcome.result
        if result is None:
            error = ActionError("the action gave no result")
            return self._judge_error(node, task, outcome.job, error)
        try:
            return self._judge_result(state, node, task, outcome.job, result)
        except CeRunError as error:
            return self._finished(
                node, outcome.job, "failed", result, self._material.failure(node, error)
            )

    def _judge_error(
        self, node: Node, task: TaskState, job: Job, error: ActionError
    ) -> TaskFinished:
        failure = self._material.failure(node, error)
        status: TaskStatus = "failed"
        if failure.kind == "cancelled":
            kind = task.cancel or "cancelled"
            status = "failed" if kind == "timed_out" else "cancelled"
            failure = msgspec.structs.replace(
                failure, kind=kind, message=_cancel_words(kind, failure.message)
            )
            if kind == "timed_out":
                failure = msgspec.structs.replace(failure, retryable=True)
        result = Result(data=dict(error.data))
        return self._finished(node, job, status, result, failure)

    def _judge_result(
        self, state: RunState, node: Node, task: TaskState, job: Job, result: Result
    ) -> TaskFinished:
        step = node.step
        assert step is not None
        if step.failed_when is None and step.changed_when is None and step.until is None:
            return self._finished(node, job, "succeeded", result, None)
        seen = result_value(result.data, result.changed, result.message)
        names = {"result": seen} | ({step.register: seen} if step.register else {})
        spec = self._preparing.spec(state, node, job.task)
        scope = self._scopes.scope(state, node, spec).child(names)
        if step.changed_when is not None:
            result = msgspec.structs.replace(
                result, changed=self._templates.test(step.changed_when, scope)
            )
        failure = None
        if step.failed_when is not None and self._templates.test(step.failed_when, scope):
            failure = Failure("failed", f"failed_when holds: {step.failed_when}", step=node.path)
        elif (
            step.until is not None
            and self._material.mode != "check"
            and not self._templates.test(step.until, scope)
        ):
            tail = f" ({result.message})" if result.message else ""
            failure = Failure("failed", f"not yet: {step.until}{tail}", step=node.path)
        return self._finished(node, job, "failed" if failure else "succeeded", result, failure)

    def _finished(
        self, node: Node, job: Job, status: TaskStatus, result: Result, failure: Failure | None
    ) -> TaskFinished:
        if self._unrecorded.hides(node):
            self._unrecorded.results[node.index, job.task] = result.data
            result = Result(result.changed)
            if failure is not None:
                failure = Failure(
                    failure.kind, "hidden by no_log", step=node.path, retryable=failure.retryable
                )
        data = self._redactor.mask_value(plain(result.data)) if result.data else {}
        message, diff = result.message, result.diff
        shares, figures = headlines(result)
        if self._redactor.active:
            mask = self._redactor.mask
            message, diff = mask(message), mask(diff)
            shares = {mask(version): share for version, share in shares.items()}
            figures = dict(self._redactor.mask_value(figures))
            if failure is not None:
                failure = self._material.masked(failure)
        return TaskFinished(
            node.path,
            status,
            job.attempt,
            job.task,
            result.changed,
            data,
            message,
            diff,
            failure,
            shares,
            figures,
        )

    def judge_probe(self, node: Node, outcome: JobResult) -> TaskProbed:
        """What a probe found out; one that failed found out nothing."""
        task = outcome.job.task
        probe = outcome.probe
        mask = self._redactor.mask
        if probe is None:
            message = outcome.error.message if outcome.error else "the probe gave no answer"
            shown = "hidden by no_log" if self._unrecorded.hides(node) else mask(message)
            return TaskProbed(node.path, "unknown", task, message=shown)
        result = probe.result or Result()
        changed = result.changed or probe.verdict == "done"
        if self._unrecorded.hides(node):
            self._unrecorded.results[node.index, task] = result.data
            return TaskProbed(node.path, probe.verdict, task, changed)
        data = self._redactor.mask_value(plain(result.data))
        message = mask(probe.message or result.message)
        return TaskProbed(node.path, probe.verdict, task, changed, data, message)

    def judge_observation(
        self, state: RunState, node: Node, guard: int, outcome: JobResult | Failure
    ) -> GuardObserved:
        """pass, fail or inconclusive. Whatever goes wrong while looking is inconclusive."""
        if isinstance(outcome, Failure):
            return GuardObserved(node.path, guard, "inconclusive", message=outcome.message)
        mask = self._redactor.mask
        result = outcome.result
        if result is None:
            message = mask(outcome.error.message if outcome.error else "no result")
            return GuardObserved(node.path, guard, "inconclusive", message=message)
        verdict, message = self._verdict(state, node, guard, result)
        samples = result.data.get("samples")
        return GuardObserved(
            node.path,
            guard,
            verdict,
            self._redactor.mask_value(plain(result.data.get("value"))),
            samples if isinstance(samples, int) else None,
            mask(message),
        )

    def _verdict(
        self, state: RunState, node: Node, guard: int, result: Result
    ) -> tuple[Verdict, str]:
        """What an observation says, and why."""
        seen = state.group(node.index).guards[guard]
        trip = node.guards[guard].trip
        samples = result.data.get("samples")
        count = samples if isinstance(samples, int) else seen.observations + 1
        if "value" in result.data and result.data["value"] is None:
            return "inconclusive", result.message or "no data"
        if count < seen.timing.min_samples:
            return "inconclusive", f"{count} of at least {seen.timing.min_samples} samples"
        names = {"result": result_value(result.data, result.changed, result.message)}
        try:
            scope = self._scopes.scope(state, node, inside=True)
            trips = self._templates.test(trip, scope.child(names))
        except CeRunError as error:
            return "inconclusive", error.message
        word = "true" if trips else "false"
        return "fail" if trips else "pass", result.message or f"{trip} is {word}"
