"""The Job controller: pods that run to their end, again after failures, until enough succeeded."""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import Api
from engine.production.cluster.controllers.dispatcher import Dispatcher
from engine.production.cluster.controllers.pod_owner import BURST, RETRY_AFTER, PodOwner
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    find_condition,
    is_deleting,
    is_pod_active,
    is_pod_ready,
    key_of,
    parse_time,
    without_empty,
)
from engine.production.cluster.objects.store import Change

_FIRST_DELAY, _LONGEST_DELAY = 10.0, 360.0
"""Seconds between a failed pod and the next one; doubled with each failure."""


class JobController:
    """Runs Jobs. Of completion modes it knows NonIndexed."""

    name = "jobs"

    def __init__(self, api: Api, dispatcher: Dispatcher) -> None:
        self._api = api
        self._store = api.store
        self._dispatcher = dispatcher
        self._owner = PodOwner(api, "jobs.batch", "Job", "job-controller")
        self._failures: dict[str, tuple[int, float]] = {}

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource == "jobs.batch" and change.type == "DELETED":
            self._failures.pop(change.object["metadata"]["uid"], None)
        yield from self._owner.concerned(change)

    def reconcile(self, key: Key) -> bool:
        job = self._store.get("jobs.batch", *key)
        if job is None:
            return False
        if is_deleting(job):
            return self._report(job, [])
        if _ending(job):
            self._expire(job)
            return self._report(job, [])
        conditions = self._judge(job)
        if conditions or job["spec"].get("suspend"):
            self._end_active(job)
        else:
            self._grow(job)
        return self._report(job, conditions)

    def _judge(self, job: Obj) -> list[Obj]:
        """The conditions with which the Job ends now; none while it goes on."""
        spec, failed = job["spec"], self._count(job, "Failed")
        done = self._count(job, "Succeeded")
        completions = spec.get("completions")
        if done >= (completions if completions is not None else 1) and (
            completions is not None or not self._active(job)
        ):
            message = "Reached expected number of succeeded pods"
            self._owner.events.tell(job, "Normal", "Completed", "Job completed")
            return self._conditions(
                ("SuccessCriteriaMet", "Complete"), "CompletionsReached", message
            )
        if failed > spec.get("backoffLimit", 6):
            message = "Job has reached the specified backoff limit"
            return self._failure(job, "BackoffLimitExceeded", message)
        deadline, began = spec.get("activeDeadlineSeconds"), job.get("status", {}).get("startTime")
        if deadline is not None and began:
            left = deadline - (self._api.timeline.now() - parse_time(began).timestamp())
            if left <= 0:
                message = "Job was active longer than specified deadline"
                return self._failure(job, "DeadlineExceeded", message)
            self._dispatcher.later(self.name, key_of(job), left + 0.001, "deadline")
        return []

    def _failure(self, job: Obj, reason: str, message: str) -> list[Obj]:
        self._owner.events.tell(job, "Warning", reason, message)
        return self._conditions(("FailureTarget", "Failed"), reason, message)

    def _conditions(self, kinds: tuple[str, ...], reason: str, message: str) -> list[Obj]:
        now = self._api.timestamp()
        return [
            {
                "type": kind,
                "status": "True",
                "lastProbeTime": now,
                "lastTransitionTime": now,
                "reason": reason,
                "message": message,
            }
            for kind in kinds
        ]

    def _active(self, job: Obj) -> list[Obj]:
        return [pod for pod in self._owner.pods(job) if is_pod_active(pod)]

    def _count(self, job: Obj, phase: str) -> int:
        return sum(pod["status"].get("phase") == phase for pod in self._owner.pods(job))

    def _end_active(self, job: Obj) -> None:
        for pod in self._active(job):
            self._owner.delete(job, pod)

    def _grow(self, job: Obj) -> None:
        """Make the pods that are missing, after a delay if the last ones failed."""
        spec = job["spec"]
        active = len(self._active(job))
        parallelism, completions = spec.get("parallelism", 1), spec.get("completions")
        done = self._count(job, "Succeeded")
        room = parallelism if completions is None else min(parallelism, completions - done)
        if completions is None and done:
            room = active
        missing = room - active
        if missing < 0:
            for pod in self._active(job)[missing:]:
                self._owner.delete(job, pod)
        if missing <= 0 or self._waits(job):
            return
        for _ in range(min(missing, BURST)):
            if self._owner.create(job):
                self._dispatcher.later(self.name, key_of(job), RETRY_AFTER, "refused")
                return

    def _waits(self, job: Obj) -> bool:
        """Whether it is too soon after the last failure; looks again when it is not."""
        failed, uid = self._count(job, "Failed"), job["metadata"]["uid"]
        if not failed:
            return False
        now = self._api.timeline.elapsed()
        number, since = self._failures.get(uid, (0, now))
        if number != failed:
            self._failures[uid] = (failed, now)
            since = now
        delay = min(_FIRST_DELAY * 2 ** (failed - 1), _LONGEST_DELAY)
        left = delay - (now - since)
        if left > 0:
            self._dispatcher.later(self.name, key_of(job), left + 0.001, "back-off")
        return bool(left > 0)

    def _expire(self, job: Obj) -> None:
        """Delete a finished Job when its time to live is over."""
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return
        ended = parse_time(_ending(job)["lastTransitionTime"]).timestamp()
        left = ended + seconds - self._api.timeline.now()
        if left > 0:
            self._dispatcher.later(self.name, key_of(job), left + 0.001, "expiry")
        else:
            resource = self._api.catalog["jobs.batch"]
            self._api.delete(resource, *key_of(job), propagation="Foreground")

    def _report(self, job: Obj, conditions: list[Obj]) -> bool:
        old = job.get("status", {})
        active = self._active(job)
        known = list(old.get("conditions") or ())
        status: Obj = without_empty(
            {
                "conditions": known + conditions,
                "startTime": old.get("startTime"),
                "completionTime": old.get("completionTime"),
                "active": len(active),
                "succeeded": self._count(job, "Succeeded"),
                "failed": self._count(job, "Failed"),
            }
        )
        status |= {
            "terminating": sum(is_deleting(pod) for pod in self._owner.pods(job)),
            "uncountedTerminatedPods": {},
            "ready": sum(is_pod_ready(pod) for pod in active),
        }
        if not job["spec"].get("suspend"):
            status.setdefault("startTime", self._api.timestamp())
        if any(each["type"] == "Complete" for each in conditions):
            status["completionTime"] = self._api.timestamp()
        self._owner.report(job, status)
        return False


def _ending(job: Obj) -> Obj:
    """The condition with which a Job has ended; empty while it has not."""
    status = job.get("status", {})
    return find_condition(status, "Complete") or find_condition(status, "Failed") or {}
