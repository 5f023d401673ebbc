"""What keeps a pod from getting ready, and whether waiting can mend it.

Some of it is final: an image that does not exist, a command that is not in it. Some of it mends
itself: a registry that is too busy, a Secret that an operator is about to write, a container that
restarts until its proxy is up. The first fails a rollout at once; the second is borne for a while.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from modules._kube.api import Object

_PULL = ("ErrImagePull", "ImagePullBackOff")
_IMAGE = (*_PULL, "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_CRASH = "CrashLoopBackOff"
_FINAL = ("InvalidImageName", "ErrImageNeverPull", "RunContainerError")
_UNSCHEDULABLE = "Unschedulable"

_RESTARTS = 2
"""A pod that was restarted this often and still is not ready is in trouble."""

_CRASHING = 3
"""A pod that was restarted this often while it was waited for will not get ready."""

_NO_IMAGE = re.compile(
    r"not found|manifest.unknown|does not exist|no such image|denied|unauthorized|forbidden"
    r"|authentication required|no match for platform|no matching manifest|invalid reference"
    r"|name.unknown|\b40[134]\b",
    re.IGNORECASE,
)
_TOO_BUSY = re.compile(
    r"\b429\b|too ?many ?requests|rate limit|time-?d? ?out|timeout|deadline exceeded|\b5\d\d\b"
    r"|connection (?:refused|reset)|no such host|temporar|unexpected EOF|\bEOF\b|unavailable"
    r"|network is unreachable|no route to host|try again|server misbehaving|TLS handshake",
    re.IGNORECASE,
)
"""What a pull may fail with that goes by; it goes before the words of what is final."""


class Trouble(NamedTuple):
    """Why a pod will not get ready, or not soon."""

    pod: str
    reason: str
    """Kubernetes' own word: ``ImagePullBackOff``, ``Unschedulable`` …"""
    message: str
    container: str = ""
    image: str = ""
    patient: bool = False
    """It may mend by itself (a node may come): only a grace tells."""

    @property
    def text(self) -> str:
        """One line: ``pod app-1: ImagePullBackOff (container app, image app:bad)``."""
        if not self.container:
            what = f"pod {self.pod}" if self.pod else "its pods"
            return f"{what}: {self.reason}: {self.message}".rstrip(": ")
        return f"pod {self.pod}: {self.reason} (container {self.container}, image {self.image})"

    @property
    def of_placing(self) -> bool:
        """Whether no node has room for it, or its controller may not even create it."""
        return not self.container

    @property
    def backs_off(self) -> bool:
        """Whether an image is to be pulled again later; why it was not is told by an event."""
        return self.reason == "ImagePullBackOff"

    @property
    def hint(self) -> str:
        """What to look at."""
        if self.reason in _IMAGE:
            return "does the image exist, and may the cluster pull it? Correct it and apply again"
        if self.reason in _CONFIG:
            return "does it name a ConfigMap, Secret, command or volume that is not there?"
        if self.reason == _UNSCHEDULABLE:
            return "no node has room for it: lower its requests or add nodes"
        if not self.container and self.pod:
            return "it has ended and is not started again: delete it, or select others"
        if not self.container:
            return "look at its events: a quota, a service account or an admission rule says no"
        return "its last log lines are below; `kubectl.rollout-undo` goes back a revision"

    def explained(self, message: str) -> Trouble:
        """The same with the words of an event: they tell what a state alone does not."""
        if not message:
            return self
        return self._replace(message=message, patient=not pull_is_final(message))


def pull_is_final(message: str) -> bool:
    """Whether an image cannot be pulled however often it is tried, by the words of the error."""
    return not _TOO_BUSY.search(message) and bool(_NO_IMAGE.search(message))


def is_ready(pod: Object) -> bool:
    """Whether the pod takes traffic: condition Ready, and not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status_of(pod).get("conditions") or []
    )


def trouble(pod: Object, restarts_before: Mapping[str, int] | None = None) -> Trouble | None:
    """What keeps this pod from getting ready.

    `restarts_before`, by container, are restarts that do not count: of before it was waited for.
    """
    if is_ready(pod) or pod["metadata"].get("deletionTimestamp"):
        return None
    for container in containers(status_of(pod)):
        if cause := _of_container(pod, container, restarts_before or {}):
            return cause
    for condition in status_of(pod).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason = condition.get("reason") or _UNSCHEDULABLE
            name = pod["metadata"]["name"]
            return Trouble(name, reason, condition.get("message") or "", patient=True)
    return None


def _of_container(pod: Object, container: Object, before: Mapping[str, int]) -> Trouble | None:
    state = (container.get("state") or {}).get("waiting") or {}
    reason, name = state.get("reason") or "", container.get("name", "")
    restarts = max(0, (container.get("restartCount") or 0) - before.get(name, 0))
    if reason not in (*_IMAGE, *_CONFIG, _CRASH) and restarts < _RESTARTS:
        return None
    message = state.get("message") or last_exit(container)
    final = reason in _FINAL or restarts >= _CRASHING
    if reason in _PULL:
        final = pull_is_final(message)
    word = reason if reason not in ("", "ContainerCreating") else f"restarted {restarts} times"
    image = container.get("image", "")
    return Trouble(pod["metadata"]["name"], word, message, name, image, patient=not final)


def restarts_of(pod: Object) -> dict[str, int]:
    """How often each container of a pod was restarted in its life."""
    return {one.get("name", ""): one.get("restartCount") or 0 for one in containers(status_of(pod))}


def containers(status: Object) -> list[Object]:
    """States of init containers (sidecars among them) and of containers."""
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def status_of(pod: Object) -> Object:
    """The status of a pod; empty if it has none yet."""
    status: Object = pod.get("status") or {}
    return status


def last_exit(container: Object) -> str:
    """``last exit 1 Error``: how the container's last life ended; empty if it had none."""
    ended = (container.get("lastState") or {}).get("terminated") or (
        container.get("state") or {}
    ).get("terminated")
    return f"last {exit_text(ended)}" if ended else ""


def exit_text(ended: Object) -> str:
    """``exit 1 Error``."""
    words = [f"exit {ended.get('exitCode')}", ended.get("reason") or "", ended.get("message") or ""]
    return " ".join(filter(None, words))
