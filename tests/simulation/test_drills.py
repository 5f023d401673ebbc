"""Scenarios are checked as runbooks are, played in virtual time, and judged by what happened."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from engine.cli.main import invoke
from engine.drill import Played, play, read_drills
from engine.errors import InvalidRunbook
from tests.surroundings import ROOT

SHIPPED = sorted((ROOT / "runbooks/drills").glob("*.yml"))

SMALL = """\
name: Take it back
runbook: {root}/runbooks/emergency-rollback.yml
inputs: {{severity: P1}}
timeline:
  - id: fault
    at: 10s
    note: 5.0 becomes slow for a moment
    fault: {{version: "5.0", latency: 0.1}}
answers:
  - {{gate: ask, after: 2m, by: incident commander}}
"""
"""A scenario that takes little time: nothing is deployed."""


def scenario(folder: Path, text: str) -> Path:
    """A scenario's file; `{root}` in the text is the repository."""
    path = folder / "scenario.yml"
    path.write_text(text)
    return path


def played(folder: Path, expect: str = "") -> Played:
    path = scenario(folder, SMALL.format(root=ROOT) + expect)
    (drill,) = read_drills(path)
    return play(drill, folder / "state")


def problems(path: Path) -> list[str]:
    with pytest.raises(InvalidRunbook) as caught:
        read_drills(path)
    return [str(each).removeprefix(f"{path}:") for each in caught.value.problems]


def verdicts(one: Played) -> dict[str, bool]:
    return {each.expectation: each.met for each in one.judgements}


# -- playing ------------------------------------------------------------------------------------
SAMPLE = {
    "automatic-rollback": 0,
    "crash-and-resume": 0,
    "data-loss-and-restore": 0,
    "failing-backup": 0,
    "half-reachable-load-balancer": 0,
    "operator-takes-over": 0,
    "second-operator": 0,
}
"""Drill → the case that is played each time; the others are slow together."""


@pytest.mark.parametrize(("name", "case"), SAMPLE.items(), ids=list(SAMPLE))
def test_shipped_drills_are_passed(name: str, case: int, tmp_path: Path) -> None:
    one = play(read_drills(ROOT / f"runbooks/drills/{name}.yml")[case], tmp_path)
    assert one.passed, [each for each in one.judgements if not each.met]


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_drill_is_passed(path: Path, tmp_path: Path) -> None:
    for drill in read_drills(path):
        one = play(drill, tmp_path)
        assert one.passed, (one.name, [each for each in one.judgements if not each.met])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_drills_can_be_read(path: Path) -> None:
    assert read_drills(path)


def test_what_was_expected_and_did_not_happen_is_told(tmp_path: Path) -> None:
    one = played(
        tmp_path,
        """\
expect:
  - outcome == 'succeeded'
  - outcome == 'rescued'
  - started('back') within 3m
  - started('back') within 1m
  - {that: started('back'), within: 2m, of: fault, name: soon after the fault}
  - always elapsed < 5
  - always traffic('5.0') == 100
""",
    )
    assert verdicts(one) == {
        "outcome == 'succeeded'": True,
        "outcome == 'rescued'": False,
        "started('back') within 3m": True,
        "started('back') within 1m": False,
        "soon after the fault": True,
        "always elapsed < 5": False,
        "always traffic('5.0') == 100": True,
    }
    figures = {each.expectation: each.figure for each in one.judgements}
    assert figures["started('back') within 1m"].startswith("2m00s of")
    assert figures["outcome == 'rescued'"] == "succeeded"


def test_who_never_answers_lets_the_run_wait_until_the_drill_is_over(tmp_path: Path) -> None:
    path = scenario(
        tmp_path,
        SMALL.format(root=ROOT).replace("after: 2m", "answer: never")
        + "lasts: 30m\nexpect: [\"status('ask') == 'gate'\", not started('back')]\n",
    )
    one = play(read_drills(path)[0], tmp_path / "state")
    assert one.passed
    assert one.seconds == pytest.approx(1800, abs=1)


