"""The smaller parts of a step: gates, guards, retries, fanning out."""

from __future__ import annotations

import re
from typing import Any

from engine.errors import UsageError
from engine.loader.book import RESULT, Book
from engine.loader.calls import find_action, read_call
from engine.loader.fields import Fields
from engine.loader.source import Map, Seq, Spot
from engine.loader.tree import StepNode
from engine.model import Fan, Gate, Guard, Retry
from engine.registry import describe
from engine.registry.types import as_written, plain
from engine.templating import is_template
from engine.text import quoted_list

_GUARD_KEYS = ("name", "every", "for", "min_samples", "trip")
_RETRY_KEYS = ("attempts", "delay", "backoff", "max_delay", "jitter")
_GATE_KEYS = ("message", "checklist", "timeout")
MOST_ATTEMPTS = 1_000_000
_PERCENTAGE = re.compile(r"\d{1,3}(\.\d+)?%")


def read_gate(book: Book, fields: Fields, step: StepNode) -> Gate | None:
    """``confirm``: a text, or its message, checklist and timeout."""
    map = fields.map
    value = map["confirm"]
    book.note(value, map.value_at("confirm"), step)
    if not isinstance(value, Map):
        message = fields.text("confirm")
        return None if message is None else Gate(message)
    inner = Fields(value, book.source, book.problems)
    inner.unknown_keys(_GATE_KEYS, "`confirm`")
    if "message" not in value:
        inner.problem(
            map.key_at("confirm"), "`confirm` lacks a 'message' that says what to confirm"
        )
    checklist = value.get("checklist", ())
    if isinstance(checklist, Seq):
        checklist = tuple(text for text, _ in inner.words("checklist"))
    elif not (isinstance(checklist, tuple) or _templated(checklist)):
        inner.wrong("checklist", "a list of texts")
        checklist = ()
    return Gate(inner.text("message", "") or "", checklist, inner.duration("timeout"))


def read_retry(book: Book, fields: Fields) -> Retry | None:
    """``retry``: how many attempts, or a mapping."""
    value = fields.map["retry"]
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_ATTEMPTS:
            fields.wrong("retry", f"a number of attempts from 1 to {MOST_ATTEMPTS}")
            return None
        return Retry(value)
    if not isinstance(value, Map):
        hint = " (it cannot be a template)" if _templated(value) else ""
        fields.wrong("retry", f"a number of attempts or a mapping{hint}")
        return None
    inner = Fields(value, book.source, book.problems)
    inner.unknown_keys(_RETRY_KEYS, "`retry`")
    attempts = inner.number("attempts", 3, least=1, most=MOST_ATTEMPTS)
    if attempts != int(attempts):
        inner.wrong("attempts", "a whole number")
    return Retry(
        attempts=int(attempts),
        delay=_literal_duration(inner, "delay", 0.0) or 0.0,
        backoff=float(inner.number("backoff", 1.0, least=1, most=100)),
        max_delay=_literal_duration(inner, "max_delay", None),
        jitter=float(inner.number("jitter", 0.0, least=0, most=1)),
    )


def _literal_duration(fields: Fields, key: str, default: float | None) -> float | None:
    value = fields.duration(key, default)
    if isinstance(value, str):
        fields.wrong(key, "a duration such as 2s that is no template")
        return default
    return float(value) if value is not None else None


def read_fan(book: Book, fields: Fields, step: StepNode) -> Fan | None:
    """``hosts``, ``loop``, ``serial``, ``max_fail_percentage``."""
    map = fields.map
    hosts, loop, serial = map.get("hosts"), map.get("loop"), map.get("serial")
    if hosts is None and loop is None:
        for key in ("serial", "max_fail_percentage"):
            if key in map:
                said = f"`{key}` means nothing without `hosts` or `loop`"
                fields.problem(map.key_at(key), said)
        for key in ("hosts", "loop"):
            if key in map:
                fields.wrong(key, "something to go over")
        return None
    outside = _without_its_loop(step)
    for key in ("hosts", "loop", "serial"):
        if key in map:
            book.note(map[key], map.value_at(key), outside)
    _check_hosts(book, fields)
    if not (loop is None or isinstance(loop, Seq) or _templated(loop)):
        fields.wrong("loop", "a list, or a template of one")
    _check_serial(fields)
    step.loop, step.hosts = loop is not None, hosts is not None
    return Fan(
        hosts=plain(hosts),
        loop=as_written(loop),
        serial=plain(serial),
        max_fail_percentage=float(fields.number("max_fail_percentage", 0.0, least=0, most=100)),
    )


