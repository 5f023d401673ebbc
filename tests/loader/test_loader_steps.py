"""What a valid runbook becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from engine.model import Call, Place, Retry, Step

if TYPE_CHECKING:
    from tests.loader.conftest import Desk


def needs(steps: tuple[Step, ...]) -> dict[str, tuple[str, ...]]:
    return {step.id: step.needs for step in steps}


def test_a_step_follows_the_one_before_it_unless_needs_says_otherwise(desk: Desk) -> None:
    book = desk.load("""
        steps:
          - {id: a, toy.look: x}
          - {id: b, toy.look: x}
          - {id: c, toy.look: x, needs: []}
          - {id: d, toy.look: x, needs: [a, c]}
          - {id: e, toy.look: x}
          - {id: f, toy.look: x, needs: a}
    """)
    assert needs(book.block.steps) == {
        "a": (),
        "b": ("a",),
        "c": (),
        "d": ("a", "c"),
        "e": ("d",),
        "f": ("a",),
    }


def test_needs_may_name_steps_further_down(desk: Desk) -> None:
    book = desk.load("""
        steps:
          - {id: a, toy.look: x, needs: [b]}
          - {id: b, toy.look: x, needs: []}
    """)
    assert needs(book.block.steps) == {"a": ("b",), "b": ()}


def test_a_parallel_group_has_no_implied_order(desk: Desk) -> None:
    book = desk.load("""
        steps:
          - id: group
            parallel: true
            steps:
              - {id: a, toy.look: x}
              - {id: b, toy.look: x}
              - {id: c, toy.look: x, needs: [a]}
    """)
    block = book.block.steps[0].block
    assert block is not None
    assert needs(block.steps) == {"a": (), "b": (), "c": ("a",)}


def test_ids_are_made_of_names_actions_and_files_and_are_unique(desk: Desk) -> None:
    desk.write("parts/tidy_up.yml", "steps: [{toy.look: x}]")
    book = desk.load("""
        steps:
          - {name: "Back up: the Database!", toy.look: x}
          - toy.look: x
          - toy.look: y
          - toy.rollout_status:
          - {name: "备份", toy.look: z}
          - runbook: parts/tidy_up.yml
          - {id: toy-look-3, toy.look: x}
          - toy.look: x
          - {name: "Deploy -- now!", toy.look: x}
          - steps: [{toy.look: x}]
    """)
    assert [step.id for step in book.block.steps] == [
        "back-up-the-database",
        "toy-look",
        "toy-look-2",
        "toy-rollout_status",
        "toy-look-4",
        "tidy_up",
        "toy-look-3",
        "toy-look-5",
        "deploy-now",
        "group",
    ]


def test_a_bare_value_is_the_first_argument(desk: Desk) -> None:
    book = desk.load("""
        steps:
          - toy.look: here
          - single-action: true
          - single_action: {command: "007", other: 5.10}
    """)
    calls = [step.call for step in book.block.steps]
    assert [call and (call.action, call.arguments) for call in calls] == [
        ("toy.look", {"name": "here"}),
        ("single-action", {"command": "true"}),
        ("single-action", {"command": "007", "other": "5.10"}),
    ]


def test_text_arguments_get_what_was_written_and_others_their_values(desk: Desk) -> None:
    book = desk.load("""
        steps:
          - toy.look:
              name: 5.10
              count: 0x10
              deep: yes
              labels: {version: 5.10, on: off, number: 1}
              names: [1.0, true, a]
              expect: {status: 204, header: {age: 0}}
              anything: {ratio: 5.10, flag: true, nothing: null}
    """)
    call = book.block.steps[0].call
    assert call is not None
    assert call.arguments == {
        "name": "5.10",
        "count": 16,
        "deep": "yes",
        "labels": {"version": "5.10", "on": "off", "number": "1"},
        "names": ["1.0", "true", "a"],
        "expect": {"status": 204, "header": {"age": "0"}},
        "anything": {"ratio": 5.1, "flag": True, "nothing": None},
    }
    assert call.literal


def test_a_call_knows_its_place_its_effect_and_whether_it_holds_templates(desk: Desk) -> None:
    book = desk.load("""
        steps:
          - name: Poke
            toy.poke: "{{ run.id }}"
    """)
    assert book.block.steps[0].call == Call(
        "toy.poke", {"name": "{{ run.id }}"}, "once", Place("book.yml", 4, 5), False
    )


def test_where_an_action_lets_the_runbook_say_its_effect_that_counts(desk: Desk) -> None:
    book = desk.load("steps: [{shell: {command: uptime, effect: read}}, {shell: reboot}]")
    assert [step.call.effect for step in book.block.steps if step.call] == ["read", "once"]


def test_all_common_keys(desk: Desk) -> None:
    step = desk.load("""
        vars: {limit: 3}
        steps:
          - id: one
            name: The one
            toy.look: x
            when: [run.id, "limit > 2"]
            hosts: "{{ 'web' }}"
            loop: [1, 2]
            serial: [1, "20%"]
            max_fail_percentage: 25
            retry: {attempts: 3, delay: 2s, backoff: 2, max_delay: 1m, jitter: 0.1}
            until: result.ok
            failed_when: result.code == 5
            changed_when: false
            register: outcome
            timeout: 1h30m
            budget: "{{ limit }}m"
            confirm: {message: Sure?, checklist: [a, 2], timeout: 10m}
            undo: {toy.poke: back}
            rescue: [{toy.poke: help}]
            always: {toy.poke: tidy}
            ignore_errors: yes
            no_log: on
            tags: [deploy, "always,never"]
            vars: {x: 1}
    """).block.steps[0]
    assert step.name == "The one"
    assert step.when == ("run.id", "limit > 2")
    assert step.fan is not None
    assert (step.fan.hosts, step.fan.loop, step.fan.serial) == ("{{ 'web' }}", [1, 2], [1, "20%"])
    assert step.fan.max_fail_percentage == 25
    assert step.retry == Retry(3, 2.0, 2.0, 60.0, 0.1)
    assert (step.until, step.failed_when) == ("result.ok", "result.code == 5")
    assert (step.changed_when, step.register) == ("false", "outcome")
    assert (step.timeout, step.budget) == (5400.0, "{{ limit }}m")
    assert step.gate is not None
    assert (step.gate.message, step.gate.checklist) == ("Sure?", ("a", "2"))
    assert step.gate.timeout == 600
    for block, name in ((step.undo, "back"), (step.rescue, "help"), (step.always, "tidy")):
        assert block is not None
        assert block.steps[0].call is not None
        assert block.steps[0].call.arguments == {"name": name}
    assert step.ignore_errors
    assert step.no_log
    assert step.tags == ("deploy", "always", "never")
    assert step.vars == {"x": 1}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("1.5h", 5400)],
)
def test_durations_are_seconds(desk: Desk, written: str, seconds: float) -> None:
    book = desk.load(f"steps: [{{toy.look: x, timeout: {written}}}]")
    assert book.block.steps[0].timeout == seconds


def test_a_retry_may_be_a_number_of_attempts(desk: Desk) -> None:
    assert desk.load("steps: [{toy.look: x, retry: 4}]").block.steps[0].retry == Retry(4)


def test_when_takes_a_condition_a_boolean_or_a_list(desk: Desk) -> None:
    book = desk.load("""
        steps:
          - {toy.look: x, when: run.id}
          - {toy.look: x, when: false}
          - {toy.look: x, when: [run.id, true]}
    """)
    assert [step.when for step in book.block.steps] == [("run.id",), ("false",), ("run.id", "true")]


def test_confirm_alone_is_a_gate_and_the_action_of_that_name(desk: Desk) -> None:
    first, second = desk.load("""
        steps:
          - confirm: Go on?
          - {toy.look: x, confirm: "Really, {{ run.id }}?"}
    """).block.steps
    assert first.gate is not None
    assert first.gate.message == "Go on?"
    assert first.call is not None
    assert (first.call.action, first.call.arguments) == ("confirm", {"message": "Go on?"})
    assert second.gate is not None
    assert second.call is not None
    assert second.call.action == "toy.look"


def test_guards(desk: Desk) -> None:
    book = desk.load("""
        guards:
          - {toy.look: x, trip: result.value > 1}
        steps:
          - id: group
            guards:
              - name: error rate
                every: 10s
                toy.look: {name: rate}
                trip: result.value > 0.5
                for: 60s
                min_samples: 3
            steps: [{toy.look: x}]
    """)
    (top,) = book.guards
    assert (top.name, top.every, top.hold, top.min_samples) == ("toy.look", 10, 0, 1)
    (guard,) = book.block.steps[0].guards
    assert (guard.name, guard.every, guard.hold, guard.min_samples) == ("error rate", 10, 60, 3)
    assert guard.trip == "result.value > 0.5"
    assert guard.call.arguments == {"name": "rate"}
    assert guard.place == Place("book.yml", 7, 9)


def test_the_top_of_a_runbook(desk: Desk) -> None:
    book, inventory = desk.whole(
        """
        name: Everything
        inputs:
          version: {type: string, default: 5.10, pattern: '\\d+\\.\\d+', help: which}
          soak: {type: duration, default: 5m}
          size: {type: integer, choices: [1, 2], default: 2}
          who:
        vars: {green: "{{ inputs.version }}"}
        locks: [production, canary]
        budget: 4h
        preempts: true
        steps: [{toy.look: "{{ green }}"}]
        rescue: [{toy.look: "{{ failure.summary }}"}]
        always: [{toy.look: tidy}]
        """,
        "name: lab",
    )
    assert (book.name, book.budget, book.preempts) == ("Everything", 14400, True)
    assert book.locks == ("production", "canary")
    assert book.vars == {"green": "{{ inputs.version }}"}
    assert book.rescue is not None
    assert book.always is not None
    version, soak, size, who = book.inputs.values()
    assert (version.default, version.pattern, version.help) == ("5.10", r"\d+\.\d+", "which")
    assert (soak.default, size.choices, size.default) == (300.0, (1, 2), 2)
    assert who.required
    assert inventory.name == "lab"
    assert book.root == str(desk.folder)
    assert list(book.sources) == ["book.yml"]


def test_a_runbook_without_a_name_has_that_of_its_file(desk: Desk) -> None:
    assert desk.load("steps: [{toy.look: x}]").name == "book"


def test_yaml_aliases_and_merge_keys_stand_for_what_they_name(desk: Desk) -> None:
    book = desk.load("""
        vars:
          common: &common {timeout: 5m, tags: [x]}
        steps:
          - {<<: *common, toy.look: a}
          - {<<: *common, toy.look: b, timeout: 1m}
    """)
    assert [step.timeout for step in book.block.steps] == [300, 60]
    assert [step.tags for step in book.block.steps] == [("x",), ("x",)]


def test_values_of_a_runbook_are_plain(desk: Desk) -> None:
    """Nothing of how the loader keeps places reaches those who come after it."""
    desk.write("inner.yml", "inputs: {x: {type: mapping}}\nsteps: [{toy.look: x}]")
    book, inventory = desk.whole(
        """
        inputs: {a: {type: list, default: [{b: [1]}]}, c: {type: mapping, default: {d: {e: 1}}}}
        vars: {a: {b: [{c: 1}]}}
        steps:
          - {toy.look: {name: x, anything: {a: [{b: 1}]}}, loop: [{a: [1]}], vars: {x: {y: [1]}}}
          - {runbook: inner.yml, with: {x: {y: [{z: "{{ run.id }}"}]}}}
          - {shell: x, confirm: {message: x, checklist: [a]}}
        """,
        "{vars: {a: {b: [1]}}, kubectl: {a: {b: [1]}}, metrics: {m: {q: [1]}}}",
    )
    kinds: set[type] = set()

    def walk(value: Any) -> None:
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                walk(getattr(value, name))
        else:
            kinds.add(type(value))
        if isinstance(value, dict | list | tuple):
            for each in value.values() if isinstance(value, dict) else value:
                walk(each)

    walk(book)
    walk(inventory)
    assert kinds <= {dict, list, tuple, str, int, float, bool, type(None)}


def test_loading_twice_gives_the_same(desk: Desk) -> None:
    text = """
        vars: {a: 1}
        steps:
          - {name: Look, toy.look: "{{ a }}", rescue: [{toy.poke: x}]}
          - {steps: [{toy.look: x}, {toy.look: x}], parallel: true}
    """
    assert desk.load(text) == desk.load(text)


def test_what_comes_after_a_rescue_is_one_of_two_words_and_needs_a_rescue(desk: Desk) -> None:
    book = desk.load("""
        steps:
          - {id: a, toy.look: x, rescue: [{toy.poke: x}], after_rescue: continue}
    """)
    assert book.block.steps[0].after_rescue == "continue"
    said = [
        problem.message
        for problem in desk.problems("""
        steps:
          - {id: a, toy.look: x, rescue: [{toy.poke: x}], after_rescue: go on}
          - {id: b, toy.look: x, after_rescue: continue}
    """)
    ]
    assert "`end` (the run ends) or `continue`" in said[0]
    assert "there is no `rescue`" in said[1]
