"""The bookkeeping half of the kubelet.

The runtime (runtime.py) reports what becomes of a pod's processes; here that turns into phases,
conditions, container statuses, events, restarts and back-off. A pod has one runtime process group
for all its containers, so they share one state.

Back-off is a kubelet's: a pod that crashed is restarted at once the first time, then after 10 s,
20 s, ... up to 5 min, anew after ten minutes without a crash; an image is pulled again after the
same delays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from engine.production.cluster.api import Api
from engine.production.cluster.controllers.events import Recorder
from engine.production.cluster.controllers.scheduler import pod_condition
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    copy_json,
    find_condition,
    is_deleting,
    key_of,
)
from engine.production.cluster.objects.store import Change
from engine.production.cluster.runtime import PodReport, PodRuntime
from engine.production.cluster.timeline import Callback, Timer

KUBELET = "kubelet"
_FIRST_BACK_OFF = 10.0
_LONGEST_BACK_OFF = 300.0
_FORGIVEN_AFTER = 600.0
_PULL_ERROR_SHOWN = 1.0


@dataclass
class _Pod:
    """What the kubelet remembers of a pod that it runs."""

    key: Key
    uid: str
    start_time: str
    attempt: int = 0
    report: PodReport = field(default_factory=lambda: PodReport("creating"))
    state: Obj = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Obj = field(default_factory=dict)
    has_run: bool = False
    restarts: int = 0
    back_off: float = 0.0
    running_since: float = 0.0
    started_at: str = ""
    ended: bool = False
    stopping: bool = False
    retry: Timer | None = None


class PodController:
    """Runs the pods that are bound to a node, through the runtime."""

    name = "kubelet"

    def __init__(self, api: Api, runtime: PodRuntime, clean_up: float = 0.0) -> None:
        self._clean_up = clean_up
        self._api = api
        self._store = api.store
        self._time = api.timeline
        self._runtime = runtime
        self._events = Recorder(api, "kubelet", KUBELET)
        self._pods: dict[Key, _Pod] = {}

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource == "pods":
            yield key_of(change.object)

    def reconcile(self, key: Key) -> bool:
        pod = self._store.get("pods", *key)
        known = self._pods.get(key)
        if known is not None and (pod is None or pod["metadata"]["uid"] != known.uid):
            self._drop(known)
            known = None
        if pod is None or not pod["spec"].get("nodeName"):
            return False
        if is_deleting(pod):
            self._terminate(pod, known)
        elif known is None and pod["status"]["phase"] not in ("Succeeded", "Failed"):
            self._begin(pod)
        return False

    def stop(self) -> list[str]:
        """Look after no pod any more; the uids of those that ran."""
        running = list(self._pods.values())
        for known in running:
            self._silence(known)
        self._pods.clear()
        return [known.uid for known in running]

    # -- life ----------------------------------------------------------------------------

    def _begin(self, pod: Obj) -> None:
        known = _Pod(key_of(pod), pod["metadata"]["uid"], self._api.timestamp())
        self._pods[known.key] = known
        self._publish(known)
        self._start(known)

    def _start(self, known: _Pod) -> None:
        pod = self._store.get("pods", *known.key)
        if pod is None or known.stopping:
            return
        known.attempt += 1
        known.running_since = self._time.elapsed()
        attempt = known.attempt

        def report(news: PodReport) -> None:
            if known.attempt == attempt and not known.ended and not known.stopping:
                self._learn(known, news)

        self._runtime.start(copy_json(pod), report)

    def _learn(self, known: _Pod, news: PodReport) -> None:
        pod = self._store.get("pods", *known.key)
        if pod is None or pod["metadata"]["uid"] != known.uid:
            return
        if news.state == "running":
            self._learn_running(known, pod, news)
        elif news.state == "image_pull_error":
            self._learn_pull_error(known, pod, news)
        elif news.state == "crashed":
            self._learn_crash(known, pod, news)
        known.report = news
        self._publish(known)

    def _learn_running(self, known: _Pod, pod: Obj, news: PodReport) -> None:
        if "running" not in known.state:
            known.running_since = self._time.elapsed()
            known.started_at = self._api.timestamp()
            known.state = {"running": {"startedAt": known.started_at}}
            known.has_run = True
            for container in pod["spec"]["containers"]:
                self._tell_started(pod, container)
        if not news.ready and news.message and news.message != known.report.message:
            self._events.tell(
                pod, "Warning", "Unhealthy", f"Readiness probe failed: {news.message}"
            )

    def _tell_started(self, pod: Obj, container: Obj) -> None:
        name, image = container["name"], container["image"]
        path = f"spec.containers{{{name}}}"
        for reason, message in (
            ("Pulled", f'Container image "{image}" already present on machine'),
            ("Created", f"Container created: {name}"),
            ("Started", f"Container started: {name}"),
        ):
            self._events.tell(pod, "Normal", reason, message, field_path=path)

    def _learn_pull_error(self, known: _Pod, pod: Obj, news: PodReport) -> None:
        image = pod["spec"]["containers"][0]["image"]
        why = news.message or f'failed to pull and unpack image "{image}": not found'
        message = f'Failed to pull image "{image}": {why}'
        self._events.tell(pod, "Warning", "Failed", message)
        self._events.tell(pod, "Warning", "Failed", "Error: ErrImagePull")
        known.state = {"waiting": {"reason": "ErrImagePull", "message": why}}
        delay = self._next_back_off(known)

        def back_off() -> None:
            text = f'Back-off pulling image "{image}"'
            known.state = {"waiting": {"reason": "ImagePullBackOff", "message": f"{text}: {why}"}}
            self._publish(known)
            self._events.tell(pod, "Normal", "BackOff", text)
            self._events.tell(pod, "Warning", "Failed", "Error: ImagePullBackOff")
            self._later(known, delay - _PULL_ERROR_SHOWN, lambda: self._start(known))

        self._later(known, _PULL_ERROR_SHOWN, back_off)

    def _learn_crash(self, known: _Pod, pod: Obj, news: PodReport) -> None:
        code = news.exit_code if news.exit_code is not None else 1
        terminated = {
            "exitCode": code,
            **_why_terminated(code, news.message),
            "startedAt": known.started_at or known.start_time,
            "finishedAt": self._api.timestamp(),
        }
        policy = pod["spec"]["restartPolicy"]
        if policy == "Never" or (policy == "OnFailure" and code == 0):
            known.state = {"terminated": terminated}
            known.ended = True
            return
        ran_for = self._time.elapsed() - known.running_since
        if ran_for >= _FORGIVEN_AFTER:
            known.back_off = 0.0
        known.last_state = {"terminated": terminated}
        known.has_run = True
        known.state = {"terminated": terminated}
        if known.back_off == 0.0:
            known.back_off = _FIRST_BACK_OFF / 2
            self._later(known, 0, lambda: self._restart(known))
        else:
            self._back_off_restart(known, pod)

    def _back_off_restart(self, known: _Pod, pod: Obj) -> None:
        delay = self._next_back_off(known)
        name = pod["spec"]["containers"][0]["name"]
        where = f"{known.key[1]}_{known.key[0]}({known.uid})"
        message = f"back-off {_go_duration(delay)} restarting failed container={name} pod={where}"
        known.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        text = f"Back-off restarting failed container {name} in pod {where}"
        self._events.tell(pod, "Warning", "BackOff", text)
        self._later(known, delay, lambda: self._restart(known))

    def _restart(self, known: _Pod) -> None:
        known.restarts += 1
        self._publish(known)
        self._start(known)

    def _next_back_off(self, known: _Pod) -> float:
        known.back_off = min(max(_FIRST_BACK_OFF, known.back_off * 2), _LONGEST_BACK_OFF)
        return known.back_off

    def _later(self, known: _Pod, seconds: float, what: Callback) -> None:
        if known.retry is not None:
            known.retry.cancel()
        known.retry = self._time.later(seconds, what)

    # -- death ---------------------------------------------------------------------------

    def _silence(self, known: _Pod) -> None:
        known.stopping = True
        if known.retry is not None:
            known.retry.cancel()

    def _drop(self, known: _Pod) -> None:
        """The pod is gone from the API: whatever of it still runs is killed."""
        del self._pods[known.key]
        if not known.stopping or known.report.state == "running":
            self._silence(known)
            self._runtime.stop(known.uid, 0, _nothing)

    def _terminate(self, pod: Obj, known: _Pod | None) -> None:
        if known is None:
            known = _Pod(key_of(pod), pod["metadata"]["uid"], self._api.timestamp())
            self._pods[known.key] = known
        if not known.stopping:
            self._silence(known)
            for container in pod["spec"]["containers"]:
                message = f"Stopping container {container['name']}"
                self._events.tell(pod, "Normal", "Killing", message)
            self._end(pod, known)

    def _end(self, pod: Obj, known: _Pod) -> None:
        """Run the preStop hooks, one after the other, then stop the pod."""
        grace = float(pod["metadata"].get("deletionGracePeriodSeconds", 0))
        hooks = list(_pre_stop(pod)) if known.report.state == "running" else []

        def go_on() -> None:
            if hooks:
                self._run_hook(known, hooks.pop(0), grace, go_on)
            else:
                self._runtime.stop(known.uid, grace, lambda: self._gone(known))

        go_on()

    def _run_hook(self, known: _Pod, hook: tuple[str, Obj], grace: float, done: Callback) -> None:
        container, handler = hook
        if "sleep" in handler:
            self._time.later(min(float(handler["sleep"].get("seconds", 0)), grace), done)
        else:
            command = handler["exec"].get("command") or []
            self._runtime.run_hook(known.uid, container, command, done)

    def _gone(self, known: _Pod) -> None:
        """Its processes have ended; the pod itself lingers until the node has cleared it away."""
        known.report = PodReport("creating")
        if self._clean_up <= 0:
            self._let_go(known)
        elif known.key in self._pods:
            self._publish(known)
            self._later(known, self._clean_up, lambda: self._let_go(known))

    def _let_go(self, known: _Pod) -> None:
        current = self._store.get("pods", *known.key)
        if current is not None and current["metadata"]["uid"] == known.uid:
            self._api.delete(self._api.catalog["pods"], *known.key, grace_seconds=0)

    # -- status --------------------------------------------------------------------------

    def _publish(self, known: _Pod) -> None:
        pod = self._store.get("pods", *known.key)
        if pod is None or pod["metadata"]["uid"] != known.uid:
            return
        changed = copy_json(pod)
        changed["status"] = self._status(known, pod)
        self._api.save(changed, manager=KUBELET, subresource="status")

    def _status(self, known: _Pod, pod: Obj) -> Obj:
        old = pod["status"]
        ready = known.report.ready and "running" in known.state
        status: Obj = {
            "phase": self._phase(known),
            "conditions": _conditions(pod, self._api.timestamp(), ready=ready, ended=known.ended),
            "hostIP": self._host_ip(pod),
        }
        address = known.report.ip or old.get("podIP")
        if address:
            status |= {"podIP": address, "podIPs": [{"ip": address}]}
        status["startTime"] = known.start_time
        status["containerStatuses"] = [
            _container_status(container, known, ready=ready)
            for container in pod["spec"]["containers"]
        ]
        status["qosClass"] = old["qosClass"]
        return status

    def _phase(self, known: _Pod) -> str:
        if known.ended:
            return "Succeeded" if known.state["terminated"]["exitCode"] == 0 else "Failed"
        return "Running" if known.has_run else "Pending"

    def _host_ip(self, pod: Obj) -> str:
        node = self._store.get("nodes", "", pod["spec"]["nodeName"])
        addresses = (node or {}).get("status", {}).get("addresses") or ()
        return next((a["address"] for a in addresses if a["type"] == "InternalIP"), "")


def _why_terminated(code: int, message: str) -> Obj:
    """The reason of a container's end; a runtime says "OOMKilled" in the message of its report."""
    if message.startswith("OOMKilled"):
        return {"reason": "OOMKilled"}
    why = {"reason": "Completed" if code == 0 else "Error"}
    return {**why, "message": message} if message else why


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _conditions(pod: Obj, now: str, *, ready: bool, ended: bool) -> list[Obj]:
    names = " ".join(container["name"] for container in pod["spec"]["containers"])
    reason, message = "ContainersNotReady", f"containers with unready status: [{names}]"
    if ended:
        reason, message = "PodCompleted", ""
    old = pod["status"]
    conditions = [
        find_condition(old, "PodScheduled") or pod_condition("PodScheduled", "True", now=now),
        pod_condition("Initialized", "True", now=now),
    ]
    for kind in ("ContainersReady", "Ready"):
        if ready:
            conditions.append(pod_condition(kind, "True", now=now))
        else:
            conditions.append(pod_condition(kind, "False", reason, message, now=now))
    for condition in conditions:
        known = find_condition(old, condition["type"])
        if known is not None and known["status"] == condition["status"]:
            condition["lastTransitionTime"] = known["lastTransitionTime"]
    return conditions


def _pre_stop(pod: Obj) -> Iterator[tuple[str, Obj]]:
    """(container, handler) of the preStop hooks that are carried out here."""
    for container in pod["spec"]["containers"]:
        handler = (container.get("lifecycle") or {}).get("preStop") or {}
        if "sleep" in handler or "exec" in handler:
            yield container["name"], handler


def _nothing() -> None:
    """Nobody waits for the end of a pod that is gone from the API already."""


def _container_status(container: Obj, known: _Pod, *, ready: bool) -> Obj:
    return {
        "name": container["name"],
        "state": known.state,
        "lastState": known.last_state,
        "ready": ready,
        "restartCount": known.restarts,
        "image": container["image"],
        "imageID": container["image"] if known.has_run else "",
        "started": "running" in known.state,
    }
