"""Long and crooked files: the loader's answers are right, and its work grows with the file only.

Nothing here looks at a clock. What could grow with the square of a file is counted, or is so large
here that a square of it would not come to an end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import regex
from engine.loader import checks, tree
from engine.loader.tree import MOST_CYCLES, BlockNode

if TYPE_CHECKING:
    from tests.loader.conftest import Desk

STEPS = 5000


@st.composite
def orders(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Needs of some steps in a shuffled order, without cycles."""
    count = draw(st.integers(1, 12))
    place = draw(st.permutations(range(count)))
    needs: list[tuple[int, ...]] = []
    for index in range(count):
        earlier = [other for other in range(count) if place[other] < place[index]]
        chosen = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
        needs.append(tuple(chosen))
    return needs


def by_walking(needs: list[tuple[int, ...]], first: int, second: int) -> bool:
    """Whether `second` needs `first`, directly or not."""
    waiting, seen = list(needs[second]), set()
    while waiting:
        index = waiting.pop()
        if index not in seen:
            seen.add(index)
            waiting.extend(needs[index])
    return first in seen


@given(orders())
def test_who_comes_before_whom(needs: list[tuple[int, ...]]) -> None:
    block = BlockNode(None, "steps")
    block.needs = needs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "_BAND", 3)  # so that even a few steps fill several bands
        patch.setattr(tree, "_MOST_BITS_KEPT", 20)
        for first in range(len(needs)):
            for second in range(len(needs)):
                wanted = by_walking(needs, first, second)
                assert block.comes_before(first, second) == wanted, (first, second)


def test_two_rows_side_by_side(desk: Desk) -> None:
    rows = "".join(
        f"  - {{id: s{n}, needs: [s{n - 2}], toy.look: '{{{{ steps.s{n % 2}.result }}}}'}}\n"
        for n in range(2, STEPS)
    )
    text = f"steps:\n  - {{id: s0, toy.look: x}}\n  - {{id: s1, needs: [], toy.look: x}}\n{rows}"
    assert len(desk.load(text).block.steps) == STEPS
    wrong = text.replace(f"steps.s{(STEPS - 1) % 2}.", "steps.s0.")
    assert len(desk.problems(wrong)) == STEPS // 2 - 1


def test_a_name_that_every_other_step_registers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[tree.Trail] = []

    def counting(reader: tree.StepNode | None, trail: tree.Trail) -> tree.Precedence:
        looked_at.append(trail)
        return tree.may_read(reader, trail)

    monkeypatch.setattr(checks, "may_read", counting)
    pairs = "".join(
        f"      - {{toy.look: x, register: out}}\n      - toy.look: '{{{{ out.name }}}} {n}'\n"
        if n % 10
        else "  - steps:\n      - {toy.look: x, register: out}\n"
        for n in range(STEPS)
    )
    groups = f"steps:\n{pairs}"
    desk.load(groups)
    desk.load(f"steps:\n  - parallel: true\n    steps:\n{_indented(pairs)}")
    assert len(looked_at) <= 2 * STEPS


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def test_thousands_of_mistakes_are_all_told(desk: Desk) -> None:
    steps = "".join(
        f"  - {{id: s{n}, toy.lok{n}: x, neds: [q], needs: [q{n}], when: steps.z{n}.result}}\n"
        for n in range(STEPS)
    )
    assert len(desk.problems(f"steps:\n{steps}")) == 4 * STEPS


def test_thousands_of_mistakes_in_one_line(desk: Desk) -> None:
    text = " ".join(f"{{{{ inputs.w{n} }}}}" for n in range(STEPS))
    found = desk.problems(f"steps: [{{toy.look: '{text}'}}]")
    assert len(found) == STEPS
    assert len({each.column for each in found}) == STEPS


def test_of_very_many_cycles_some_are_told(desk: Desk) -> None:
    everyone = ", ".join(f"s{n}" for n in range(300))
    steps = "".join(f"  - {{id: s{n}, toy.look: x, needs: [{everyone}]}}\n" for n in range(300))
    found = desk.problems(f"steps:\n{steps}")
    assert 1 <= len(found) <= MOST_CYCLES


