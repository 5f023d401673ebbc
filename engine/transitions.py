"""What may follow what: for the run, steps, groups, tasks, gates and guards, as a table.

A rule says that an event takes a subject from one of some states to one of others. The rules of an
event that is *about* a subject are exhaustive: in any other state the event is refused, before the
fold changes anything (finer conditions, such as whose turn it is, are asked by the fold itself).
Other rules tell what happens to a subject because of an event about something around it: the
process leaves, and what ran is in doubt.

``python -m engine.transitions`` prints the table as diagrams, as they stand in
``docs/architecture.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from engine.errors import IllegalEvent
from engine.events import AnyEvent
from engine.state import GuardState, RunState, StepState

Lifecycle = Literal["run", "step", "group", "task", "gate", "guard"]
Key: TypeAlias = str
"""The name of an event; of one that opens a block with the block's role: ``StepOpened rescue``."""


class Rule(NamedTuple):
    """An event takes a subject from one of the states `before` to one of the states `after`."""

    subject: Lifecycle
    event: Key
    before: tuple[str, ...]
    after: tuple[str, ...]
    about: bool = True
    """Whether the event is about the subject, and follows in no other state."""


_AT_WORK = ("running", "stopping")
_BEGUN = ("running", "stopping", "stopped", "finished")
_ENDS = ("succeeded", "failed", "rescued", "cancelled")
_PHASES = ("body", "latched", "rescue", "undo", "always")
_SEEN = ("unobserved", "pass", "fail", "inconclusive", "tripped")


def _rules(subject: Lifecycle, *rows: tuple[str, str, str], about: bool = True) -> list[Rule]:
    return [
        Rule(subject, event, tuple(before.split()), tuple(after.split()), about)
        for event, before, after in rows
    ]


RULES: tuple[Rule, ...] = (
    *_rules(
        "run",
        ("RunStarted", "new", "running"),
        ("LocksTaken", "running", "running"),
        ("StopRequested", "running stopping", "stopping"),
        ("RunStopped", "running stopping", "stopped"),
        ("RunResumed", "running stopping stopped", "running"),
        ("Overridden", "running stopping stopped finished", "stopped"),
        ("RunFinished", "running", "finished"),
    ),
    *(
        Rule("run", name, (life,), (life,))
        for name, lives in (
            ("Warned", _BEGUN),
            ("ReasonGiven", _BEGUN),
            ("StepOpened", _AT_WORK),
            ("StepSkipped", _AT_WORK),
            ("StepFinished", _AT_WORK),
            ("FailureLatched", _AT_WORK),
            ("GateOpened", _AT_WORK),
            ("GateAnswered", (*_AT_WORK, "stopped")),
            ("TaskStarted", _AT_WORK),
            ("TaskFinished", _AT_WORK),
            ("CancelRequested", _AT_WORK),
            ("TaskProbed", _AT_WORK),
            ("GuardObserved", _AT_WORK),
        )
        for life in lives
    ),
    *_rules(
        "step",
        ("GateOpened", "pending", "gate"),
        ("GateAnswered", "gate", "pending failed"),
        ("StepOpened", "pending", "opened"),
        ("StepSkipped", "pending", "skipped"),
        ("TaskStarted", "pending opened", "opened"),
        ("TaskFinished", "opened", "opened succeeded failed cancelled"),
        ("TaskProbed", "opened", "opened succeeded failed cancelled"),
        ("CancelRequested", "opened", "opened"),
        ("FailureLatched", "opened", "opened"),
        ("GuardObserved", "opened", "opened"),
        ("StepFinished", "pending gate", "failed cancelled"),
        ("StepFinished", "opened", " ".join(_ENDS)),
        ("Overridden", "opened failed rescued cancelled", "pending opened succeeded skipped"),
    ),
    *_rules(
        "step",
        ("FailureLatched", "gate", "pending"),
        ("StepFinished", "pending gate", "not_run skipped"),
        ("StepSkipped", "pending", "skipped"),
        ("RunFinished", "opened", " ".join(_ENDS)),
        ("RunFinished", "pending", "not_run"),
        ("RunResumed", "opened succeeded skipped failed rescued cancelled not_run", "pending"),
        ("Overridden", " ".join(("gate", "not_run", "skipped", *_ENDS)), "pending opened skipped"),
        about=False,
    ),
    *_rules(
        "group",
        ("StepOpened", "closed", "body"),
        ("FailureLatched", "body", "latched"),
        ("StepOpened rescue", "latched", "rescue"),
        ("StepOpened undo", "latched undo", "undo"),
        ("StepOpened always", "body latched rescue undo", "always"),
        ("GuardObserved", " ".join(_PHASES), " ".join(_PHASES)),
    ),
    *_rules(
        "group",
        ("StepFinished", " ".join(_PHASES), "over"),
        ("RunFinished", " ".join(_PHASES), "over"),
        ("RunResumed", "always", "body latched rescue undo"),
        ("RunResumed", " ".join((*_PHASES, "over")), "closed"),
        ("Overridden", " ".join((*_PHASES, "over")), " ".join(("closed", "over", *_PHASES))),
        about=False,
    ),
    *_rules(
        "task",
        ("TaskStarted", "pending retrying", "running"),
        ("CancelRequested", "running", "running"),
        ("TaskFinished", "running", "succeeded retrying doubt failed cancelled"),
        ("TaskProbed", "doubt", "succeeded pending doubt failed"),
    ),
    *_rules(
        "task",
        ("RunStopped", "running", "doubt"),
        ("RunResumed", "running retrying doubt succeeded failed cancelled", "pending doubt"),
        ("TaskFinished", "pending retrying doubt", "cancelled"),
        ("TaskProbed", "pending retrying doubt", "cancelled"),
        ("StepFinished", "pending retrying doubt", "cancelled"),
        ("FailureLatched", "pending retrying", "cancelled"),
        (
            "Overridden",
            "running doubt retrying pending succeeded failed cancelled",
            "pending doubt succeeded",
        ),
        about=False,
    ),
    *_rules(
        "gate",
        ("GateOpened", "unasked", "asked"),
        ("GateAnswered", "asked", "approved closed"),
    ),
    *_rules(
        "gate",
        ("StepFinished", "asked", "closed"),
        ("FailureLatched", "asked", "closed"),
        ("Overridden", "asked approved closed", "unasked"),
        ("RunResumed", "asked approved closed", "unasked"),
        about=False,
    ),
    *_rules(
        "guard",
        ("GuardObserved", " ".join(_SEEN), "pass fail inconclusive tripped"),
    ),
    *_rules("guard", ("RunResumed", " ".join(_SEEN), "unobserved"), about=False),
)
"""The whole protocol."""