# -- what is wrong with a file --------------------------------------------------------------------
def test_every_problem_is_told_with_its_place_and_what_was_meant(tmp_path: Path) -> None:
    path = scenario(
        tmp_path,
        f"""\
name: Wrong in every line
runbook: {ROOT}/runbooks/deploy-5.1.yml
inputs: {{version: latest}}
timeline:
  - at: soon
    note: a time that is none
  - id: one
    when: trafic('5.1') >= 5
    fault: {{version: "5.1", eror_rate: 0.5}}
  - at: 5m
  - at: 5m
    down: [clutser, channel nobody]
    stop: {{run: second}}
answers:
  - {{gate: execute/phases/canary/beginn}}
expect:
  - status('execute/phases/cannary') == 'succeeded'
  - traffic('6.0') == 100 within 30s of fualt
  - notified('everyone')
  - metric('eror_rate') < 1
  - always weights_agre
  - outcome ==
""",
    )
    found = problems(path)
    for wanted in (
        "5:9: `at` wants a duration such as 90s, 5m or 1h30m, not the text 'soon'",
        "9:29: unknown key 'eror_rate' in `fault` … did you mean 'error_rate'?",
    ):
        assert any(each.startswith(wanted) for each in found), (wanted, found)
    path.write_text(
        path.read_text().replace("at: soon", "at: 1m").replace("eror_rate: 0", "error_rate: 0")
    )
    found = problems(path)
    for wanted in (
        "8:11: 'trafic' means nothing here … did you mean 'traffic'?",
        "10:5: nothing happens here",
        "12:12: nothing is called 'clutser' … did you mean 'cluster'?",
        "12:21: the inventory has no channel 'nobody'",
        "13:17: there is no run 'second'",
        "15:12: no confirmation fits 'execute/phases/canary/beginn' … did you mean 'execute/phases",
        "17:13: there is no step 'execute/phases/cannary' … did you mean 'execute/phases/canary'?",
        "18:14: there is no version '6.0'",
        "18:41: there is no moment 'fualt'",
        "19:15: there is no channel, transport or severity 'everyone'",
        "20:13: there is no metric 'eror_rate' … did you mean 'error_rate'?",
        "21:12: 'weights_agre' means nothing here … did you mean 'weights_agree'?",
        "22:5: the expression ends where a value is due",
    ):
        assert any(each.startswith(wanted) for each in found), (wanted, found)
    assert any(each.startswith("3:9: `version` wants text") for each in found), found


def test_a_runbook_of_a_scenario_is_checked_as_well(tmp_path: Path) -> None:
    (tmp_path / "book.yml").write_text("name: x\nsteps:\n  - shel: echo hello\n")
    path = scenario(tmp_path, "name: x\nrunbook: book.yml\n")
    with pytest.raises(InvalidRunbook) as caught:
        read_drills(path)
    assert any("book.yml:3" in str(each) for each in caught.value.problems)


def test_a_matrix_makes_a_drill_of_every_combination(tmp_path: Path) -> None:
    path = scenario(
        tmp_path,
        f"""\
name: Slow
runbook: {ROOT}/runbooks/emergency-rollback.yml
matrix:
  who: [{{name: alice}}, {{name: bob}}]
  how: [{{name: little, fault: {{latency: 0.1}}}}, {{name: much, fault: {{latency: 2}}}}]
timeline:
  - at: 1s
    fault: "{{{{ case.how.fault }}}}"
answers: [{{gate: ask, by: "{{{{ case.who.name }}}}"}}]
expect: [case.how.name != 'none']
""",
    )
    drills = read_drills(path)
    assert [each.name for each in drills] == [
        "Slow: alice, little",
        "Slow: alice, much",
        "Slow: bob, little",
        "Slow: bob, much",
    ]
    fault = drills[1].scenario.timeline[0].fault
    assert fault is not None
    assert fault.latency == 2
    assert drills[3].scenario.answers[0].by == "bob"
    path.write_text(path.read_text().replace("case.how.fault", "case.hwo.fault"))
    assert problems(path)[0].startswith("8:12:")


# -- the command --------------------------------------------------------------------------------
def test_the_command_prints_a_table_and_ends_with_1_when_something_was_not_met(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.format(root=ROOT) + "expect: [outcome == 'succeeded', outcome == 'rescued']\n"
    path = scenario(tmp_path, text)
    report = tmp_path / "junit.xml"
    arguments = ["drill", str(path), "--state", str(tmp_path / "state")]
    assert invoke([*arguments, "--junit", str(report)]) == 1
    shown = capsys.readouterr().out
    assert "Take it back: FAILED" in shown
    assert "pass  outcome == 'succeeded'  succeeded" in shown
    assert "FAIL  outcome == 'rescued'    succeeded" in shown
    assert "1 drill: 0 passed, 1 failed" in shown
    suite = ElementTree.parse(report).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")

    assert invoke([*arguments, "--output", "json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)["drills"]
    assert told["outcomes"] == {"main": "succeeded"}
    run = told["runs"]["main"]
    assert (tmp_path / "state/drills/runs" / run / "journal.jsonl").is_file()


def test_files_are_refused_before_anything_is_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scenario(tmp_path, "name: x\nrunbok: y\n")
    assert invoke(["drill", str(path), "--state", str(tmp_path / "state")]) == 2
    shown = capsys.readouterr().err
    assert "2:1: unknown key 'runbok' in a scenario … did you mean 'runbook'?" in shown
    assert not (tmp_path / "state/drills").exists()


# -- a world of a file --------------------------------------------------------------------------
def test_a_world_file_says_what_the_model_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "book.yml"
    book.write_text("name: x\nsteps:\n  - {id: ask, shell: {command: my-tool status}}\n")
    world = tmp_path / "world.yml"
    world.write_text("commands: [{command: my-tool, code: 3, stderr: it is not well}]\n")
    arguments = ["run", str(book), "--state", str(tmp_path / "state"), "--simulate"]
    assert invoke(arguments) == 0, "what nobody knows is assumed to succeed"
    assert invoke([*arguments, "--world", str(world)]) == 1
    assert "it is not well" in capsys.readouterr().out
    world.write_text("comands: []\n")
    assert invoke([*arguments, "--world", str(world)]) == 2
    assert "unknown key 'comands' in a world … did you mean 'commands'?" in capsys.readouterr().err
    assert invoke([*arguments[:-1], "--world", str(world)]) == 2