def test_steps_in_a_cycle_are_not_accused_of_reading_too_early_as_well(desk: Desk) -> None:
    (problem,) = desk.problems("""
        steps:
          - {id: a, needs: [b], toy.look: "{{ steps.b.result }}"}
          - {id: b, needs: [a], toy.look: "{{ steps.a.result }}"}
    """)
    assert "wait for each other" in problem.message


def test_variables_in_a_long_row(desk: Desk) -> None:
    row = "".join(f"  v{n}: '{{{{ v{n - 1} }}}}'\n" for n in range(1, 2000))
    steps = "".join(f"  - toy.look: '{n} {{{{ v{40 + n % 2 * 1900} }}}}'\n" for n in range(2000))
    found = desk.problems(f"vars:\n  v0: 1\n{row}steps:\n{steps}")
    assert len(found) == 1000
    assert {each.message for each in found} == {
        "'v1940' reads variables that read variables, more than 50 deep"
    }


def test_a_long_loop_of_variables(desk: Desk) -> None:
    loop = "".join(f"  v{n}: '{{{{ v{(n + 1) % 500} }}}}'\n" for n in range(500))
    found = desk.problems(f"vars:\n{loop}steps: [{{toy.look: x}}]\n")
    assert len(found) == 500
    assert found[0].message == (
        "the variable 'v0' reads itself: "
        "v0 → v1 → v2 → v3 → v4 → v5 → … → v496 → v497 → v498 → v499 → v0"
    )


def test_variables_that_read_all_before_them(desk: Desk) -> None:
    """Ways through them are as many as 2 to the power of their number."""
    rows = "".join(
        f"  v{n}: '{' '.join(f'{{{{ v{m} }}}}' for m in range(n))} {{{{ item }}}}'\n"
        for n in range(45)
    )
    steps = "".join(f"  - {{toy.look: '{n} {{{{ v44 }}}}', loop: [1]}}\n" for n in range(500))
    desk.load(f"vars:\n{rows}steps:\n{steps}")
    assert len(desk.problems(f"vars:\n{rows}steps:\n{steps.replace(', loop: [1]', '')}")) == 500


def test_a_variable_is_followed_in_the_layers_of_the_step_that_reads_it(desk: Desk) -> None:
    said = desk.said("""
        vars: {a: "{{ b }}", b: 1}
        steps:
          - {vars: {b: "{{ item }}"}, toy.look: "{{ a }}"}
          - toy.look: "{{ a }}"
          - {vars: {b: "{{ item }}"}, loop: [1], toy.look: "{{ a }}"}
          - {vars: {b: "{{ a }}"}, toy.look: x}
    """)
    assert [each.split(" … ")[0] for each in said] == [
        "4:45: 'a' reads 'item', which is not there in this place",
        "7:20: the variable 'b' reads itself: b → a → b",
    ]


def test_a_pattern_that_runs_away_is_stopped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex, "SECONDS", 0.3)
    long, too_long = "a" * 50, "the pattern (a+)+ takes longer than 0.3 s"
    said = desk.said(
        f"""
        inputs: {{x: {{default: "{long}!", pattern: "(a+)+"}}}}
        steps: [{{toy.look: x, hosts: "~(a+)+!"}}]
        """,
        f"hosts: {{all: {{hosts: {{{long}: }}}}}}",
    )
    assert [each.split(": ", 1)[1] for each in said] == [
        f"the default does not fit: `x` cannot be compared with its pattern: {too_long}",
        f"the host pattern '~(a+)+!' cannot be used: {too_long.replace('+ ', '+! ')}",
    ]


def test_a_message_is_no_longer_than_can_be_read(desk: Desk) -> None:
    (problem,) = desk.problems(f"steps: [{{toy.look: x, ? {'k' * 9000}\n : 1}}]")
    assert len(problem.message) < 700
