"""Files that an action renders are checked before a run, and templating can be switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loader.conftest import Desk

NOTICES = "notify: {channels: {team: {console: {}}}}\n"
VENDORS = [
    ('summary: "{{ $labels.pod }} is down"', "unexpected char"),
    ("summary: ${#a[@]}\nx: '{# never closed'", "comment"),
    ("image: app:{{ inputs.versoin }}", "no input 'versoin'"),
    ("a: 1\nimage: app:{{ nowhere }}", "'nowhere' is undefined"),
    ("image: {{ x | to_jsn }}", "unknown filter 'to_jsn'"),
]


@pytest.mark.parametrize(("text", "said"), VENDORS)
def test_what_will_not_render_is_found_with_its_line(desk: Desk, text: str, said: str) -> None:
    desk.write("files/m.yml", text)
    problems = desk.problems("steps: [{kubectl.apply: {file: files/m.yml}}]", "name: x")
    found = [each for each in problems if said.lower() in each.message.lower()]
    assert found, problems
    assert found[0].file.endswith("files/m.yml")
    if said.startswith("'nowhere'"):
        assert (found[0].line, found[0].column) == (2, 15)
    desk.load("steps: [{kubectl.apply: {file: files/m.yml, template: false}}]", "name: x")


def test_the_way_out_is_told(desk: Desk) -> None:
    desk.write("files/m.yml", VENDORS[0][0])
    (problem,) = desk.problems("steps: [{kubectl.apply: {file: files/m.yml}}]", "name: x")
    assert "`template: false`" in problem.suggestion


def test_a_script_is_a_template_only_if_it_says_so(desk: Desk) -> None:
    desk.write("x.sql", "select '{{ nowhere }}'")
    inventory = "sql: {primary: {dsn: x}}"
    desk.load("steps: [{sql.script: {file: x.sql}}]", inventory)
    (problem,) = desk.problems("steps: [{sql.script: {file: x.sql, template: true}}]", inventory)
    assert "'nowhere' is undefined" in problem.message


def test_a_notice_has_to_be_there_and_its_placeholders_have_values(desk: Desk) -> None:
    desk.write("files/notices/en/done.txt", "Subject: {{ what }}\n\n{{ who }}\n")
    step = "steps: [{{notify.send: {{channel: team, template: {0}, vars: {{what: x{1}}}}}}}]"
    (problem,) = desk.problems(step.format("dnoe", ""), NOTICES)
    assert "there is no notice 'dnoe'" in problem.message
    assert problem.suggestion == "did you mean 'done'?"
    (problem,) = desk.problems(step.format("done", ""), NOTICES)
    assert problem.file.endswith("done.txt")
    assert problem.line == 3
    assert "'who' is undefined" in problem.message
    desk.load(step.format("done", ", who: y"), NOTICES)


def test_a_part_alone_does_not_know_where_notices_lie(desk: Desk) -> None:
    step = "steps: [{notify.send: {channel: team, template: done}}]"
    desk.load(step)
    assert desk.problems(step, NOTICES)
