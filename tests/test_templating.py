"""Templates: values, scopes, laziness, and bounds against what must not happen."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from engine.errors import Failed, Refused
from engine.templating import Scope, Steps, TemplateFailed, Templates, is_template

TEMPLATES = Templates(
    secret=lambda name: {"token": "hunter2"}[name], environ={"HOME": "/root", "EMPTY": ""}
)


def render(value: Any, scope: Scope | None = None, **names: Any) -> Any:
    return TEMPLATES.render(value, (scope or Scope()).child(names))


def failure(value: Any, scope: Scope | None = None, **names: Any) -> str:
    with pytest.raises(TemplateFailed) as caught:
        render(value, scope, **names)
    return caught.value.message


# -- values ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "value",
    ["5.10", "007", "true", "[1]", "", 5, 5.1, True, None, [1, {"a": (2,)}], {"a": {"b": "c"}}],
)
def test_one_expression_gives_its_own_value(value: object) -> None:
    expected = [1, {"a": [2]}] if isinstance(value, list) else value
    made = render("{{ x }}", x=value)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ 1 + 1 }}", 2),
        ("v{{ 5.10 }}", "v5.1"),
        ("{{ 1 }}{{ 2 }}", "12"),
        (" {{ 1 }}", " 1"),
        ("{{ x }}\n", '[1, "a"]\n'),
        ("is {{ true }}, {{ none }}, {{ {'a': 1.5} }}", 'is true, , {"a": 1.5}'),
        ("{% if true %}yes{% endif %}", "yes"),
        ("{% for i in x %}{{ i }},{% endfor %}", "1,a,"),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ x | map('string') }}", ["1", "a"]),
        ("{{ x | length > 1 and 'a' in x }}", True),
        ("{# nothing #}x", "x"),
    ],
)
def test_rendering(template: str, expected: object) -> None:
    assert render(template, x=[1, "a"]) == expected


def test_lists_and_mappings_are_rendered_inside_and_kept_if_there_is_nothing_to_do() -> None:
    assert render({"a": ["{{ x }}", {"{{ k }}": "b{{ x }}"}]}, x=1, k="key") == {
        "a": [1, {"key": "b1"}]
    }
    plain = {"a": [1, {"b": "c"}]}
    assert render(plain) is plain


def test_lines_that_hold_only_a_block_leave_nothing_behind() -> None:
    text = "a:\n  {% for i in [1, 2] %}\n  - {{ i }}\n  {% endfor %}\nb\n"
    assert render(text) == "a:\n  - 1\n  - 2\nb\n"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'a b' | quote", "'a b'"),
        ("'hi' | b64encode", "aGk="),
        ("'aGk=' | b64decode", "hi"),
        ("{'a': [1, none]} | to_json", '{"a": [1, null]}'),
        ("'[1]' | from_json", [1]),
        ("'a1b2' | regex_replace('[0-9]', '-')", "a-b-"),
        ("'a1b2' | regex_search('[0-9]')", "1"),
        ("90 | duration", "1m30s"),
        ("'1h30m' | duration", 5400.0),
        ("'no' | bool", False),
        ("{'a': 1} | combine({'b': 2})", {"a": 1, "b": 2}),
        ("nothing | default('x')", "x"),
        ("env('HOME')", "/root"),
        ("env('NONE', 5)", 5),
        ("secret('token')", "hunter2"),
        ("'x' | center(5)", "  x  "),
    ],
)
def test_filters_and_functions(expression: str, expected: object) -> None:
    assert TEMPLATES.evaluate(expression, Scope()) == expected


def test_an_item_comes_before_a_method_of_the_same_name() -> None:
    assert render("{{ result.items }}", result={"items": [1]}) == [1]
    assert render("{{ result.items() | list }}", result={"a": 1}) == [["a", 1]]


def test_what_is_a_template() -> None:
    assert is_template("a {{ b }}")
    assert is_template("{% if x %}")
    assert not is_template('{"json": {"a": 1}}')


# -- conditions -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        ([], False),
        (None, False),
        ("yes", True),
        ("no", False),
        ("off", False),
        ("", False),
        ("True", True),
    ],
)
def test_a_condition_holds(value: object, holds: bool) -> None:
    assert TEMPLATES.test("x", Scope({"x": value})) is holds


def test_a_condition_that_gives_other_text_is_no_condition() -> None:
    with pytest.raises(TemplateFailed, match="gave the text 'maybe'") as caught:
        TEMPLATES.test("x", Scope({"x": "maybe"}))
    assert "compare it with something" in caught.value.hint


# -- scopes ---------------------------------------------------------------------------------------
def test_inner_variables_come_before_outer_ones() -> None:
    scope = Scope(
        vars={"a": "book", "b": "book", "c": "book"},
        extra={"a": "command line"},
        inventory={"c": "inventory", "d": "inventory", "e": "inventory"},
        host_vars={"d": "host"},
    )
    inner = scope.child(vars={"b": "group"}).child(vars={"a": "step"})
    assert render("{{ a }}, {{ b }}, {{ c }}, {{ d }}, {{ e }}", inner) == (
        "command line, group, book, host, inventory"
    )
    assert render("{{ b }}", scope) == "book"


def test_variables_are_rendered_in_the_scope_that_reads_them() -> None:
    scope = Scope(vars={"greeting": "Hello {{ name }}", "name": "{{ item }}"})
    assert [render("{{ greeting }}", scope.child({"item": n})) for n in (1, 2)] == [
        "Hello 1",
        "Hello 2",
    ]


def test_a_variable_is_rendered_once_in_a_scope() -> None:
    calls: list[str] = []

    def secret(name: str) -> str:
        calls.append(name)
        return "x"

    templates = Templates(secret=secret)
    scope = Scope(vars={"a": "{{ secret('s') }}"})
    assert templates.render("{{ a }}{{ a }}", scope) == "xx"
    assert templates.render("{{ a }}", scope) == "x"
    assert calls == ["s"]
    templates.render("{{ a }}", scope.child())
    assert calls == ["s", "s"]


def test_entries_of_a_mapping_are_rendered_one_by_one() -> None:
    scope = Scope(
        inventory={
            "endpoints": {"api": "http://x", "health": "{{ endpoints.api }}/h", "bad": "{{ q }}"}
        }
    )
    assert render("{{ endpoints.health }}", scope) == "http://x/h"
    assert "'q' is undefined" in failure("{{ endpoints.bad }}", scope)
    assert "'q' is undefined" in failure("{{ endpoints }}", scope)
    good = Scope(vars={"m": {"a": "{{ 1 }}", "b": {"c": ["{{ 2 }}"]}}})
    assert render("{{ m }}", good) == {"a": 1, "b": {"c": [2]}}
    assert render("{{ m.b.c[0] }} {{ m | length }} {{ 'a' in m }}", good) == "2 2 true"


def test_variables_that_read_themselves_are_told_with_their_path() -> None:
    scope = Scope(vars={"a": "{{ b }}", "b": "{{ c }}", "c": "{{ a }}"})
    assert failure("{{ a }}", scope) == "the variable 'a' reads itself: a → b → c → a"
    loop = Scope(vars={"m": {"x": "{{ m.y }}", "y": "{{ m.x }}"}})
    assert failure("{{ m.x }}", loop) == "the variable 'm.x' reads itself: m.x → m.y → m.x"
    assert render("{{ d }}", Scope(vars={"d": 1}).child(vars={"e": "{{ d }}"})) == 1


def test_names_of_the_engine_cannot_be_taken() -> None:
    scope = Scope({"run": {"id": 1}}, vars={"run": "x"}, extra={"run": "y"})
    assert render("{{ run.id }}", scope) == 1


def test_an_included_runbook_does_not_see_its_callers_names() -> None:
    outer = Scope({"inputs": {"a": 1}, "item": 1, "run": 5}, vars={"v": 1}, inventory={"i": 2})
    inner = outer.included({"inputs": {"b": 2}}, vars={"w": "{{ inputs.b }}"})
    assert render("{{ w }} {{ i }} {{ run }}", inner) == "2 2 5"
    for name in ("v", "item", "inputs.a"):
        failure(f"{{{{ {name} }}}}", inner)


def test_steps_are_found_from_the_inside_out() -> None:
    found = {
        "a": {"result": "top"},
        "group/a": {"result": "group"},
        "group/inner/b": {"result": "inner"},
    }

    def steps(group: str) -> Scope:
        return Scope({"steps": Steps(found.get, group, lambda: list(found))})

    assert render("{{ steps.a.result }}", steps("")) == "top"
    assert render("{{ steps.a.result }}", steps("group/inner")) == "group"
    assert render("{{ steps.a.result }}", steps("group.rescue")) == "group"
    assert render("{{ steps.b.result }}", steps("group/inner")) == "inner"
    assert render("{{ steps['group/inner/b'].result }}", steps("")) == "inner"
    assert render("{{ steps.zzz is defined }}", steps("")) is False
    assert "step 'grup/a' has no result here … did you mean 'group/a'?" in failure(
        "{{ steps['grup/a'].result }}", steps("")
    )


def test_threads_do_not_disturb_each_other() -> None:
    scope = Scope(vars={"a": "{{ b }}", "b": "{{ range(2000) | list | length }}"})
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(TEMPLATES.render("{{ a }}", scope)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [2000] * 8


# -- errors ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ verson }}", "'verson' is undefined … did you mean 'version'?"),
        ("{{ result.jsn }}", "there is no 'jsn' in the mapping … did you mean 'json'?"),
        ("{{ result.json.a.b }}", "there is no 'b' in the number"),
        ("a {{ nothing }} b", "'nothing' is undefined"),
        ("{{ [nothing] }}", "'nothing' is undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' + 1 }}", "can only concatenate str"),
        ("{{ foo( }}", "unexpected '}', expected ')' (line 1)"),
        ("{% if %}", "Expected an expression, got 'end of statement block' (line 1)"),
        ("{{ 'x' | from_json }}", "Expecting value: line 1 column 1 (char 0)"),
        ("{{ '5x' | duration }}", "'5x' is no duration such as 90s or 1h30m"),
        ("{{ 'x' | nope }}", "No filter named 'nope'. (line 1)"),
        ("{{ range }}", "it gives a function, which is no value"),
    ],
)
def test_what_goes_wrong_is_told(template: str, said: str) -> None:
    message = failure(template, version=1, result={"json": {"a": 1}})
    assert message.startswith(f"the template `{template}` failed: {said}")


def test_the_place_is_told() -> None:
    assert failure("{{ x }}", Scope(place="canary/route")).startswith("canary/route: the template")


def test_an_error_of_a_template_is_a_failure_that_a_retry_does_not_mend() -> None:
    with pytest.raises(Failed) as caught:
        render("{{ x }}")
    assert not caught.value.retryable


def test_a_missing_environment_variable_is_told_with_what_to_do() -> None:
    with pytest.raises(TemplateFailed, match="HOMEE is not set") as caught:
        render("{{ env('HOMEE') }}")
    assert "env('NAME', 'default')" in caught.value.hint


def test_errors_of_secrets_pass_through() -> None:
    def refuse(name: str) -> str:
        raise Refused("no such secret")

    with pytest.raises(Refused, match="no such secret"):
        Templates(secret=refuse).render("{{ secret('x') }}", Scope())


# -- hostile templates ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ run.__init__.__globals__ }}",
        "{{ steps.__class__ }}",
        "{{ steps._find.__globals__ }}",
        "{{ env.__globals__ }}",
        "{{ env.__self__ }}",
        "{{ self.__init__ }}",
        "{{ [].append(1) }}",
        "{{ x.update({'a': 1}) }}",
        "{{ 'a' * 10 ** 9 }}",
        "{{ [1] * 10 ** 9 }}",
        "{{ 10 ** 5000 }}",
        "{{ 2 ** 4096 * 2 ** 4096 }}",
        "{{ range(10 ** 9) | list }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'a'.ljust(10 ** 9) }}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
        "{% for i in range(100000) %}xxxxxxxxxxxxxxxxxxxx{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ lipsum() }}",
        "{{ [1, 2] | random }}",
        "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
        "{{ " + "-" * 5000 + "1 }}",
    ],
)
def test_a_hostile_template_fails_and_nothing_else(template: str) -> None:
    with pytest.raises(TemplateFailed):
        TEMPLATES.render(template, Scope({"run": {}, "x": {}, "steps": Steps(lambda path: None)}))


# -- names of functions ---------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["env", "secret", "now", "lab"])
def test_a_variable_may_be_called_like_a_function_of_ours(name: str) -> None:
    scope = Scope(host_vars={name: "prod", "domain": f"{{{{ {name} }}}}.example.com"})
    assert render(f"{{{{ {name} }}}} {{{{ domain }}}} {{{{ env('HOME') }}}}", scope) == (
        "prod prod.example.com /root"
    )
    assert "is undefined" in failure(f"x {{{{ {name} }}}}")


def test_a_template_may_name_its_own_things_so() -> None:
    assert render("{% macro env(x) %}<{{ x }}>{% endmacro %}{{ env(1) }}") == "<1>"
    assert render("{% set now = 'then' %}{{ now }}") == "then"
