"""What ``--tags``, ``--skip-tags`` and ``--limit`` leave of a run, looked at before it begins.

A word that fits nothing is a slip of the pen: it is an error with the nearest word, not a run that
succeeds having done nothing. A step that is left in must not read one that is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.errors import UsageError
from engine.inventory import Inventory
from engine.model import Step
from engine.plan import Node, Plan
from engine.templating import is_template
from engine.templating.scope import lexical_paths
from engine.text import did_you_mean

_TAG_WORDS = ("all", "tagged", "untagged", "always", "never")
"""Words that fit whatever tags a runbook has."""


def check_selection(
    plan: Plan,
    inventory: Inventory,
    *,
    tags: Iterable[str] = (),
    skip_tags: Iterable[str] = (),
    limit: str | None = None,
) -> None:
    """Raises UsageError for a tag or limit that fits nothing, and for a step that reads one that is
    left out."""
    tags, skip_tags = tuple(tags), tuple(skip_tags)
    known = {tag for node in plan.steps() if node.step is not None for tag in node.step.tags}
    for option, words in (("--tags", tags), ("--skip-tags", skip_tags)):
        for word in words:
            if word not in known and word not in _TAG_WORDS:
                hint = did_you_mean(word, sorted(known), what="there are")
                raise UsageError(
                    f"{option} {word}: no step has the tag '{word}'",
                    hint=hint or "no step of this runbook has a tag",
                )
    if limit is not None:
        _check_limit(plan, inventory, limit)
    if tags or skip_tags:
        _check_what_is_left(plan)


def _check_limit(plan: Plan, inventory: Inventory, limit: str) -> None:
    try:
        allowed = set(inventory.select(limit))
    except UsageError as error:
        raise UsageError(f"--limit {limit}: {error.message}", hint=error.hint) from None
    if not allowed:
        raise UsageError(f"--limit {limit}: it leaves no host of the inventory")
    patterns = [
        node.step.fan.hosts
        for node in plan.steps()
        if node.step is not None and node.step.fan is not None and node.step.fan.hosts is not None
    ]
    if not patterns:
        raise UsageError(f"--limit {limit}: no step of this runbook has `hosts`")
    if any(_templated(pattern) or allowed & set(inventory.select(pattern)) for pattern in patterns):
        return
    raise UsageError(
        f"--limit {limit}: no step works on any of these hosts",
        hint=f"the steps work on {', '.join(sorted({str(each) for each in patterns}))}",
    )


def _templated(pattern: Any) -> bool:
    texts = pattern if isinstance(pattern, list) else [pattern]
    return any(isinstance(each, str) and is_template(each) for each in texts)


# -- references ---------------------------------------------------------------------------------
def _check_what_is_left(plan: Plan) -> None:
    bodies = [n for n in plan.steps() if n.step is not None and not _is_handler(plan, n)]
    left = [node for node in bodies if not _is_left_out(plan, node)]
    if bodies and not left:
        raise UsageError(
            "the tags leave no step to be done", hint="every step has a tag that is left out"
        )
    out = {node.path for node in bodies if _is_left_out(plan, node)}
    registers = {
        node.step.register: node
        for node in bodies
        if node.step is not None and node.step.register and node.path in out
    }
    kept = {n.step.register for n in left if n.step is not None}
    for node in left if out else ():
        assert node.step is not None
        for text, expression in _texts(node.step):
            _check_text(plan, node, text, expression, out, registers, kept)


def _check_text(
    plan: Plan,
    node: Node,
    text: str,
    expression: bool,
    out: set[str],
    registers: dict[str, Node],
    kept: set[str | None],
) -> None:
    from engine.templating.references import references

    reads = references(text, expression)
    group = plan.nodes[node.parent].path if node.index else ""
    for key in reads.results:
        path = next((p for p in lexical_paths(group, key) if p in plan.by_path), None)
        if path in out:
            raise _reads(node, f"steps.{key}.result", str(path))
    for name in reads.names:
        if name in registers and name not in kept:
            raise _reads(node, name, registers[name].path)


def _reads(node: Node, what: str, path: str) -> UsageError:
    return UsageError(
        f"step '{node.path}' reads {what}, but the tags leave out '{path}'",
        hint=f"give '{path}' the tag, too, or `{what} | default(…)`",
    )


def _is_handler(plan: Plan, node: Node) -> bool:
    return any(each.role != "body" for each in (node, *plan.ancestors(node)))


def _is_left_out(plan: Plan, node: Node) -> bool:
    return any(each.deselected for each in (node, *plan.ancestors(node)))


def _texts(step: Step) -> Iterator[tuple[str, bool]]:
    """Templates and expressions of a step, and which of the two they are."""
    for condition in (*step.when, step.until, step.failed_when, step.changed_when):
        if condition:
            yield condition, True
    values: list[Any] = [step.vars, step.timeout, step.budget]
    values += [step.call.arguments] if step.call else []
    values += [step.included.arguments] if step.included else []
    values += [step.fan.hosts, step.fan.loop, step.fan.serial] if step.fan else []
    values += [step.gate.message, list(step.gate.checklist)] if step.gate else []
    yield from ((text, False) for text in _templates_in(values))


def _templates_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if is_template(value):
            yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _templates_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _templates_in(each)
