"""The time of people: while a gate waits, the groups around it are charged for nothing."""

from __future__ import annotations

from engine.events import GateAnswered
from engine.plan import Node
from engine.state import RunState


def ask(state: RunState, node: Node, time: float) -> None:
    """A person is waited for at a step."""
    state.gates[node.index] = None
    for up in state.plan.ancestors(node):
        step = state.steps[up.index]
        if step.asked == 0:
            step.asked_since = time
        step.asked += 1


def drop_gate(state: RunState, index: int, time: float) -> None:
    """Nobody is waited for any more; budgets around go on where they were."""
    state.timers.clear(("gate", index, 0))
    if index not in state.gates:
        return
    del state.gates[index]
    now = time if state.left_at is None else min(time, state.left_at)
    for up in state.plan.ancestors(state.plan.nodes[index]):
        step = state.steps.get(up.index)
        if step is None or step.asked == 0:
            continue
        step.asked -= 1
        if step.asked == 0:
            seconds = max(0.0, now - step.asked_since)
            step.waited += seconds
            at = state.timers.at(("budget", up.index, 0))
            if at is not None:
                state.timers.set(("budget", up.index, 0), at + seconds)


def answer_refusal(state: RunState, event: GateAnswered, time: float) -> str:
    """Why an answer that is given now does not count; empty when it does.

    The fold takes late answers: whoever writes them into a journal has to ask here first.
    """
    index = state.plan.by_path.get(event.step)
    if index is None or index not in state.gates:
        return f"step '{event.step}' does not wait for an answer any more"
    until = state.timers.at(("gate", index, 0))
    if until is not None and until <= time:
        return f"the time to answer at step '{event.step}' is over"
    return ""
