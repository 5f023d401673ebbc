"""Whatever is in a file, the loader gives a runbook or says what is wrong with it; it never
crashes, hangs, or fails to say anything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRunbook, Problem
from engine.inventory import Inventory
from engine.loader import load, load_inventory
from engine.loader.fields import COMMON, STRUCTURE
from engine.loader.inputs import TYPES
from engine.loader.parts import _GUARD_KEYS
from engine.loader.runbook import KEYS
from engine.model import Block, Runbook, Step
from engine.registry import Registry

T = TypeVar("T")
TOYS = Path(__file__).parent / "toys"
REGISTRY = Registry([TOYS])
VALID = """\
name: Valid
inputs:
  version: {type: string, default: "5.1", pattern: '\\d+\\.\\d+'}
vars: &vars {green: "{{ inputs.version }}", list: [1, 2.5, true, ~]}
locks: [production]
budget: 4h
guards: [{name: g, every: 10s, toy.look: x, trip: result.value > 1, for: 60s}]
steps:
  - id: backup
    name: Back up
    toy.look: {name: "{{ green }}", count: 3, for: 5m, labels: {a: b}}
    retry: {attempts: 3, delay: 2s, backoff: 2}
    when: [inputs.version == '5.1', true]
    register: found
    undo: {toy.poke: back}
  - id: canary
    parallel: true
    vars: *vars
    steps:
      - {id: a, toy.look: "{{ found.name }}", loop: [1, 2], serial: 50%}
      - {id: b, toy.poke: "{{ steps.a.result }}", needs: [a], confirm: Sure?}
    rescue: [{toy.look: "{{ failure.summary }}"}]
    always: [{toy.look: "{{ steps['canary/b'].result }}"}]
  - runbook: inner.yml
    with: {x: "{{ steps.backup.result }}"}
"""
INNER = "inputs: {x: }\nsteps: [{toy.look: '{{ inputs.x }}'}]\n"
INVENTORY = "name: lab\nhosts: {web: {hosts: {w1: {}, w2: {}}, vars: {a: 1}}}\n"
ROUNDS = settings(
    max_examples=int(os.environ.get("CE_RUN_FUZZ", "80")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[Path]:
    """A folder with a runbook to include; the working directory of this file's tests."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        Path("inner.yml").write_text(INNER, encoding="utf-8")
        yield Path(made)
        os.chdir(before)


def check(data: bytes) -> Runbook | None:
    """Load the data as a runbook; whatever comes of it has to be one of the two."""
    Path("book.yml").write_bytes(data)
    loaded, problems = attempt(lambda: load("book.yml", registry=REGISTRY))
    if loaded is None:
        assert problems
        for problem in problems:
            assert problem.message
            assert problem.line >= 0
            assert problem.column >= 0
            assert "\n" not in problem.message
        return None
    book, inventory = loaded
    assert isinstance(book, Runbook)
    assert isinstance(inventory, Inventory)
    check_block(book.block)
    return book


def attempt(read: Callable[[], T]) -> tuple[T | None, list[Problem]]:
    """What was read, or the problems; any other error is a defect and fails the test."""
    try:
        return read(), []
    except InvalidRunbook as error:
        return None, error.problems


def check_block(block: Block) -> None:
    """What everything after the loader relies on."""
    ids = [step.id for step in block.steps]
    assert len(set(ids)) == len(ids)
    for step in block.steps:
        assert (step.call is None) != (step.block is None)
        assert set(step.needs) <= set(ids)
        for inner in (step.block, step.undo, step.rescue, step.always):
            if inner is not None:
                check_block(inner)


def test_the_valid_runbook_is_valid() -> None:
    assert check(VALID.encode()) is not None


@ROUNDS
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    check(data)


@ROUNDS
@given(st.text(max_size=400))
def test_any_text(text: str) -> None:
    check(text.encode("utf-8", "surrogatepass"))


@ROUNDS
@given(st.lists(st.sampled_from(list("{}[]:,-?&*!|>'\"%@`#\n \tab<~")), max_size=80).map("".join))
def test_any_yaml_punctuation(text: str) -> None:
    check(text.encode())
    check(b"steps: " + text.encode())


