"""Templates that would work or grow for ever are stopped, wherever the work hides; others are not.

Nothing here measures time or memory: without the bounds these tests would not come to an end, or
would take the machine with them.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine import regex
from engine.templating import Scope, TemplateFailed, Templates, bounds

TEMPLATES = Templates()
GROW = "{% set ns = namespace(x=START) %}{% for i in range(60) %}{% set ns.x = NEXT %}{% endfor %}"
LONG = "('a' * 1000000)"


def grow(start: str, following: str, end: str = "{{ ns.x | length }}") -> str:
    """A template that puts a value in the place of itself sixty times."""
    return GROW.replace("START", start).replace("NEXT", following) + end


ENDLESS = [
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% for i in range(5) recursive %}{{ loop(range(5)) }}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% if 'x' in range(99999) | list %}{% endif %}{% endfor %}",
    "{{ range(99999) | select('in', range(99999) | map('string') | list) | list }}",
    "{{ range(99999) | map('string') | map('center', 900000) | list | length }}",
]
GROWING = [
    grow(LONG, "ns.x + ns.x"),
    grow(LONG, "ns.x ~ ns.x"),
    grow("[1] * 1000", "ns.x + ns.x"),
    grow("[1]", "[ns.x, ns.x]"),
    grow("[1]", "[ns.x, ns.x]", "{{ ns.x | string | length }}"),
    grow("[1]", "(ns.x, ns.x)", "{{ ns.x == [ns.x] }}"),
    grow("{}", "{'a': ns.x, 'b': ns.x}", "{{ ns.x | to_json | length }}"),
    grow("[1]", "[ns.x] * 1000"),
    f"{{% set x = {LONG} %}}{{% for i in range(99999) %}}{{{{ x[:] == '' }}}}{{% endfor %}}",
    "{{ ([[1] * 100000] * 100000) | sum(start=[]) | length }}",
]
HUGE = [
    f"{{{{ {LONG} | replace('a', 'b' * 3000) | length }}}}",
    f"{{{{ {LONG}.replace('a', 'b' * 3000) | length }}}}",
    f"{{{{ {LONG}.translate({{97: 'b' * 3000}}) | length }}}}",
    f"{{{{ {LONG} | regex_replace('a', 'b' * 3000) | length }}}}",
    f"{{{{ {LONG} | list | join('b' * 3000) | length }}}}",
    f"{{{{ ('b' * 3000).join({LONG} | list) | length }}}}",
    f"{{{{ {LONG} | wordwrap(1, wrapstring='b' * 3000) | length }}}}",
    "{{ ('a\\n' * 300000) | indent('b' * 3000) | length }}",
    "{{ 'x' | indent(10 ** 9, true) | length }}",
    "{{ [1] | batch(10 ** 9, 'x') | list | length }}",
    "{{ [1] | slice(10 ** 9) | list | length }}",
    "{{ 1 | round(10 ** 8, 'ceil') }}",
    "{{ [1] | to_json(indent=10 ** 9) | length }}",
    "{{ '%1000000000d' | format(1) | length }}",
    "{{ '%.1000000000f' | format(1) | length }}",
    "{{ '%*d' | format(1000000000, 1) | length }}",
    "{{ ('%(a)s' * 100000) | format(a='b' * 100000) | length }}",
    "{{ ('%(a)s' * 100000) % {'a': 'b' * 100000} }}",
    "{{ ('{0:>99999}' * 100000).format(1) | length }}",
    "{{ '{:{w}}'.format(1, w=1000000000) | length }}",
    "{{ ('{a}' * 100000).format(a='b' * 100000) | length }}",
    "{{ ('{a}' * 100000).format_map({'a': 'b' * 100000}) | length }}",
    "{{ 'a'.encode().ljust(10 ** 9) | length }}",
    "{{ ('\\t' * 1000000).expandtabs(1000) | length }}",
    "{{ (5).to_bytes(10 ** 9, 'big') | length }}",
    "{{ ('<!--' * 250000) | striptags }}",
]
PATTERNS = [
    "{{ ('a' * 40 ~ '!') | regex_search('(a+)+$') }}",
    "{{ ('a' * 40 ~ '!') | regex_replace('(a|a)+$', '') }}",
]


REFUSED = r"works too much|larger than|nested|loops|unsafe|No filter named 'striptags'"


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rendering may work less, so that its end comes sooner."""
    monkeypatch.setattr(bounds, "MOST_WORK", bounds.MOST_WORK // 10)


@pytest.mark.parametrize("template", [*ENDLESS, *GROWING, *HUGE])
@pytest.mark.usefixtures("little")
def test_what_would_not_end_or_not_fit_is_refused(template: str) -> None:
    with pytest.raises(TemplateFailed, match=REFUSED):
        TEMPLATES.render(template, Scope())


@pytest.mark.parametrize("template", PATTERNS)
def test_a_pattern_that_runs_away_is_stopped(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex, "SECONDS", 0.3)
    with pytest.raises(TemplateFailed, match="takes longer than"):
        TEMPLATES.render(template, Scope())


@pytest.mark.usefixtures("little")
def test_variables_that_double_each_other_are_refused() -> None:
    lists: dict[str, Any] = {f"v{n}": f"{{{{ [v{n - 1}, v{n - 1}] }}}}" for n in range(1, 60)}
    with pytest.raises(TemplateFailed, match="works too much"):
        TEMPLATES.render("{{ v59 }}", Scope(vars={**lists, "v0": [1]}))
    texts: dict[str, Any] = {f"v{n}": f"{{{{ v{n - 1} ~ v{n - 1} }}}}" for n in range(1, 60)}
    with pytest.raises(TemplateFailed, match="larger than"):
        TEMPLATES.render("{{ v59 }}", Scope(vars={**texts, "v0": "ab"}))


@pytest.mark.usefixtures("little")
def test_the_same_work_is_paid_by_each_rendering_anew() -> None:
    template = "{{ range(5000) | map('string') | list | length }}"
    assert [TEMPLATES.render(template, Scope()) for _ in range(12)] == [5000] * 12


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ text | replace('x' * 60, 'yy') | length }}", 200_000),
        ("{{ text.replace('abc', 'abcd') | length }}", 240_000),
        ("{{ text | regex_search('needle.*') }}", None),
        ("{{ rows | map(attribute='name') | join(', ') | length }}", 108_888),
        ("{{ rows | selectattr('size', '>', 9990) | map(attribute='name') | list | length }}", 9),
        ("{{ rows | sum(attribute='size') }}", 49_995_000),
        ("{{ rows | map(attribute='tags') | sum(start=[]) | length }}", 20_000),
        ("{{ [[1], [2, 3]] | sum(start=[]) }}", [1, 2, 3]),
        ("{{ rows | groupby('kind') | length }}", 3),
        ("{% for r in rows %}{{ r.name }} {% if r.size > 5 %}x{% endif %}\n{% endfor %}", None),
        ("{{ '%05d %-8s|%s' | format(7, 'a', 'b') }}", "00007 a       |b"),
        ("{{ '{:>8}|{a:.2f}'.format(7, a=2.5) }}", "       7|2.50"),
        ("{{ '20260131140509 {}'.format(1) }}", "20260131140509 1"),
        ("{{ '100% {}'.format(1) }}", "100% 1"),
        ("{{ [1, 2, 3, 4][1:3] }}", [2, 3]),
        ("{{ 1 < 2 < 3 and 2 in [1, 2] and 'a' ~ 1 == 'a1' }}", True),
        ("{% set a, b = (1, 2) %}{{ a }}{{ b }}", "12"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{{ nothing | default([1, 2]) | join(',') }}", "1,2"),
        ("{{ [{'a': 1}] | map(attribute='a') | first }}", 1),
        ("{{ 'a\\nb' | indent(2) }}", "a\n  b"),
        ("{{ {'b': 1, 'a': 2} | dictsort | map('first') | join }}", "ab"),
        ("{{ ['a', 'b'] | join('-') | upper }}", "A-B"),
        ("{{ (1, 2) + (3,) }}", [1, 2, 3]),
    ],
)
def test_honest_work_on_large_values_is_done(template: str, expected: object) -> None:
    names = {
        "text": "abcd " * 40_000,
        "rows": [
            {"name": f"name-{n}", "size": n, "kind": n % 3, "tags": ["a", "b"]}
            for n in range(10_000)
        ],
    }
    made = TEMPLATES.render(template, Scope(names))
    if expected is not None:
        assert made == expected