def _without_its_loop(step: StepNode) -> StepNode:
    """What `loop` and `hosts` themselves may read: the step, but neither its item nor its host."""
    made = StepNode(step.block, step.index, step.order)
    made.vars = step.vars
    return made


def _check_hosts(book: Book, fields: Fields) -> None:
    if fields.map.get("hosts") is None:
        return
    inventory = book.session.inventory
    for pattern, at in fields.words("hosts"):
        if is_template(pattern) or inventory is None:
            continue
        try:
            found = inventory.select(pattern)
        except UsageError as error:
            fields.problem(at, error.message, error.hint)
        else:
            if not found:
                fields.problem(at, f"the pattern '{pattern}' means no host of the inventory")


def _check_serial(fields: Fields) -> None:
    value = fields.map.get("serial")
    sizes = (value or [0]) if isinstance(value, Seq) else [value]
    for size in sizes:
        fine = size is None or _templated(size)
        fine = fine or (isinstance(size, int) and not isinstance(size, bool) and size > 0)
        if not fine and not (isinstance(size, str) and _PERCENTAGE.fullmatch(size)):
            wanted = "a number of tasks at a time, a percentage such as '20%', or a list of them"
            fields.wrong("serial", wanted)
            return


def read_guards(book: Book, fields: Fields, step: StepNode | None) -> tuple[Guard, ...]:
    """``guards``: observations that run beside a group."""
    value = fields.map["guards"]
    if not isinstance(value, Seq):
        fields.wrong("guards", "a list of observations")
        return ()
    found: list[Guard] = []
    for index, each in enumerate(value):
        at = value.item_at(index)
        if not isinstance(each, Map):
            fields.problem(at, f"a guard is a mapping, not {describe(each)}")
            continue
        guard = _read_guard(book, Fields(each, book.source, book.problems), at, step)
        if guard is not None:
            found.append(guard)
    return tuple(found)


def _read_guard(book: Book, fields: Fields, at: Spot, step: StepNode | None) -> Guard | None:
    map = fields.map
    actions = [
        (key, info)
        for key in map
        if key not in _GUARD_KEYS and (info := find_action(book, key)) is not None
    ]
    named = {key for key, _ in actions} | book.session.broken
    unknown = [key for key in map if key not in _GUARD_KEYS and key not in named]
    for key in unknown:
        hint = book.session.registry.suggest(key) if "." in key else ""
        if hint:
            fields.problem(map.key_at(key), f"unknown action '{key}'", hint)
        else:
            fields.unknown_key(key, _GUARD_KEYS, "a guard")
    trip = fields.text("trip") if "trip" in map else None
    if trip is None:
        if "trip" not in map:
            fields.problem(at, "a guard lacks `trip`, the expression that is true when it fails")
    else:
        book.note_expression(trip, map.value_at("trip"), step, RESULT)
    for key in ("every", "for", "min_samples", "name"):
        if key in map:
            book.note(map[key], map.value_at(key), step)
    if len(actions) != 1:
        what = quoted_list(key for key, _ in actions) or "none"
        if not unknown and not book.session.broken.intersection(map):
            fields.problem(at, f"a guard has one action that observes; this has {what}")
        return None
    key, info = actions[0]
    call = read_call(book, map, key, info, step)
    if call.effect != "read":
        fields.problem(map.key_at(key), f"a guard only observes, but {info.name} changes things")
    every = fields.duration("every", 10.0)
    if every == 0:
        fields.wrong("every", "an interval above 0")
    return Guard(
        name=fields.text("name", info.name) or info.name,
        call=call,
        trip=trip or "false",
        every=every or 10.0,
        hold=fields.duration("for", 0.0),
        min_samples=_min_samples(fields),
        place=book.source.place(at),
    )


def _min_samples(fields: Fields) -> Any:
    value = fields.map.get("min_samples", 1)
    if _templated(value):
        return value
    return int(fields.number("min_samples", 1, least=0))


def _templated(value: Any) -> bool:
    return isinstance(value, str) and is_template(value)
