"""What is only looked at is not executed: modules are read, and say the same as when imported."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import pytest

from engine.errors import InvalidRunbook
from engine.registry import Registry
from tests.cli.conftest import Desk

HOSTILE = '''\
"""Does harm when it is imported."""
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import msgspec

import a_driver_that_is_not_there
from engine.module_api import Context, Duration, Name, Result, action

Path(__file__).with_name("executed").touch()
Colour = Literal["red", "blue"]


class Size(msgspec.Struct):
    width: int
    height: int = 5


class Labels(TypedDict, total=False):
    team: str


@action(effect="read", remote="ssh.run")
def paint(
    ctx: Context,
    colour: Colour,
    *,
    size: Size | None = None,
    labels: Labels = {},
    within: Duration = 5.0,
    metric: Annotated[str, Name("metrics", "metric")] = "",
    strange: a_driver_that_is_not_there.Thing = a_driver_that_is_not_there.DEFAULT,
) -> Result:
    """Paint it.

    Args:
        colour: of the paint.
    """
    return Result()


@paint.check
def paint_check(ctx, args):
    return Result()
'''


def test_a_module_is_read_and_not_executed(tmp_path: Path) -> None:
    (tmp_path / "house.py").write_text(HOSTILE)
    info = Registry([tmp_path], imports=False).action("house")
    assert info is not None
    assert not (tmp_path / "executed").exists()
    assert (info.effect, info.local, info.remote) == ("read", True, "ssh.run")
    assert info.summary == "Paint it."
    assert info.parameters["colour"].doc == "of the paint."
    assert info.parameters["colour"].required
    assert info.checker is not None
    fine = {"colour": "red", "size": {"width": 1}, "labels": {"team": "x"}, "within": "5m"}
    assert info.check({**fine, "strange": 1}) == []
    wrong = info.check({"colour": "green", "size": {"wdth": 1}, "within": "soon", "x": 1})
    assert len(wrong) == 5
    assert [each.text for each in info.names({"colour": "red", "metric": "m"})] == ["m"]


@pytest.mark.parametrize(
    "command",
    [["validate", "book.yml"], ["graph", "book.yml"], ["modules"], ["modules", "house"]],
)
def test_looking_executes_nothing(desk: Desk, command: list[str]) -> None:
    desk.write(HOSTILE, "modules/house.py")
    desk.write("steps: [{house: red}]\n")
    done = desk.ce_run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (desk.folder / "modules" / "executed").exists()


def test_what_is_no_python_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def x(:\n")
    with pytest.raises(InvalidRunbook) as caught:
        Registry([tmp_path], imports=False).action("broken")
    assert caught.value.problems[0].line == 1


@pytest.mark.parametrize("name", Registry().names())
def test_the_built_in_modules_read_as_they_are_imported(tmp_path: Path, name: str) -> None:
    imported = Registry().module(name)
    assert imported is not None
    file = Path(imported.file)
    if file.name == "__init__.py":
        shutil.copytree(file.parent, tmp_path / file.parent.name)
    else:
        shutil.copy(file, tmp_path)
    read = Registry([tmp_path], builtin=False, imports=False).modules()[0]
    assert sorted(read.actions) == sorted(imported.actions)
    for each, info in imported.actions.items():
        other = read.actions[each]
        assert (other.effect, other.doc, other.local) == (info.effect, info.doc, info.local)
        assert other.action.simulates == info.action.simulates
        assert list(other.parameters) == list(info.parameters)
        required = [p.name for p in info.parameters.values() if p.required]
        assert [p.name for p in other.parameters.values() if p.required] == required


@pytest.mark.parametrize("imports", [True, False])
def test_a_module_may_be_a_package(tmp_path: Path, imports: bool) -> None:
    folder = tmp_path / "painting"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        '"""Paints."""\nfrom .rooms import room\nfrom ._colours import RED\n'
    )
    (folder / "_colours.py").write_text("RED = 'red'\n")
    (folder / "rooms.py").write_text(
        textwrap.dedent(
            '''\
            """Rooms."""
            from engine.module_api import Context, Result, action
            from ._colours import RED

            @action(effect="read")
            def room(ctx: Context, name: str) -> Result:
                """Paint a room."""
                return Result(message=f"{name} is {RED}")
            '''
        )
    )
    info = Registry([tmp_path], imports=imports).action("painting.room")
    assert info is not None
    assert (info.summary, list(info.parameters)) == ("Paint a room.", ["name"])
    if imports:
        assert info.function(None, "hall").message == "hall is red"


@pytest.mark.parametrize("imports", [True, False])
def test_a_module_that_is_there_twice_is_refused(tmp_path: Path, imports: bool) -> None:
    (tmp_path / "paint").mkdir()
    (tmp_path / "paint" / "__init__.py").write_text("")
    (tmp_path / "paint.py").write_text("")
    with pytest.raises(InvalidRunbook) as caught:
        Registry([tmp_path], imports=imports).module("paint")
    assert "is there twice: paint/__init__.py and paint.py" in caught.value.problems[0].message


def test_a_folder_of_ones_own_may_replace_a_module_by_a_package(tmp_path: Path) -> None:
    (tmp_path / "shell").mkdir()
    (tmp_path / "shell" / "__init__.py").write_text('"""Mine."""\n')
    info = Registry([tmp_path]).module("shell")
    assert info is not None
    assert info.doc == "Mine."


REPEATING = '''\
from engine.module_api import Context, Result, action

@action(effect="idempotent")
def paint(ctx: Context, name: str, *, count: int = 1) -> Result:
    """Paint."""
    return Result()

@paint.check
def paint_check(ctx, %s):
    return Result()
'''


@pytest.mark.parametrize("imports", [True, False])
@pytest.mark.parametrize("more", ["name, *, count=1", "args, **others", "", "args, *rest"])
def test_a_companion_that_repeats_the_signature_is_refused(
    tmp_path: Path, more: str, imports: bool
) -> None:
    (tmp_path / "paint.py").write_text(REPEATING % more)
    with pytest.raises(InvalidRunbook) as caught:
        Registry([tmp_path], imports=imports).module("paint")
    problem = caught.value.problems[0]
    assert "paint_check is a companion and takes two arguments: `(ctx: Context" in problem.message
    assert problem.line in (8, 9)