# -- regular expressions --------------------------------------------------------------------------
@pytest.mark.parametrize("apart", [False, True])
def test_patterns_match_alike_here_and_apart(apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if apart:
        monkeypatch.setattr(regex, "_CHEAP", -1)
    assert regex.matches(r"\d+\.\d+", "5.10")
    assert not regex.matches(r"\d+\.\d+", "5.10 ")
    assert regex.search("[ö-ü]+", "xöüy") == "öü"
    assert regex.search("z", "xöüy") is None
    assert regex.beginning_with("web[12]", ["web1", "web3", "aweb1"]) == ["web1"]
    assert regex.replace(r"(\w)(\d)", "a1 b2 c3", r"\2\1", count=2) == "1a 2b c3"
    with pytest.raises(ValueError, match="larger than 10 characters"):
        regex.replace("a", "aaaa", "bbbb", most=10)
    with pytest.raises(re.error):
        regex.search("(", "x")


@pytest.mark.parametrize(
    "pattern", [r"(a+)+", r"(a|aa)*$", r"(?:a*b?)*c", r"((ab)?c*)+", r"(\w{1,9}){2,}"]
)
def test_a_pattern_that_repeats_what_repeats_is_matched_apart(pattern: str) -> None:
    assert regex._steps(pattern, 40) > regex._CHEAP


@pytest.mark.parametrize(
    "pattern", [r"\d+\.\d+", r"v?\d+(\.\d+)?", r"[(+)*]+x", r"\(a\+\)\+", r"(ab)+", "ERROR.*"]
)
def test_a_plain_pattern_is_matched_here(pattern: str) -> None:
    assert regex._steps(pattern, 40) <= regex._CHEAP
