"""Groups that fan out: their instances, batch by batch, and when one failure is one too many."""

from __future__ import annotations

from engine.events import Failure, StepOpened
from engine.fold.rules import may_start, too_many_failed
from engine.plan import Node
from engine.state import FINAL, WHOLE_STEP, FanState, GroupState, RunState, StepState


def fan_out(state: RunState, node: Node, event: StepOpened) -> None:
    """It is known what the group fans out into; the plan has a node for each instance."""
    members = state.plan.instances(node, event.tasks)
    specs = dict(zip(members, event.tasks, strict=True))
    state.fans[node.index] = FanState(specs, event.batches)
    known = len(state.unmet)
    state.unmet.extend(len(each.needs) for each in state.plan.nodes[known:])


def instance_closed(state: RunState, node: Node, group: GroupState, fan: FanState) -> None:
    """An instance is over: the rest of its batch goes on, the next one begins, or it was one
    failure too many."""
    advanced = judge_batches(state, node, group, fan)
    if group.passed_up is not None:
        state.attention[node.index] = None
    elif advanced and group.in_body and may_start(state, node):
        state.ready.extend((member, WHOLE_STEP) for member in fan.current)


def judge_batches(state: RunState, node: Node, group: GroupState, fan: FanState) -> bool:
    """Go on to the batch that is not over, as far as failures allow; whether that is another."""
    advanced = False
    while True:
        batch = [state.steps.get(member) for member in fan.current]
        steps = [step for step in batch if step is not None and step.status in FINAL]
        if len(steps) < len(batch):
            return advanced
        if _has_failed(node, fan, steps):
            _pass_up(state, node, group, fan)
            return advanced
        if not fan.has_more:
            return advanced
        fan.next_batch()
        advanced = True


def _has_failed(node: Node, fan: FanState, steps: list[StepState]) -> bool:
    if any(step.status == "cancelled" for step in steps):
        return True
    failed = sum(step.status in ("failed", "rescued") and not step.ignored for step in steps)
    hosts = any(spec.host is not None for spec in fan.specs.values())
    return too_many_failed(node, failed, len(steps), hosts=hosts)


def _pass_up(state: RunState, node: Node, group: GroupState, fan: FanState) -> None:
    """The failure of the batch becomes that of the group; it is handled if rescues met all."""
    wrong = [
        (state.plan.nodes[member], state.steps[member])
        for member in fan.current
        if state.steps[member].status in ("failed", "rescued", "cancelled")
        and not state.steps[member].ignored
    ]
    open_ones = [each for each in wrong if each[1].status != "rescued"]
    first = failure_of(*(open_ones or wrong)[0])
    if len(wrong) > 1:
        first = Failure(
            kind=first.kind,
            message=f"{len(wrong)} of {len(fan.specs)} failed, first {first.summary}",
            step=node.path,
            hint=first.hint,
            evidence=first.evidence,
            retryable=first.retryable,
        )
    group.passed_up = (first, not open_ones)
    group.answered = any(was_answered(step) for _, step in wrong)


def failure_of(node: Node, step: StepState) -> Failure:
    """Why a step failed, in every case."""
    latch = step.group.latch if step.group is not None else None
    return step.failure or latch or Failure("failed", f"ended as {step.status}", step=node.path)


def was_answered(step: StepState) -> bool:
    """Whether a rescue was tried on the way of the step's failure."""
    group = step.group
    return group is not None and (group.answered or group.rescue_status is not None)
