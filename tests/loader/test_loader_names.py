"""What templates read has to exist, and has to be there when they are rendered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loader.conftest import Desk

Said = Callable[..., list[str]]

INVENTORY = """
vars: {domain: example.com, url: "https://{{ domain }}", mine: "{{ host.name }}"}
secrets: {token: {env: TOKEN}}
endpoints: {front: "{{ url }}/", health: "{{ endpoints.front }}health"}
metrics: {error_rate: up}
hosts: {web: {hosts: {web1: {rack: 5}}}}
"""


def looks(*templates: str) -> str:
    """A runbook whose steps read the templates, one after the other."""
    return "steps:\n" + "".join(f"  - toy.look: {template!r}\n" for template in templates)


@pytest.mark.parametrize(
    "template",
    [
        "{{ domain }} {{ url }} {{ endpoints.health }} {{ metrics['error_rate'] }}",
        "{{ secret('token') }} {{ env('HOME') }} {{ env('X', '') }} {{ run.id }}",
        "{{ groups.web }} {{ groups.all }} {{ hosts.web1.rack }} {{ hosts.keys() }}",
        "{{ nothing | default('x') }} {{ nothing.at.all | d(1) }}",
        "{{ nothing is defined and nothing.more }}",
        "{% set x = 1 %}{{ x }}{% for y in [1] %}{{ y }}{{ loop.index }}{% endfor %}",
        "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1) }}",
        "{{ range(3) | map('string') | join(',') }} {{ true }} {{ none }}",
        "{{ steps[run.id] }}",
    ],
)
def test_fine(desk: Desk, template: str) -> None:
    desk.load(looks(template), INVENTORY)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ domian }}", "2:19: 'domian' is undefined … did you mean 'domain'?"),
        ("x {{ 1 }} {{ qwxyz }}", "2:29: 'qwxyz' is undefined … declare it under `vars:`"),
        ("{{ inpts.x }}", "2:19: 'inpts' is undefined … did you mean 'inputs'?"),
        ("{{ inputs.x }}", "2:26: the runbook has no input 'x' … declare it under `inputs:`"),
        (
            "{{ secret('tokn') }}",
            "2:27: the inventory has no secret 'tokn' … did you mean 'token'?",
        ),
        (
            "{{ endpoints.frnt }}",
            "2:29: the inventory has no endpoint 'frnt' … did you mean 'front'",
        ),
        ("{{ metrics['x'] }}", "2:28: the inventory has no metric 'x' … it has: error_rate"),
        ("{{ groups.wep }}", "2:26: the inventory has no group 'wep' … did you mean 'web'?"),
        ("{{ hosts.web2 }}", "2:25: the inventory has no host 'web2' … did you mean 'web1'?"),
        (
            "{{ item }}",
            "2:19: 'item' is not there in this place … it is there in a step with `loop`",
        ),
        ("{{ host.name }}", "2:19: 'host' is not there in this place … it is there in a step with"),
        ("{{ failure }}", "2:19: 'failure' is not there in this place … it is there in `rescue`,"),
        ("{{ result }}", "2:19: 'result' is not there in this place … it is there in `until`,"),
        ("{{ mine }}", "2:19: 'mine' reads 'host', which is not there in this place … it is th"),
        ("{{ steps.nope }}", "2:25: unknown step 'nope' … known are: toy-look"),
    ],
)
def test_wrong(said: Said, template: str, expected: str) -> None:
    found = said(looks(template), INVENTORY)
    assert [each[: len(expected)] for each in found] == [expected]


def test_without_an_inventory_names_that_it_could_give_are_no_problem(
    desk: Desk, said: Said
) -> None:
    text = looks("{{ anything }} {{ endpoints.x }} {{ secret('y') }}")
    desk.load(text)
    assert len(said(text, strict=True)) == 1
    assert len(said(text, "name: empty")) == 3


def test_names_that_the_command_line_gives_exist(desk: Desk) -> None:
    desk.load(looks("{{ given }}"), INVENTORY, extra={"given"})


def test_an_input_without_its_prefix_is_explained(said: Said) -> None:
    text = "inputs: {version: }\n" + looks("{{ version }}")
    assert said(text, "{}") == ["3:19: 'version' is undefined … did you mean 'inputs.version'?"]


def test_variables_are_those_of_the_step_its_groups_and_the_runbook(desk: Desk, said: Said) -> None:
    text = """
        vars: {a: 1}
        steps:
          - vars: {b: 1}
            steps:
              - {vars: {c: 1}, toy.look: "{{ a }}{{ b }}{{ c }}"}
              - {toy.look: "{{ c }}"}
          - {toy.look: "{{ b }}"}
    """
    assert [each[:16] for each in said(text, "{}")] == ["7:24: 'c' is und", "8:20: 'b' is und"]


def test_item_and_host_are_inside_what_has_loop_and_hosts(desk: Desk, said: Said) -> None:
    desk.load(
        """
        steps:
          - {loop: [1], toy.look: "{{ item }}", when: item > 1, register: x}
          - {hosts: web, toy.look: "{{ host.name }}{{ inventory_hostname }}{{ rack }}{{ mine }}"}
          - loop: [1]
            steps: [{toy.look: "{{ item }}"}]
        """,
        INVENTORY,
    )
    assert said(
        """
        steps:
          - {loop: ["{{ item }}"], toy.look: x}
        """,
        INVENTORY,
    ) == [
        "3:17: 'item' is not there in this place … it is there in a step with `loop`, and inside it"
    ]


def test_loop_may_read_the_steps_before(desk: Desk) -> None:
    desk.load("""
        steps:
          - {id: a, toy.look: x, register: found}
          - {loop: "{{ steps.a.result.names + found.names }}", toy.look: "{{ item }}"}
    """)


def test_a_variable_may_read_what_depends_on_its_user(desk: Desk, said: Said) -> None:
    text = """
        vars: {direct: "{{ item }}", behind: "{{ direct }}!"}
        steps:
          - {loop: [1], toy.look: "{{ behind }}"}
          - {toy.look: "{{ behind }}"}
    """
    assert said(text, "{}") == [
        (
            "5:20: 'behind' reads 'item', which is not there in this place … "
            "it is there in a step with `loop`, and inside it"
        )
    ]


def test_variables_that_read_themselves_are_told_with_their_path(said: Said) -> None:
    text = """
        vars:
          a: "{{ b }}"
          b: "{{ c }}"
          c: "x {{ a }}"
          d: "{{ d }}"
          e: {x: 1, y: "{{ e.x }}"}
        steps: [{toy.look: x}]
    """
    assert said(text, "{}") == [
        "3:10: the variable 'a' reads itself: a → b → c → a",
        "4:10: the variable 'b' reads itself: b → c → a → b",
        "5:12: the variable 'c' reads itself: c → a → b → c",
        "6:10: the variable 'd' reads itself: d → d",
    ]


def test_the_inventory_is_checked_too(said: Said) -> None:
    found = said(
        "vars: {known: 1}\n" + looks("x"),
        """
        vars: {a: "{{ b }}", c: "{{ known }}", d: "{{ nobody }}", e: "{{ x | lowr }}"}
        endpoints: {front: "{{ secret('nope') }}"}
        kubectl: {context: "{{ a }"}
        """,
    )
    assert found == [
        "inventory.yml:2:15: 'b' is undefined … declare it under `vars:`",
        "inventory.yml:2:47: 'nobody' is undefined … declare it under `vars:`",
        "inventory.yml:2:66: 'x' is undefined … declare it under `vars:`",
        "inventory.yml:2:70: unknown filter 'lowr' … did you mean 'lower'?",
        "inventory.yml:3:32: the inventory has no secret 'nope'",
        "inventory.yml:4:20: unexpected '}'",
    ]


# -- results of steps -----------------------------------------------------------------------------
def test_a_step_may_read_those_that_ran_before_it(desk: Desk) -> None:
    desk.load("""
        steps:
          - {id: first, toy.look: x, register: seen}
          - id: group
            parallel: true
            steps:
              - {id: a, toy.look: "{{ steps.first.result }} {{ seen.name }}"}
              - {id: b, toy.look: "{{ steps.a.result }}", needs: [a]}
              - id: inner
                needs: [b]
                steps:
                  - {id: deep, toy.look: "{{ steps.a }} {{ steps['group/a'] }} {{ steps.first }}"}
          - toy.look: "{{ steps['group/b'].result }} {{ steps['group/inner/deep'] }}"
          - toy.look: "{{ steps.group }}"
    """)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("later", "steps.later is read, but 'later' need not have run before this step … add"),
        ("other", "steps.other is read, but 'other' need not have run before this step … add"),
        ("reader", "steps.reader is read before this step has ended … only `until`,"),
        ("group", "steps.group is read before this step has ended"),
        ("group/other", "steps.group/other is read, but 'group/other' need not have run"),
        ("risky.rescue/help", "steps.risky.rescue/help is read, but that step only runs if"),
        ("othr", "unknown step 'othr' … did you mean 'other'?"),
    ],
)
def test_a_step_may_not_read_others(said: Said, key: str, expected: str) -> None:
    found = said(f"""
        steps:
          - id: risky
            steps: [{{toy.look: x}}]
            rescue: [{{id: help, toy.look: x}}]
          - id: group
            parallel: true
            steps:
              - {{id: other, toy.look: x}}
              - {{id: reader, toy.look: "{{{{ steps['{key}'].result }}}}"}}
          - {{id: later, toy.look: x}}
    """)
    assert [each.split(": ", 1)[1][: len(expected)] for each in found] == [expected]


def test_what_to_do_about_a_missing_need_is_told(said: Said) -> None:
    assert said("""
        steps:
          - {id: a, toy.look: x}
          - {id: b, toy.look: x, needs: []}
          - {id: c, toy.look: "{{ steps.b.result }}", needs: [a], register: c}
          - {id: d, needs: [], toy.look: "{{ c.name }}"}
    """) == [
        (
            "5:33: steps.b is read, but 'b' need not have run before this step … "
            "add 'b' to the `needs` of this step"
        ),
        "6:38: 'c' is registered by 'c', which need not have run before … add 'c' to `needs`",
    ]


def test_rescue_always_and_undo_may_read_whatever_may_have_run(desk: Desk) -> None:
    desk.load("""
        steps:
          - id: group
            steps:
              - {id: a, toy.look: x, register: seen, undo: {toy.poke: "{{ steps.a.result.name }}"}}
              - {id: b, toy.look: x}
            rescue:
              - {toy.look: "{{ failure.summary }} {{ steps.b.result }} {{ seen }}"}
              - {toy.look: "{{ steps.later }}"}
            always:
              - {id: tidy, toy.look: "{{ steps['group/b'] }} {{ failure }}"}
              - {toy.look: "{{ steps.tidy }}"}
          - {id: later, toy.look: x}
        rescue: [{toy.look: "{{ steps['group/a'] }} {{ steps.later }} {{ failure }}"}]
    """)


def test_inside_a_rescue_order_counts_again(said: Said) -> None:
    found = said("""
        steps:
          - id: group
            steps: [{toy.look: x}]
            rescue:
              - {toy.look: "{{ steps.second }}"}
              - {id: second, toy.look: x}
    """)
    assert len(found) == 1
    assert "'second' need not have run before" in found[0]


def test_result_is_read_where_it_exists(desk: Desk) -> None:
    desk.load("""
        steps:
          - toy.look: x
            register: seen
            until: result.ok and seen.ok
            failed_when: result.code == 1
            changed_when: result.changed
            guards: [{toy.look: x, trip: result.value > 1}]
    """)


def test_a_step_does_not_read_what_it_registers(said: Said) -> None:
    assert said("steps: [{toy.look: '{{ seen }}', register: seen}]") == [
        "1:24: 'seen' is registered by this very step … it is there afterwards"
    ]


def test_results_behind_variables_are_followed(said: Said) -> None:
    assert said("""
        vars: {digest: "{{ steps.build.result.digest }}", odd: "{{ steps.biuld }}"}
        steps:
          - {toy.look: "{{ digest }}"}
          - {id: build, toy.look: x}
          - {toy.look: "{{ digest }}"}
    """) == [
        "2:66: unknown step 'biuld' … did you mean 'build'?",
        (
            "4:20: 'digest' reads steps.build, but 'build' need not have run before this step … "
            "add 'build' to the `needs` of this step"
        ),
    ]


def test_expressions_for_an_action_may_read_names_that_the_action_gives(
    desk: Desk, said: Said
) -> None:
    text = """
        steps:
          - toy.look: {name: x, until: "status == 200", expect: {json: [EXPRESSION]}}
    """
    desk.load(text.replace("EXPRESSION", "anything.ok"), "{}")
    assert said(text.replace("EXPRESSION", "'anything ='"), "{}") == ["3:65: unexpected '='"]
    assert said(text.replace("EXPRESSION", "inputs.x"), "{}") == [
        "3:72: the runbook has no input 'x' … declare it under `inputs:`"
    ]


def test_a_place_inside_text_of_several_lines(said: Said) -> None:
    assert said(
        """
        steps:
          - toy.look: |
              first line
              second {{ nobody }} line
          - toy.look: >-
              {% if true %}
              {{ nobody_else }}
              {% endif %}
        """,
        "{}",
    ) == [
        "5:17: 'nobody' is undefined … declare it under `vars:`",
        "8:10: 'nobody_else' is undefined … declare it under `vars:`",
    ]


def test_reading_far_back_in_a_long_list_is_quick(desk: Desk) -> None:
    lines = ["steps:", "  - {id: first, toy.look: x}"]
    lines += [f"  - {{id: s{n}, toy.look: '{{{{ steps.first.result }}}}'}}" for n in range(3000)]
    assert len(desk.load("\n".join(lines)).block.steps) == 3001


PLACES = {
    "argument": "{toy.look: {name: x, anything: {deep: ['{{ NAME }}']}}}",
    "key of an argument": "{toy.look: {name: x, anything: {'{{ NAME }}': 1}}}",
    "when": "{toy.look: x, when: [true, NAME]}",
    "until": "{toy.look: x, until: NAME}",
    "failed_when": "{toy.look: x, failed_when: NAME}",
    "changed_when": "{toy.look: x, changed_when: NAME}",
    "hosts": "{toy.look: x, hosts: '{{ NAME }}'}",
    "loop": "{toy.look: x, loop: [1, '{{ NAME }}']}",
    "serial": "{toy.look: x, loop: [1], serial: [1, '{{ NAME }}']}",
    "timeout": "{toy.look: x, timeout: '{{ NAME }}'}",
    "budget": "{toy.look: x, budget: '{{ NAME }}'}",
    "vars": "{toy.look: x, vars: {a: {b: '{{ NAME }}'}}}",
    "confirm": "{toy.look: x, confirm: '{{ NAME }}'}",
    "checklist": "{confirm: {message: x, checklist: [a, '{{ NAME }}']}}",
    "timeout of a gate": "{confirm: {message: x, timeout: '{{ NAME }}'}}",
    "guard": "{steps: [{toy.look: x}], guards: [{toy.look: '{{ NAME }}', trip: a, vars: 1}]}",
    "trip": "{steps: [{toy.look: x}], guards: [{toy.look: x, trip: NAME}]}",
    "every": "{steps: [{toy.look: x}], guards: [{toy.look: x, trip: '1', every: '{{ NAME }}'}]}",
    "for": "{steps: [{toy.look: x}], guards: [{toy.look: x, trip: '1', for: '{{ NAME }}'}]}",
    "min_samples": "{steps: [{toy.look: x}], guards: [{toy.look: x, trip: '1', "
    "min_samples: '{{ NAME }}'}]}",
    "undo": "{toy.look: x, undo: {toy.look: '{{ NAME }}'}}",
    "rescue": "{toy.look: x, rescue: [{toy.look: '{{ NAME }}'}]}",
    "always": "{toy.look: x, always: [{toy.look: '{{ NAME }}'}]}",
    "group": "{parallel: true, steps: [{toy.look: '{{ NAME }}'}]}",
    "with": "{runbook: inner.yml, with: {x: ['{{ NAME }}']}}",
    "assert": "{assert: {that: [NAME, 'true']}}",
}
"""A step for each place in which a template or an expression may stand."""


@pytest.mark.parametrize("place", PLACES)
def test_what_is_undefined_is_told_wherever_it_stands(desk: Desk, place: str) -> None:
    desk.write("inner.yml", "inputs: {x: {type: list}}\nsteps: [{toy.look: x}]")
    text = f"vars: {{here: 1}}\nsteps:\n  - {PLACES[place]}\n"
    told = desk.said(text.replace("NAME", "heree"), "name: lab")
    column = PLACES[place].replace("NAME", "heree").index("heree") + 5
    assert f"3:{column}: 'heree' is undefined … did you mean 'here'?" in told


@pytest.mark.parametrize("text", ["vars: {a: NAME}", "endpoints: {a: NAME}", "metrics: {a: NAME}"])
def test_what_is_undefined_is_told_in_an_inventory(desk: Desk, text: str) -> None:
    book = "steps: [{toy.look: x}]"
    (said,) = desk.said(book, text.replace("NAME", "'{{ nowhere }}'"))
    assert said.startswith("inventory.yml:1:")
    assert "'nowhere' is undefined" in said
    for where in ("hosts: {g: {vars: {a: NAME}}}", "hosts: {g: {hosts: {h: {a: NAME}}}}"):
        (said,) = desk.said(book, where.replace("NAME", "'{{ nowhere }}'"))
        assert "'nowhere' is undefined" in said


def test_a_function_that_is_none_is_told_even_without_an_inventory(desk: Desk) -> None:
    assert desk.said("""
        steps:
          - toy.look: "{{ lookup('file', '/etc/passwd') }}"
          - toy.look: "{{ evn('HOME') }}"
          - toy.look: "{% macro m() %}x{% endmacro %}{{ m() }}{{ env('HOME') }}{{ given }}"
    """) == [
        "3:19: there is no function 'lookup' … there are: env, secret, now, lab, range, dict",
        "4:19: there is no function 'evn' … did you mean 'env'?",
    ]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ steps.a.resullt.x }}", "a step has no 'resullt' … did you mean 'result'?"),
        ("{{ steps['a'].stdout }}", "a step has no 'stdout' … what its action gave is `result.std"),
        ("{{ steps.a['outcome'] }}", "a step has no 'outcome' … what its action gave is `result.o"),
        ("{{ run.idd }}", "the run has no 'idd' … did you mean 'id'?"),
    ],
)
def test_fields_that_do_not_depend_on_the_world(said: Said, template: str, expected: str) -> None:
    text = f"steps:\n  - {{id: a, toy.look: x}}\n  - {{id: b, toy.look: {template!r}}}\n"
    for each in (text, f"vars: {{v: {template!r}}}\n" + text.replace(f"{template!r}", "'{{ v }}'")):
        (problem,) = said(each, INVENTORY)
        assert problem.partition(": ")[2].startswith(expected)


def test_fields_of_a_failure(desk: Desk, said: Said) -> None:
    text = "steps: [{id: a, toy.look: x}]\nrescue: [{toy.look: '{{ failure.%s }}'}]"
    desk.load(text % "kind", INVENTORY)
    (problem,) = said(text % "sumary", INVENTORY)
    assert "a failure has no 'sumary' … did you mean 'summary'?" in problem


def test_fields_that_are_asked_for_or_have_a_default(desk: Desk) -> None:
    desk.load("""
        steps:
          - {id: a, toy.look: x}
          - toy.look: "{{ steps.a.more | default(1) }}{{ steps.a.keys() }}{{ run.get('x') }}"
            when: steps.a.other is not defined
          - toy.look: "{% set run = {'x': 1} %}{{ run.x }}"
    """)


def test_functions_that_are_not_called(desk: Desk, said: Said) -> None:
    (problem,) = said(looks("{{ env }}"), INVENTORY)
    assert "'env' is a function, and is not called here … write `env(…)`" in problem
    (problem,) = said(looks("{{ range }}"))
    assert "'range' is a function" in problem
    desk.load(looks("{{ env }} {{ env('HOME') }}"), "vars: {env: prod, url: '{{ env }}.example'}")
    desk.load("vars: {now: 5}\n" + looks("{{ now }} {{ now() }}"), INVENTORY)
    (problem,) = said(looks("x"), "vars: {env: '{{ env }}'}")
    assert "reads itself" in problem
