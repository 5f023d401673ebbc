"""What is wrong with a runbook is told at its place, with what to write instead, all at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loader.conftest import Desk

Said = Callable[..., list[str]]


def step(text: str) -> str:
    """A runbook with a step `a` and the given one; the text begins in column 5 of line 3."""
    return f"steps:\n  - {{id: a, toy.look: x}}\n  - {text}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{toy.lok: x}", "3:6: unknown action 'toy.lok' … did you mean 'toy.look'?"),
        ("{toy: x}", "3:6: unknown action 'toy' … its actions are: toy.look, toy.poke, "),
        ("{tooy.look: x}", "3:6: unknown module 'tooy' … did you mean 'toy.look'?"),
        ("{singel-action: x}", "3:6: 'singel-action' is no module and no key of a step … did you"),
        ("{toy.look: x, retri: 1}", "3:19: unknown key 'retri' … did you mean 'retry'?"),
        ("{toy.look: x, block: []}", "3:19: unknown key 'block' in a step … a group is written"),
        ("{toy.look: x, if: a}", "3:19: unknown key 'if' in a step … a condition is written"),
        ("{toy.look: x, toy.poke: y}", "3:19: a step does one thing, but this has 'toy.look' and"),
        ("{toy.look: x, steps: []}", "3:19: a step does one thing, but this has 'toy.look' and"),
        ("{name: x}", "3:5: this step does nothing … give it an action, `steps` or `runbook`"),
        ("toy.look", "3:5: a step is a mapping such as `shell: uptime`, not the text 'toy.look'"),
        ("{toy.look: x, with: {}}", "3:19: `with` gives inputs to a runbook, but this step has"),
        ("{toy.look: x, parallel: on}", "3:19: `parallel` is about the steps of a group, but"),
        ("{steps: []}", "3:13: `steps` has no steps"),
        ("{steps: x}", "3:13: `steps` wants a list of steps, not the text 'x'"),
        # ids and order
        ("{id: a, toy.look: x}", "3:10: the id 'a' is here twice; it stands in line 2, too"),
        ("{id: a b, toy.look: x}", "3:10: the id 'a b' has to be of letters, digits, - and _ …"),
        ("{toy.look: x, needs: [aa]}", "3:27: unknown step 'aa' … did you mean 'a'?"),
        ("{toy.look: x, needs: [a/b]}", "3:27: unknown step 'a/b' … `needs` names steps of the"),
        ("{id: b, toy.look: x, needs: [b]}", "3:33: the step 'b' needs itself"),
        ("{toy.look: x, needs: }", "3:26: `needs` wants a list of words, not nothing"),
        ("{toy.look: x, needs: [[a]]}", "3:27: `needs` wants a list of words, not a list in it"),
        # arguments
        ("{toy.look: }", "3:6: toy.look lacks the argument 'name'"),
        ("{toy.look: {nam: x}}", "3:17: toy.look has no argument 'nam' … did you mean 'name'?"),
        ("{toy.look: {name: [x]}}", "3:23: `name` wants text, not a list"),
        ("{toy.look: {name: x, count: a}}", "3:33: `count` wants a whole number, not the text"),
        ("{toy.look: {name: x, count: 1.5}}", "3:33: `count` wants a whole number, not the num"),
        ("{toy.look: {name: x, ratio: yes}}", "3:33: `ratio` wants a number, not the text 'yes'"),
        ("{toy.look: {name: x, deep: maybe}}", "3:32: `deep` wants true or false, not the text"),
        ("{toy.look: {name: x, for: 5x}}", "3:31: `for` wants a duration such as 90s, 5m or"),
        ("{toy.look: {name: x, mode: quik}}", "3:32: `mode` wants one of quick, thorough, not"),
        ("{toy.look: {name: x, labels: []}}", "3:34: `labels` wants a mapping, not a list"),
        ("{toy.look: {name: x, labels: {a: []}}}", "3:38: `labels.a` wants text, not a list"),
        ("{toy.look: {name: x, names: [[]]}}", "3:34: `names[0]` wants text, not a list"),
        ("{toy.look: {name: x, expect: {stat: 1}}}", "3:35: `expect` has no 'stat' … did you m"),
        ("{toy.look: {name: x, expect: {status: a}}}", "3:43: `expect.status` wants a whole num"),
        ("{toy.look: {name: x, file: no.yml}}", "3:32: there is no file 'no.yml'"),
        ("{toy.look: {name: x, file: bok.yml}}", "3:32: there is no file 'bok.yml' … did you m"),
        ("{toy.look: {name: x, file: [/etc/passwd]}}", "3:32: the file '/etc/passwd' lies outsi"),
        ("{toy.look: {name: x, file: ../x.yml}}", "3:32: the file '../x.yml' lies outside the"),
        ("{toy.look: {'{{ run.id }}': x}}", "3:17: the name of an argument cannot be a template"),
        # common keys
        ("{toy.look: x, name: 'a {{ 1 }}'}", "3:25: `name` cannot be a template"),
        ("{toy.look: x, timeout: 5mm}", "3:28: `timeout` wants a duration such as 90s, 5m or"),
        ("{toy.look: x, timeout: 0}", "3:28: `timeout` wants a duration above 0, not the numb"),
        ("{toy.look: x, timeout: -1}", "3:28: `timeout` wants a duration such as"),
        ("{toy.look: x, retry: -1}", "3:26: `retry` wants a number of attempts from 1 to 1000000"),
        ("{toy.look: x, retry: x}", "3:26: `retry` wants a number of attempts or a mapping, not"),
        ("{toy.look: x, retry: {atempts: 1}}", "3:27: unknown key 'atempts' in `retry` … did y"),
        ("{toy.look: x, retry: {jitter: 2}}", "3:35: `jitter` wants a number from 0 to 1, not"),
        ("{toy.look: x, retry: {delay: '{{ 1 }}'}}", "3:34: `delay` wants a duration such as 2s"),
        ("{toy.look: x, when: {a: b}}", "3:25: `when` wants a condition or a list of them, not"),
        ("{toy.look: x, when: '{{ run.id }}'}", "3:25: an expression is written without braces"),
        ("{toy.look: x, when: a ==}", "3:25: the expression ends where a value is due"),
        ("{toy.look: x, serial: 2}", "3:19: `serial` means nothing without `hosts` or `loop`"),
        ("{toy.look: x, loop: 5}", "3:25: `loop` wants a list, or a template of one, not the"),
        ("{toy.look: x, loop: [1], serial: 0}", "3:38: `serial` wants a number of tasks at a"),
        ("{toy.look: x, loop: [1], serial: 5p}", "3:38: `serial` wants a number of tasks at a"),
        ("{toy.look: x, register: a-b}", "3:29: the name 'a-b' has to be a word of letters,"),
        ("{toy.look: x, register: item}", "3:29: the name 'item' takes a name that means some"),
        ("{toy.look: x, vars: {steps: 1}}", "3:26: the variable 'steps' takes a name that mean"),
        ("{toy.look: x, vars: [1]}", "3:25: `vars` wants a mapping, not a list"),
        ("{toy.look: x, ignore_errors: 7}", "3:34: `ignore_errors` wants true or false, not"),
        ("{toy.look: x, confirm: {mesage: x}}", "3:19: `confirm` lacks a 'message' that says"),
        ("{toy.look: x, confirm: [x]}", "3:28: `confirm` wants text, not a list"),
        ("{toy.look: x, rescue: x}", "3:27: `rescue` wants a list of steps, not the text 'x'"),
        ("{toy.look: x, undo: {toy.lok: x}}", "3:26: unknown action 'toy.lok' … did you mean"),
        # guards
        ("{toy.look: x, guards: {a: b}}", "3:27: `guards` wants a list of observations, not a"),
        ("{toy.look: x, guards: [{toy.look: x}]}", "3:28: a guard lacks `trip`, the expression"),
        ("{toy.look: x, guards: [{trip: a}]}", "3:28: a guard has one action that observes; th"),
        ("{toy.look: x, guards: [{toy.poke: x, trip: result.a}]}", "3:29: a guard only observe"),
        ("{toy.look: x, guards: [{toy.look: x, trip: result.a, evry: 1s}]}", "3:58: unknown key"),
        ("{toy.look: x, guards: [{toy.look: x, trip: result.a, every: 0}]}", "3:65: `every` wan"),
        # templates
        ("{toy.look: '{{ x'}", "3:16: unexpected end of template"),
        ("{toy.look: '{{ 1 | dflt }}'}", "3:24: unknown filter 'dflt'"),
        ("{toy.look: '{{ 1 | to_jsn }}'}", "3:24: unknown filter 'to_jsn' … did you mean"),
        ("{toy.look: '{{ 1 is evn }}'}", "3:25: unknown test 'evn' … did you mean 'even'?"),
        ("{toy.look: '{% include \"x\" %}'}", "3:16: a template cannot include other templates"),
        ("{runbook: '{{ run.id }}.yml'}", "3:15: the file of a runbook cannot be a template"),
    ],
)
def test_a_step(said: Said, text: str, expected: str) -> None:
    found = said(step(text))
    assert any(each[: len(expected)] == expected for each in found), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: a runbook is a mapping with `name` and `steps`, but it is empty"),
        ("[]", "1:1: a runbook is a mapping with `name` and `steps`, but this is a list"),
        ("name: x", "1:1: a runbook needs `steps`"),
        ("stps: []", "1:1: unknown key 'stps' in a runbook … did you mean 'steps'?"),
        ("tasks: []", "1:1: unknown key 'tasks' in a runbook … a group is written `steps:`"),
        ("timeout: 5m", "1:1: 'timeout' is a key of steps, not of a runbook"),
        ("name: [x]", "1:7: `name` wants text, not a list"),
        ("locks: {a: b}", "1:8: `locks` wants a list of words, not a mapping"),
        ("preempts: maybe", "1:11: `preempts` wants true or false, not the text 'maybe'"),
        ("inventory: nowhere.yml", "1:12: there is no inventory 'nowhere.yml'"),
        ("inventory: " + "x" * 5000, "1:12: there is no inventory 'xxx"),
        ('inventory: "\\0"', "1:12: there is no inventory '\\x00'"),
        ('steps: [{runbook: "\\0"}]', "1:19: '\\x00' is no path of a runbook"),
        ('steps: [{toy.look: {name: x, file: "\\0"}}]', "1:36: `file` wants the path of a fil"),
        ("name: '{{ run.id }}'", "1:7: `name` cannot be a template"),
        ("locks: ['{{ run.id }}']", "1:9: the name of a lock cannot be a template"),
        ("inputs: [a]", "1:9: `inputs` wants a mapping, not a list"),
        ("inputs: {a: 5.10}", "1:13: an input is described by a mapping, not the number 5.1 … wr"),
        ("inputs: {a-b: }", "1:10: the input 'a-b' has to be a word of letters, digits and _ … w"),
        ("inputs: {a: {typ: string}}", "1:14: unknown key 'typ' in the input 'a' … did you mean"),
        ("inputs: {a: {type: str}}", "1:20: unknown type 'str' … write 'string'"),
        ("inputs: {a: {required: true}}", "1:14: an input without a `default` is required; th"),
        ("inputs: {a: {type: integer, default: x}}", "1:38: the default does not fit: `a` wants"),
        ("inputs: {a: {default: x, pattern: '[0-9]+'}}", "1:23: the default does not fit: `a` w"),
        ("inputs: {a: {default: x, choices: [y]}}", "1:23: the default does not fit: `a` cannot"),
        ("inputs: {a: {default: '{{ 1 }}'}}", "1:23: a default cannot be a template … use a var"),
        ("inputs: {a: {pattern: '['}}", "1:23: the pattern is no regular expression: "),
        ("inputs: {a: {type: list, pattern: x}}", "1:35: a pattern is for text, but this input"),
        ("inputs: {a: {choices: x}}", "1:23: `choices` wants a list of values, not the text 'x'"),
    ],
)
def test_the_top_of_a_runbook(said: Said, text: str, expected: str) -> None:
    found = said(text)
    assert any(each[: len(expected)] == expected for each in found), found


def test_cycles_are_told_with_their_path(said: Said) -> None:
    assert said("""
        steps:
          - {id: a, toy.look: x, needs: [c]}
          - {id: b, toy.look: x}
          - {id: c, toy.look: x}
          - {id: d, toy.look: x, needs: [e]}
          - {id: e, toy.look: x, needs: [d]}
    """) == [
        "3:33: these steps wait for each other: a → c → b → a",
        "6:33: these steps wait for each other: d → e → d",
    ]


def test_a_need_outside_the_group_is_explained(said: Said) -> None:
    assert said("""
        steps:
          - {id: first, toy.look: x}
          - id: group
            steps: [{toy.look: x, needs: [first]}]
    """) == ["5:35: unknown step 'first' … 'first' stands outside this group: let 'group' need it"]


def test_all_problems_are_told_at_once_in_the_order_of_the_file(said: Said) -> None:
    found = said("""
        nam: x
        inputs: {a: {type: integr}}
        steps:
          - toy.lok: x
          - {toy.look: x, timeout: never, needs: [nothing]}
          - steps: [{toy.look: {name: "{{ inputs.b }}", count: many}}]
    """)
    places = [tuple(map(int, each.split(":")[:2])) for each in found]
    assert places == sorted(places)
    assert len(found) == 7


def test_a_problem_holds_its_source_line(desk: Desk) -> None:
    (problem,) = desk.problems(step("{toy.lok: x}"))
    assert (problem.file, problem.line, problem.column) == ("book.yml", 3, 6)
    assert problem.source == "  - {toy.lok: x}"
    assert problem.message == "unknown action 'toy.lok'"
    assert problem.suggestion == "did you mean 'toy.look'?"


def test_a_broken_module_is_told_at_its_line(desk: Desk) -> None:
    desk.write("modules/wrong.py", "x = 1\ny = x / 0\n")
    desk.write("modules/worse.py", "def (:\n")
    found = [str(each) for each in desk.problems("steps: [{wrong: x}, {worse: y}]")]
    assert found[0].startswith("modules/worse.py:1:5: the module worse cannot be imported: inv")
    assert found[1].startswith("modules/wrong.py:2:1: the module wrong cannot be imported: Zero")


def test_control_characters_of_a_file_do_not_reach_the_terminal(said: Said) -> None:
    (found,) = said('steps: [{toy.look: {name: x, count: "a\\e[31m\\nb"}}]')
    assert found == "1:37: `count` wants a whole number, not the text 'a\\x1b[31m\\nb'"


def test_lines_too_long_to_be_read_are_not_shown(desk: Desk) -> None:
    (problem,) = desk.problems("steps: [{toy.lok: x}] #" + "x" * 2000)
    assert problem.source == ""


def test_thousands_of_problems_are_told_quickly_enough(said: Said) -> None:
    lines = "".join(f"  - {{toy.look: x, needs: [nobody{n}], wrng{n}: 1}}\n" for n in range(3000))
    assert len(said("steps:\n" + lines)) == 6000


def test_an_empty_serial_and_endless_attempts_are_refused(desk: Desk) -> None:
    said = desk.said("""
        steps:
          - {toy.look: x, loop: [1], serial: []}
          - {toy.look: x, retry: 99999999999}
          - {toy.look: x, retry: {attempts: 99999999999}}
          - {toy.look: x, when: ''}
          - {id: a/b, toy.look: x}
          - {id: a.b, toy.look: x}
    """)
    assert [re.split(", not|, a perc| … ", each)[0] for each in said] == [
        "3:38: `serial` wants a number of tasks at a time",
        "4:26: `retry` wants a number of attempts from 1 to 1000000",
        "5:37: `attempts` wants a number from 1 to 1e+06",
        "6:25: the expression is empty",
        "7:10: the id 'a/b' has to be of letters, digits, - and _",
        "8:10: the id 'a.b' has to be of letters, digits, - and _",
    ]


def test_a_suggested_file_is_another_one_and_a_file(desk: Desk) -> None:
    (desk.folder / "innner.yml").mkdir()
    desk.write("prod.yml", "name: prod")
    said = desk.said("""
        inventory: prodd.yml
        steps: [{runbook: innner.yml}]
    """)
    assert said == [
        "2:12: there is no inventory 'prodd.yml' … did you mean 'prod.yml'?",
        "3:19: there is no runbook 'innner.yml'",
    ]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("{shell: {comand: x}}", ["shell has no argument 'comand' … did you mean 'command'?"]),
        (
            "{shell: {command: x, timeout: 5}}",
            ["shell has no argument 'timeout' … it is a key of the step: write it below `shell:`"],
        ),
        ("{shell: {}}", ["shell lacks the argument 'command'"]),
        (
            "{shell: x, notify: restart}",
            ["a step does one thing, but this has 'shell' and 'notify'"],
        ),
        ("{apt: {name: x}}", ["unknown key 'apt' in a step … modules of Ansible are not there"]),
        (
            "{ansible.builtin.apt: {}}",
            ["unknown key 'ansible.builtin.apt' in a step … modules of A"],
        ),
        (
            "{become: true, shell: x}",
            ["unknown key 'become' in a step … write `shell: sudo …`, or"],
        ),
    ],
)
def test_one_mistake_is_told_once_and_with_what_to_write(
    said: Callable[..., list[str]], step: str, expected: list[str]
) -> None:
    problems = [each.partition(": ")[2] for each in said(f"steps: [{step}]")]
    assert [each[: len(text)] for each, text in zip(problems, expected, strict=True)] == expected
