"""Finding modules, and what their actions take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidRunbook
from engine.registry import ActionInfo, BadArguments, Registry

TOYS = Path(__file__).parent / "loader" / "toys"


@pytest.fixture
def registry() -> Registry:
    """The built-in modules and the toys."""
    return Registry([TOYS])


def action(registry: Registry, name: str) -> ActionInfo:
    found = registry.action(name)
    assert found is not None
    return found


# -- finding ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("toy.look", "toy.look"),
        ("toy.rollout_status", "toy.rollout-status"),
        ("toy.rollout-status", "toy.rollout-status"),
        ("single-action", "single-action"),
        ("single_action", "single-action"),
        ("single_action.go", "single-action"),
    ],
)
def test_an_action_has_one_canonical_name(registry: Registry, written: str, canonical: str) -> None:
    assert action(registry, written).name == canonical
    assert action(registry, canonical).name == canonical


def test_what_is_no_action(registry: Registry) -> None:
    for name in ("toy", "toy.nope", "nope", "toy.look.more", "", ".", "__init__", "os.path"):
        assert registry.action(name) is None


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("toy.lok", "did you mean 'toy.look'?"),
        ("toi.look", "did you mean 'toy.look'?"),
        ("toy", "its actions are: toy.look, toy.poke, toy.rollout-status"),
        ("single_acton", "did you mean 'single-action'?"),
        ("zzzzzzz", ""),
    ],
)
def test_the_nearest_action_is_suggested(registry: Registry, name: str, suggestion: str) -> None:
    assert registry.suggest(name) == suggestion


def test_only_the_modules_that_are_named_are_imported() -> None:
    program = (
        "import sys\n"
        "from engine.registry import Registry\n"
        "assert Registry().action('shell') is not None\n"
        "loaded = [n for n in sys.modules if n.startswith('modules.')]\n"
        "assert all(n == 'modules.shell' or n.startswith('modules._') for n in loaded), loaded\n"
        "heavy = ['jinja2', 'networkx', 'rich', 'httpx', 'kubernetes', 'psycopg', 'yaml']\n"
        "assert not [n for n in heavy if n in sys.modules]\n"
        "assert 'importlib.metadata' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_folder_of_ones_own_comes_before_the_built_in_modules(tmp_path: Path) -> None:
    (tmp_path / "shell.py").write_text(
        "from engine.module_api import Context, Result, action\n"
        "from ._shared import GREETING\n"
        "@action(effect='read')\n"
        "def shell(ctx: Context) -> Result:\n"
        "    '''Mine.'''\n"
        "    return Result(message=GREETING)\n"
    )
    (tmp_path / "_shared.py").write_text("GREETING = 'hello'\n")
    registry = Registry()
    assert action(registry, "shell").summary != "Mine."
    registry.add_folder(tmp_path)
    registry.add_folder(tmp_path / "not there")
    assert action(registry, "shell").summary == "Mine."
    assert "_shared" not in registry.names()


def test_entry_points_are_found_when_a_name_is_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "far_away.py"
    package.write_text((TOYS / "single_action.py").read_text())
    info = tmp_path / "far_away-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ce_run.modules]\nfar_away = far_away\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert action(Registry(), "far-away").summary == "Go."


def test_a_module_that_cannot_be_imported_is_a_problem_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\n\nraise RuntimeError('no')\n")
    (tmp_path / "odd.py").write_text(
        "from engine.module_api import Context, Result, action\n"
        "@action(effect='read')\n"
        "def odd(ctx: Context, when: complex) -> Result:\n"
        "    return Result()\n"
    )
    registry = Registry([tmp_path])
    with pytest.raises(InvalidRunbook) as caught:
        registry.action("broken")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (str(tmp_path / "broken.py"), 3)
    assert problem.message == "the module broken cannot be imported: RuntimeError: no"
    with pytest.raises(InvalidRunbook) as caught:
        registry.action("odd")
    assert "no runbook can give a value for the annotation" in caught.value.problems[0].message


def test_every_built_in_action_can_be_described() -> None:
    found = [info for module in Registry().modules() for info in module.actions.values()]
    assert found
    for info in found:
        assert info.summary, info.name
        assert all(parameter.type_name for parameter in info.parameters.values())


# -- parameters ----------------------------------------------------------------------------
def test_a_signature_is_a_schema(registry: Registry) -> None:
    info = action(registry, "toy.look")
    assert (info.module, info.effect, info.inline, info.summary) == (
        "toy",
        "read",
        False,
        "Look at something.",
    )
    shown = {p.name: (p.type_name, p.required, p.default) for p in info.parameters.values()}
    assert shown["name"] == ("str", True, None)
    assert shown["for"] == ("duration", False, 5.0)
    assert shown["file"] == ("file | list[file] | None", False, None)
    assert shown["mode"] == ("'quick' | 'thorough'", False, "quick")
    assert info.parameters["count"].doc == "how often, with words that go on in a second line"
    assert info.first == "name"


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ({"name": "x"}, {"name": "x"}),
        ({"name": 5}, {"name": "5"}),
        ({"name": True}, {"name": "true"}),
        ({"name": "x", "count": "3"}, {"name": "x", "count": 3}),
        ({"name": "x", "count": 3.0}, {"name": "x", "count": 3}),
        ({"name": "x", "ratio": "0.5"}, {"name": "x", "ratio": 0.5}),
        ({"name": "x", "deep": "yes"}, {"name": "x", "deep": True}),
        ({"name": "x", "deep": "off"}, {"name": "x", "deep": False}),
        ({"name": "x", "for": "1h30m"}, {"name": "x", "for_": 5400.0}),
        ({"name": "x", "for": 7}, {"name": "x", "for_": 7.0}),
        ({"name": "x", "file": "a/b"}, {"name": "x", "file": Path("a/b")}),
        ({"name": "x", "file": ["a"]}, {"name": "x", "file": [Path("a")]}),
        ({"name": "x", "file": None}, {"name": "x", "file": None}),
        ({"name": "x", "labels": {"a": 1}}, {"name": "x", "labels": {"a": "1"}}),
    ],
)
def test_arguments_are_converted(
    registry: Registry, given: dict[str, Any], bound: dict[str, Any]
) -> None:
    assert action(registry, "toy.look").bind(given) == bound


def test_records_become_objects(registry: Registry) -> None:
    expect = action(registry, "toy.look").bind({"name": "x", "expect": {"status": ["200", 204]}})[
        "expect"
    ]
    assert type(expect).__name__ == "Expect"
    assert (expect.status, expect.json) == ([200, 204], [])


def test_arguments_beyond_the_named_ones_are_taken_where_the_action_takes_them(
    registry: Registry,
) -> None:
    info = action(registry, "single-action")
    assert info.bind({"command": "x", "other": 5}) == {"command": "x", "other": "5"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "toy.look lacks the argument 'name'"),
        ({"name": None}, "`name` wants text, not nothing"),
        ({"name": {"a": 1}}, "`name` wants text, not a mapping"),
        ({"name": "x", "nme": 1}, "toy.look has no argument 'nme' … did you mean 'name'?"),
        ({"name": "x", "count": True}, "`count` wants a whole number, not true"),
        ({"name": "x", "mode": "quck"}, "`mode` wants one of quick, thorough, not the text 'qu"),
        ({"name": "x", "expect": {"json": "x"}}, "`expect.json` wants a list, each an expression"),
        ({"name": "x", "expect": {"header": {"a": []}}}, "`expect.header.a` wants text, not a li"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    registry: Registry, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadArguments) as caught:
        action(registry, "toy.look").bind(given)
    assert caught.value.message.startswith(f"toy.look: {said}")
    assert caught.value.hint == "`ce-run modules toy.look` shows its arguments"
    assert not caught.value.retryable


def test_everything_that_does_not_fit_is_told_at_once(registry: Registry) -> None:
    with pytest.raises(BadArguments) as caught:
        action(registry, "toy.look").bind({"count": "a", "ratio": "b", "x": 1})
    assert len(caught.value.mismatches) == 4


def test_templates_pass_a_check_before_they_are_rendered(registry: Registry) -> None:
    info = action(registry, "toy.look")
    given = {"name": "x", "count": "{{ n }}", "expect": {"status": "{{ s }}"}, "for": "{{ d }}"}
    assert info.check(given) == []
    assert [m.at for m in info.check({**given, "labels": {"a": [], "b": "{{ x }}"}})] == [
        ("labels", "a")
    ]