_ABOUT: dict[tuple[Key, Lifecycle], frozenset[str]] = {}
for _rule in RULES:
    if _rule.about:
        _known = _ABOUT.get((_rule.event, _rule.subject), frozenset())
        _ABOUT[_rule.event, _rule.subject] = _known | frozenset(_rule.before)


def group_state(step: StepState | None) -> str:
    """Where a group stands: its phase; in its body with a failure it is *latched*."""
    if step is None or step.group is None:
        return "closed"
    if step.status != "opened":
        return "over"
    latched = step.group.phase == "body" and step.group.latch is not None
    return "latched" if latched else step.group.phase


def gate_state(step: StepState | None) -> str:
    """Where the question before a step stands."""
    if step is None or step.gate is None:
        return "unasked"
    if step.status == "gate":
        return "asked"
    return "approved" if step.gate_passed is not None else "closed"


def guard_state(guard: GuardState) -> str:
    """What a guard saw last; whether it has tripped."""
    return "tripped" if guard.tripped else guard.last or "unobserved"


def check(state: RunState, event: AnyEvent) -> None:
    """Raise IllegalEvent where the table does not let the event follow."""
    name = type(event).__name__
    _check(event, name, "run", state.life)
    path = getattr(event, "step", None)
    index = state.plan.by_path.get(path) if path is not None else None
    if index is None or name in ("Warned", "ReasonGiven"):
        return  # it is about the run, or the fold says that there is no such step
    step = state.steps.get(index)
    _check(event, name, "step", "pending" if step is None else step.status)
    if (name, "task") in _ABOUT:
        number: int = getattr(event, "task", 0)
        tasks = [] if step is None else step.tasks
        if 0 <= number < len(tasks):
            _check(event, name, "task", tasks[number].life)
    elif (name, "gate") in _ABOUT:
        _check(event, name, "gate", gate_state(step))
    elif (name, "group") in _ABOUT:
        _check_group(state, event, name, index, step)


def _check_group(
    state: RunState, event: AnyEvent, name: str, index: int, step: StepState | None
) -> None:
    node = state.plan.nodes[index]
    if name != "StepOpened" or node.leads:
        _check(event, name, "group", group_state(step))
    if name == "StepOpened" and node.role != "body":
        owner = node.parent if node.role != "undo" else 0
        _check(event, f"{name} {node.role}", "group", group_state(state.steps.get(owner)))


def _check(event: AnyEvent, key: Key, subject: Lifecycle, current: str) -> None:
    allowed = _ABOUT.get((key, subject))
    if allowed is not None and current not in allowed:
        states = " or ".join(sorted(allowed))
        why = f"the {subject} is {current}, and it follows when that is {states}"
        raise IllegalEvent(f"{key} cannot follow: {why} ({event!r})")


def missing(table: object) -> list[str]:
    """Events of which a table (by class) has nothing to say; rules name them too."""
    known = {rule.event.split()[0] for rule in RULES if rule.about}
    names: Any = table
    return [
        each.__name__
        for each in get_args(AnyEvent)
        if each not in names or each.__name__ not in known
    ]


# -- diagrams -------------------------------------------------------------------------------------
def diagrams() -> str:
    """All of it, subject by subject: Mermaid state diagrams of the events about it, and in words
    what else befalls it. What changes no state is left out."""
    return "\n\n".join(_diagram(subject) for subject in get_args(Lifecycle))


def _diagram(subject: Lifecycle) -> str:
    arrows: dict[tuple[str, str], list[str]] = {}
    for before, after, event in _arrows(subject):
        arrows.setdefault((before, after), []).append(event)
    lines = [f"    {a} --> {b}: {', '.join(names)}" for (a, b), names in arrows.items()]
    besides = [
        f"- `{rule.event}`: {', '.join(rule.before)} → {', '.join(rule.after)}"
        for rule in RULES
        if rule.subject == subject and not rule.about
    ]
    words = ("", "Besides, by what happens around it:", "", *besides) if besides else ()
    title = f"**{subject.capitalize()}**"
    return "\n".join((title, "", "```mermaid", "stateDiagram-v2", *lines, "```", *words))


def _arrows(subject: Lifecycle) -> Iterator[tuple[str, str, Key]]:
    for rule in RULES:
        if rule.subject == subject and rule.about:
            for before in rule.before:
                yield from ((before, each, rule.event) for each in rule.after if each != before)


if __name__ == "__main__":
    print(diagrams())
