"""validate, modules and graph: what writers of runbooks read, compared with files.

Run this file as a program (``python -m tests.cli.test_writing``) to write the files anew.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli.drawing.layout import Box, lay_out
from engine.cli.drawing.times import planned_times
from engine.cli.main import invoke
from engine.loader import load
from engine.plan import build_plan
from engine.registry import Registry
from tests.cli.conftest import Desk
from tests.surroundings import ROOT

GOLDEN = Path(__file__).parent / "golden"

TOYS = "../../report/toys"

CASES = {
    "validate.txt": ["validate", "broken.yml", "picture.yml"],
    "validate.json": ["validate", "broken.yml", "picture.yml", "--output", "json"],
    "module.txt": ["modules", "toy", "--modules", TOYS],
    "action.txt": ["modules", "toy.act", "--modules", TOYS],
    "graph.txt": ["graph", "picture.yml"],
    "graph.mmd": ["graph", "picture.yml", "--format", "mermaid"],
    "graph.dot": ["graph", "picture.yml", "--format", "dot"],
    "graph.svg": ["graph", "picture.yml", "--format", "svg"],
}


def printed(words: list[str]) -> str:
    """What a command prints, run in the folder of the golden files."""
    stream = io.StringIO()
    with contextlib.chdir(GOLDEN), contextlib.redirect_stdout(stream):
        invoke(words)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def _not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


@pytest.mark.parametrize("name", CASES)
def test_output_is_that_of_the_file(name: str) -> None:
    assert printed(CASES[name]) == (GOLDEN / name).read_text(encoding="utf-8")


def test_validate_exits_with_2_when_any_file_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(GOLDEN)
    assert invoke(["validate", "picture.yml"]) == 0
    assert capsys.readouterr().out == "picture.yml: ok, 14 steps\n"
    assert invoke(["validate", "picture.yml", "broken.yml"]) == 2


def test_the_caret_stands_below_the_column_also_behind_wide_characters(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(desk.folder)
    desk.write("name: x\nsteps: [{name: 部署, shel: echo}]\n")
    assert invoke(["validate", "book.yml"]) == 2
    place, source, caret, *_ = capsys.readouterr().out.splitlines()
    assert place.startswith("book.yml:2:20: ")
    assert source == "  steps: [{name: 部署, shel: echo}]"
    assert caret == " " * (2 + 19 + 2) + "^"


def test_github_actions_gets_annotations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(GOLDEN)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    invoke(["validate", "broken.yml"])
    assert "::error file=broken.yml,line=6,col=13::unknown step 'bakup'" in capsys.readouterr().out


def test_modules_of_a_folder_are_listed_with_the_built_in_ones(desk: Desk) -> None:
    desk.write(
        '''
        """Cook.

        Inventory section ``kitchen``: none.
        """

        from engine.module_api import Context, Result, action


        @action(effect="once")
        def cook(ctx: Context, dish: str) -> Result:
            """Cook a dish."""
            return Result()
        ''',
        "mine/kitchen.py",
    )
    listed = desk.ce_run("modules", "--modules", "mine").stdout
    assert "kitchen  Cook." in listed
    assert "kubectl.apply" in listed
    told = desk.ce_run("modules", "kitchen", "--modules", "mine").stdout
    assert "Cook a dish." in told
    assert "Inventory section `kitchen`: none." in told
    [action] = json.loads(
        desk.ce_run("modules", "kitchen", "--modules", "mine", "--output", "json").stdout
    )["arguments"]
    assert (action["name"], action["type"], action["required"]) == ("dish", "str", True)


def test_times_of_a_former_run(desk: Desk) -> None:
    desk.write("name: Timed\nsteps:\n  - {id: a, shell: 'true'}\n  - {id: b, shell: 'true'}\n")
    assert desk.ce_run("book.yml").returncode == 0
    drawn = desk.ce_run("graph", "book.yml", "--run", "last").stdout
    assert "s as measured)" in drawn
    assert "* a" in drawn


def test_what_goes_on_for_a_while_counts_on_the_critical_path(desk: Desk) -> None:
    desk.write(
        """
        name: Soak
        steps:
          - id: soak
            metrics.soak: {for: 24m, expect: {p95: "< 1 ms"}}
          - id: watch
            needs: []
            http-check: {url: "http://127.0.0.1/", duration: 25m}
          - id: report
            needs: []
            wait: {for: 20m}
        """
    )
    drawn = desk.ce_run("graph", "book.yml").stdout.splitlines()
    assert drawn[0] == "Soak  (* critical path: 25m)"
    assert [each.split()[1] for each in drawn if each.startswith("* ")] == ["watch"]


def test_a_step_of_unknown_length_makes_the_critical_path_a_guess(desk: Desk) -> None:
    desk.write(
        "name: Guess\nsteps:\n  - {shell: 'true', timeout: 5m}\n  - {id: b, shell: 'true'}\n"
    )
    assert "(* critical path: up to about 5m1s)" in desk.ce_run("graph", "book.yml").stdout
    desk.write("name: Bound\nsteps:\n  - {shell: 'true', timeout: 5m}\n")
    assert "(* critical path: at most 5m)" in desk.ce_run("graph", "book.yml").stdout


# -- the picture -----------------------------------------------------------------------------------
def boxes_of(box: Box, x: float = 0.0, y: float = 0.0) -> Iterator[tuple[Box, float, float]]:
    """Every box with its place on the page."""
    yield box, x, y
    for inner in box.boxes:
        yield from boxes_of(inner, x + inner.x, y + inner.y)


def picture() -> Box:
    """The layout of the golden runbook."""
    runbook, inventory = load(GOLDEN / "picture.yml", registry=Registry())
    plan = build_plan(runbook)
    return lay_out(plan, planned_times(plan, inventory))


def test_boxes_lie_inside_their_group_and_beside_each_other() -> None:
    for box, _, _ in boxes_of(picture()):
        for inner in box.boxes:
            assert inner.x > 0
            assert inner.x + inner.width < box.width + 0.01
            assert inner.y > 0
            assert inner.y + inner.height < box.height + 0.01
        for a in box.boxes:
            for b in box.boxes:
                apart = (
                    a.x + a.width <= b.x
                    or b.x + b.width <= a.x
                    or a.y + a.height <= b.y
                    or b.y + b.height <= a.y
                )
                assert a is b or apart, (a.node, b.node)


def test_what_needs_a_step_stands_below_it() -> None:
    for box, _, _ in boxes_of(picture()):
        places = {inner.node.index: inner for inner in box.boxes}
        for inner in box.boxes:
            for need in inner.node.needs:
                assert places[need].y + places[need].height < inner.y


def test_the_svg_is_well_formed_and_names_every_step() -> None:
    root = ElementTree.fromstring((GOLDEN / "graph.svg").read_text(encoding="utf-8"))
    texts = {each.text for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"backup", "prepare: Look & <feel> · ≤ 30m", "switch"} <= texts
    assert "prefers-color-scheme: dark" in (GOLDEN / "graph.svg").read_text(encoding="utf-8")


def main() -> None:
    """Write the golden files anew."""
    os.environ.pop("GITHUB_ACTIONS", None)
    for name, words in CASES.items():
        (GOLDEN / name).write_text(printed(words), encoding="utf-8")


def test_the_groups_of_a_big_runbook_are_folded_in_its_picture() -> None:
    runbook, inventory = load(ROOT / "runbooks" / "deploy-5.1.yml", registry=Registry())
    plan = build_plan(runbook)
    times = planned_times(plan, inventory)
    folded, whole = lay_out(plan, times), lay_out(plan, times, 99)
    assert folded.width < 1500
    assert folded.height < 3000
    assert whole.height > 2 * folded.height
    texts = [text for box, _, _ in boxes_of(folded) for text in box.lines]
    assert any(re.match(r"\d+ steps", text) for text in texts)


if __name__ == "__main__":
    main()