LINES = VALID.splitlines()


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """The valid runbook with some characters, words or lines changed."""
    text = VALID
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        words = st.sampled_from(["{{ x", "}}", "&a ", "*vars", "~", "[", "{", "- ", ": ", "\n  "])
        text = text[:start] + draw(st.one_of(words, st.text(max_size=5))) + text[end:]
    return text


@ROUNDS
@given(mutations())
def test_mutations_of_a_valid_runbook(text: str) -> None:
    check(text.encode("utf-8", "surrogatepass"))


@ROUNDS
@given(st.permutations(range(len(LINES))), st.integers(0, len(LINES)))
def test_lines_of_a_valid_runbook_in_another_order(order: list[int], count: int) -> None:
    check("\n".join(LINES[index] for index in order[:count]).encode())


WORDS = st.sampled_from(
    [
        *KEYS,
        *COMMON,
        *STRUCTURE,
        *_GUARD_KEYS,
        *TYPES,
        "toy.look",
        "toy.poke",
        "toy",
        "nothing",
        "inner.yml",
        "book.yml",
        "a",
        "b",
        "5m",
        "{{ item }}",
        "{{ steps.a }}",
        "{{ x }}",
        "{% x",
        "yes",
        "message",
        "attempts",
        "delay",
        "type",
        "default",
        "20%",
        "result.a",
        "a ==",
        "<<",
    ]
)
SCALARS = st.one_of(
    WORDS,
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=8),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=25,
)
STEPS = st.lists(st.dictionaries(WORDS, VALUES, max_size=6) | VALUES, max_size=4)


@ROUNDS
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), STEPS)
def test_structures_of_known_words(top: dict[str, Any], steps: list[Any]) -> None:
    check(yaml.safe_dump({**top, "steps": steps}, allow_unicode=True).encode("utf-8", "replace"))


@ROUNDS
@given(VALUES)
def test_any_structure_as_an_inventory(value: Any) -> None:
    keys = ("hosts", "vars", "secrets", "endpoints", "metrics", "kubectl")
    for data in (value, dict.fromkeys(keys, value)):
        Path("inv.yml").write_text(yaml.safe_dump(data), encoding="utf-8", errors="replace")
        inventory, problems = attempt(lambda: load_inventory("inv.yml", registry=REGISTRY))
        assert (inventory is None) == bool(problems)
        if inventory is not None:
            inventory.variables()
            inventory.select("all")


@ROUNDS
@given(st.lists(st.sampled_from(INVENTORY), max_size=60).map("".join))
def test_any_text_as_an_inventory(text: str) -> None:
    Path("inv.yml").write_text(INVENTORY + text, encoding="utf-8")
    inventory, problems = attempt(lambda: load_inventory("inv.yml", registry=REGISTRY))
    assert (inventory is None) == bool(problems)


# -- the implied order ----------------------------------------------------------------------------
@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> list[dict[str, Any]]:
    """Steps with groups inside, each with an id, none with needs."""
    steps: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 4))):
        step: dict[str, Any] = {"id": f"s{number}"}
        if depth and draw(st.booleans()):
            step["steps"] = draw(trees(depth - 1))
            if draw(st.booleans()):
                step["parallel"] = True
        else:
            step["toy.look"] = "x"
        steps.append(step)
    return steps


def explicit(steps: list[dict[str, Any]], parallel: bool = False) -> list[dict[str, Any]]:
    """The same steps with every need written out."""
    made = []
    for number, step in enumerate(steps):
        needs = [f"s{number - 1}"] if number and not parallel else []
        inner = dict(step, needs=needs)
        if "steps" in inner:
            inner["steps"] = explicit(inner["steps"], inner.pop("parallel", False))
        made.append(inner)
    return made


def shape(block: Block) -> list[tuple[str, tuple[str, ...], Any]]:
    """Ids and needs of a block, without places."""

    def of(step: Step) -> tuple[str, tuple[str, ...], Any]:
        return (step.id, step.needs, step.block and shape(step.block))

    return [of(step) for step in block.steps]


@ROUNDS
@given(trees())
def test_the_implied_order_is_the_explicit_one(steps: list[dict[str, Any]]) -> None:
    implied = check(yaml.safe_dump({"steps": steps}).encode())
    written = check(yaml.safe_dump({"steps": explicit(steps)}).encode())
    assert implied is not None
    assert written is not None
    assert shape(implied.block) == shape(written.block)
