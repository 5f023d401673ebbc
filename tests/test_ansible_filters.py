"""Filters and tests that people know from Ansible."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine import regex
from engine.templating import Scope, TemplateFailed, Templates

SCOPE = Scope(
    {
        "table": {"a": 1, "b": {"c": 2}},
        "nested": [1, [2, [3, None]], "x"],
        "log": "web1=5.9 web2=5.10",
        "outcome": {"failed": False, "changed": True},
        "long": "a" * 40,
    }
)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("true | ternary('y', 'n')", "y"),
        ("'no' | ternary('y', 'n')", "n"),
        ("none | ternary('y', 'n', 'z')", "z"),
        (r"log | regex_findall('web(\\d)=([0-9.]+)')", [["1", "5.9"], ["2", "5.10"]]),
        (r"log | regex_findall('web\\d')", ["web1", "web2"]),
        (r"log | regex_search('web(\\d)', '\\1')", ["1"]),
        (r"log | regex_search('web(?P<n>\\d)', '\\g<n>')", ["1"]),
        ("log | regex_search('WEB.', ignorecase=true)", "web1"),
        ("log | regex_search('db')", None),
        (r"log | regex_replace('web(\\d)', 'w\\1')", "w1=5.9 w2=5.10"),
        ("'a.b' | regex_escape", r"a\.b"),
        ("nested | flatten", [1, 2, 3, "x"]),
        ("nested | flatten(levels=1)", [1, 2, [3, None], "x"]),
        ("'5.10' is version('5.9', '>')", True),
        ("'5.1' is version('5.10', 'lt')", True),
        ("'v5.0' is version('5', '==')", True),
        ("'5.1rc1' is version('5.1', '<')", True),
        ("table | combine({'b': {'d': 3}}, recursive=true)", {"a": 1, "b": {"c": 2, "d": 3}}),
        ("table | combine({'b': 1})", {"a": 1, "b": 1}),
        ("{'l': [1]} | combine({'l': [2]}, list_merge='append')", {"l": [1, 2]}),
        ("{'a': 1} | dict2items", [{"key": "a", "value": 1}]),
        ("[{'key': 'a', 'value': 1}] | items2dict", {"a": 1}),
        ("'grün' | b64encode | b64decode", "grün"),
        ("{'b': 1} | to_json", '{"b": 1}'),
        ("{'b': 1} | to_nice_json", '{\n    "b": 1\n}'),
        ("'a: [1, 2]' | from_yaml", {"a": [1, 2]}),
        ("[1, 2] | union([2, 3])", [1, 2, 3]),
        ("[1, 2] | intersect([2, 3])", [2]),
        ("[1, 2] | difference([2, 3])", [1]),
        ("[1, 2] | zip(['a', 'b'])", [[1, "a"], [2, "b"]]),
        ("'/srv/app.tar.gz' | basename", "app.tar.gz"),
        ("'x' | hash('sha256') | length", 64),
        ("outcome is succeeded and outcome is changed and outcome is not failed", True),
        ("'web1' is match('web') and log is search('web2')", True),
        ("[1] is subset([1, 2]) and [1, 2] is contains(2)", True),
    ],
)
def test_filters_and_tests(expression: str, value: Any) -> None:
    assert Templates().evaluate(expression, SCOPE) == value


@pytest.mark.parametrize(
    "expression",
    [
        "range(1000) | list | to_json(indent='x' * 1000000)",
        "range(100000) | list | to_json(indent=100)",
        "long | regex_findall('(a+)+$b')",
        "long | regex_search('(a+)+$b', '0')",
        "'x' is version('5', 'around')",
        "'' is version('5')",
        "'***' | b64decode",
        "table | combine({'b': 1}, list_merge='x') if false else [1] | zip",
        "{'l': [1]} | combine({'l': [2]}, list_merge='x')",
    ],
)
def test_what_cannot_be_is_an_error_in_bounded_time(
    expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex, "SECONDS", 0.5)
    started = time.monotonic()
    try:
        Templates().evaluate(expression, SCOPE)
    except TemplateFailed:
        pass
    else:
        assert "zip" in expression
    assert time.monotonic() - started < 60
