"""What a command in a pod tells a step: its result, its failure, and whether it may be skipped."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from engine.module_api import Context, Failed, Result
from modules._kube import exec as kube_exec
from modules._kube import logs as kube_logs
from modules._kube.api import Object, subject
from modules._kube.exec import PodPlace
from modules._process.finished import Finished

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"

CommandText = str | list[str]


def words(command: CommandText) -> list[str]:
    """Text is for the shell of the container; words are run as they are."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def text(command: CommandText) -> str:
    """The command as people read it."""
    return command if isinstance(command, str) else shlex.join(command)


def place(
    ctx: Context, pod: str | None, selector: str, container: str, namespace: str | None
) -> PodPlace:
    """Where a step's command runs: a ready pod, and the container of it that people mean."""
    it = subject(ctx, "Pod", pod or "", namespace)
    ready = kube_logs.ready_pod(ctx, it, selector)
    return PodPlace(
        it.cluster, it.namespace, ready["metadata"]["name"], container or default_container(ready)
    )


def default_container(pod: Object) -> str:
    """As kubectl has it: the one that an annotation names, else the first."""
    names = [one["name"] for one in (pod.get("spec") or {}).get("containers") or []]
    annotations = pod["metadata"].get("annotations") or {}
    named = str(annotations.get(_DEFAULT_CONTAINER) or "")
    return named if named in names else next(iter(names), "")


def satisfied(ctx: Context, it: PodPlace, unless: CommandText) -> bool:
    """Whether the command `unless`, which has no effect, succeeds in the pod."""
    return kube_exec.run(ctx, it, words(unless), limit=1024).code == 0


def nothing(pod: str) -> dict[str, Any]:
    """The data of a command that has said nothing."""
    return {
        "pod": pod,
        "code": 0,
        "stdout": "",
        "stderr": "",
        "truncated": False,
        "skipped": False,
    }


def skipped(pod: str) -> Result:
    """The result when there was nothing to do."""
    return Result(data={**nothing(pod), "skipped": True}, message=f"nothing to do in {pod}")


def planned(pod: str, command: CommandText, expect: int | list[int]) -> Result:
    """The result under --check."""
    code = expect if isinstance(expect, int) else next(iter(expect), 0)
    whole = text(command)
    return Result(
        changed=True,
        data={**nothing(pod), "code": code},
        diff="".join(f"+ {line}\n" for line in whole.splitlines()),
        message=f"would run in {pod}: {_first(whole)}",
    )


def judged(
    ctx: Context,
    pod: str,
    command: CommandText,
    finished: Finished,
    expect: int | list[int],
    changed: bool,
) -> Result:
    """The result of a command that ran; Failed when its exit status is not an expected one."""
    data = {**nothing(pod), **msgspec.structs.asdict(finished)}
    ctx.log(finished.stdout)
    ctx.log(finished.stderr)
    if finished.code not in ([expect] if isinstance(expect, int) else expect):
        raise Failed(
            f"exit status {finished.code} in pod {pod}: {_first(text(command))}",
            hint="`expect` names the exit statuses that mean success",
            evidence=(finished.stderr or finished.stdout).splitlines()[-10:],
            data=data,
        )
    return Result(changed=changed, data=data, message=f"exit status {finished.code} in {pod}")


def _first(whole: str) -> str:
    return (whole.splitlines() or [""])[0]
