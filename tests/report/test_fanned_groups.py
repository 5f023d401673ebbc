"""Groups and included runbooks over hosts and items, from YAML to what is told of them."""

from __future__ import annotations

import textwrap
from pathlib import Path

from engine.cli.drawing.text import draw_text
from engine.cli.drawing.times import planned_times
from engine.events import TaskStarted
from engine.report.gather import gather
from engine.report.next_steps import CommandLines, advise
from engine.report.showing import show, timeline
from engine.report.summary import summary
from engine.runner import Signal
from engine.session import compare_plans
from tests.report.recorded import Recorded
from tests.report.test_told_runs import text

HOSTS = """
    name: test
    vars: {color: none}
    hosts:
      web:
        hosts:
          web01.example.com: {weight: 1, color: red}
          web02.example.com: {weight: 2}
          web03.example.com: {weight: 3, retired: true}
"""

ROLL = """
    name: Rolling update
    inventory: hosts.yml
    steps:
      - id: roll
        name: One host after the other
        hosts: web
        serial: 1
        register: rolled
        when: not (retired | default(false))
        steps:
          - {id: drain, toy.act: {seconds: 1s, message: "{{ inventory_hostname }} drained"}}
          - id: update
            register: updated
            toy.act: {seconds: 5s, message: "{{ host.weight }}", data: {size: "{{ weight * 10 }}"}}
          - id: health
            when: updated.size == host.weight * 10
            toy.act: {message: "{{ steps.update.result.message }} of {{ color }}", changed: false}
          - {id: enable, toy.act: {}}
      - id: sum
        toy.act:
          message: >-
            {{ rolled.results | map(attribute='host') | join(' ') }}:
            {{ steps.roll.status }} {{ updated.results | map(attribute='size') | list }}
            {{ steps['roll/health'].result.results | map(attribute='message') | list }}
"""


def record(folder: Path, text: str, **files: str) -> Recorded:
    """A run of a runbook, with files beside it."""
    (folder / "hosts.yml").write_text(textwrap.dedent(HOSTS))
    for name, content in files.items():
        (folder / f"{name}.yml").write_text(textwrap.dedent(content))
    return Recorded(folder, text)


def messages(run: Recorded) -> dict[str, str]:
    """What each step said, by path."""
    return {
        node.path: run.state.steps[node.index].tasks[0].message
        for node in run.state.walk()
        if node.index in run.state.steps and run.state.steps[node.index].tasks
    }


def shown(run: Recorded) -> str:
    """Everything that is told of a run."""
    facts = gather(run.plan, run.state, run.records, now=run.clock.now())
    advice = advise(facts, CommandLines())
    lines = show(facts, run.plan, advice, "journal.jsonl", diffs=True)
    lines += timeline(run.plan, run.records)
    return text([*lines, *summary(facts, run.plan, advice, "journal.jsonl")])


def test_a_rolling_update_is_a_group_over_hosts(tmp_path: Path) -> None:
    run = record(tmp_path, ROLL).run()
    assert run.state.outcome == "succeeded"
    assert messages(run) == {
        "roll[web01.example.com]/drain": "web01.example.com drained",
        "roll[web01.example.com]/update": "1",
        "roll[web01.example.com]/health": "1 of red",
        "roll[web01.example.com]/enable": "",
        "roll[web02.example.com]/drain": "web02.example.com drained",
        "roll[web02.example.com]/update": "2",
        "roll[web02.example.com]/health": "2 of none",
        "roll[web02.example.com]/enable": "",
        "sum": (
            'web01.example.com web02.example.com: succeeded [10, 20] ["1 of red", "2 of none"]'
        ),
    }


def test_what_it_did_is_told_by_instance(tmp_path: Path) -> None:
    told = shown(record(tmp_path, ROLL).run())
    assert "roll[web02.example.com]/health" in told
    assert "2 instances, 2 succeeded" in told
    assert "\n  drain " not in told, "the steps as written did not run by themselves"


def test_its_picture_is_that_of_the_file(tmp_path: Path) -> None:
    run = record(tmp_path, ROLL)
    before = text(draw_text(run.plan, planned_times(run.plan, run.inventory)))
    run.run()
    assert text(draw_text(run.plan, planned_times(run.plan, run.inventory))) == before
    assert "for each host" in before
    assert before.count("drain") == 1


def test_it_goes_on_with_the_host_where_it_was_interrupted(tmp_path: Path) -> None:
    run = record(tmp_path, ROLL).at(8.0, Signal("SIGTERM")).run()
    assert "roll[web02.example.com]/update" in shown(run)
    run.resume()
    assert run.state.outcome == "succeeded"
    attempts = [each.event.step for each in run.records if isinstance(each.event, TaskStarted)]
    assert attempts.count("roll[web01.example.com]/update") == 1
    assert attempts.count("roll[web02.example.com]/update") == 2


def test_failures_of_instances_are_told_with_their_path(tmp_path: Path) -> None:
    broken = ROLL.replace(
        'message: "{{ host.weight }}"',
        "fail: \"{{ 'refused' if host.weight == 2 else none }}\"",
    )
    run = record(tmp_path, broken).run()
    assert run.state.outcome == "failed"
    assert run.state.failure is not None
    assert run.state.failure.step == "roll[web02.example.com]/update"
    told = shown(run)
    assert "--redo 'roll[web02.example.com]/update'" in told, "a shell would take the brackets"


def test_an_included_runbook_runs_once_for_each_item_with_names_of_its_own(tmp_path: Path) -> None:
    inner = """
        name: Region
        inputs: {region: {type: string}}
        budget: 1m
        guards:
          - name: "errors"
            toy.look: {values: [0.1]}
            trip: result.value > 1
        steps:
          - {id: go, register: gone, toy.act: {message: "{{ inputs.region }}"}}
          - {id: after, toy.act: {message: "{{ gone.message }} {{ steps.go.result.message }}"}}
        rescue: [{id: back, toy.act: {message: "back {{ inputs.region }}"}}]
    """
    outer = """
        name: Regions
        steps:
          - id: each
            loop: [eu, us]
            runbook: region.yml
            with: {region: "{{ item }}"}
            undo: [{id: undo, toy.act: {message: "undo {{ item }}"}}]
          - {id: end, toy.act: {fail: failed}}
    """
    run = record(tmp_path, outer, region=inner).run()
    said = messages(run)
    assert said["each[eu]/runbook/go"] == "eu"
    assert said["each[us]/runbook/after"] == "us us"
    assert said["each[us].undo/undo"] == "undo us"
    assert run.state.outcome == "undone"
    plain = outer.replace(
        '            undo: [{id: undo, toy.act: {message: "undo {{ item }}"}}]\n', ""
    )
    run = record(tmp_path, plain, region=inner).run()
    assert messages(run)["each[us]/after"] == "us us"
    guards = {node.path for node in run.state.walk() if node.guards}
    assert guards == {"each[eu]", "each[us]"}


def test_inside_an_instance_a_step_may_loop_over_more(tmp_path: Path) -> None:
    book = """
        name: Nested
        inventory: hosts.yml
        steps:
          - id: out
            hosts: web
            steps:
              - id: in
                loop: [a, b]
                register: inner
                steps:
                  - {id: x, register: seen, toy.act: {message: "{{ host.name[:5] }}{{ item }}"}}
              - {id: y, loop: [1, 2], toy.act: {message: "{{ item }} {{ host.weight }}"}}
              - {id: z, toy.act: {message: "{{ seen.results | map(attribute='message') | join }}"}}
          - id: end
            toy.act:
              message: >-
                {{ seen.results | map(attribute='results') | sum(start=[])
                   | map(attribute='message') | join(' ') }}
    """
    run = record(tmp_path, book).run()
    said = messages(run)
    assert said["out[web01.example.com]/in[b]/x"] == "web01b"
    assert said["out[web02.example.com]/z"] == "web02aweb02b"
    assert said["end"] == "web01a web01b web02a web02b web03a web03b"


def test_items_that_nobody_may_see_are_rendered_anew_after_a_resume(tmp_path: Path) -> None:
    book = """
        name: Quiet
        steps:
          - id: keys
            loop: [first, second]
            no_log: true
            steps:
              - {id: a, toy.act: {seconds: 5s}}
              - {id: b, toy.act: {fail: "{{ 'failed' if item == 'second' else none }}"}}
    """
    run = record(tmp_path, book).at(7.0, Signal("SIGTERM")).run().resume()
    statuses = {node.path: run.state.status(node) for node in run.state.walk()}
    assert statuses["keys[1]/b"] == "succeeded"
    assert statuses["keys[2]/b"] == "failed"
    assert b"second" not in run.disk.data


def test_a_group_of_no_host_is_left_out_and_says_so(tmp_path: Path) -> None:
    run = record(tmp_path, ROLL.replace("not (retired | default(false))", "weight > 5")).run()
    step = run.state.steps[run.plan.by_path["roll"]]
    assert (step.status, step.reason) == ("skipped", "no host or item is left for it")


def test_a_failed_host_is_left_to_its_own_rescue(tmp_path: Path) -> None:
    book = """
        name: Rescue
        inventory: hosts.yml
        steps:
          - id: roll
            hosts: web
            serial: 1
            steps:
              - {id: up, toy.act: {fail: "{{ 'failed' if host.weight == 2 else none }}"}}
            rescue: [{id: back, toy.act: {message: "{{ host.name }}: {{ failure.summary }}"}}]
            always: [{id: tell, toy.act: {message: "{{ inventory_hostname }}"}}]
    """
    run = record(tmp_path, book).run()
    assert run.state.outcome == "rescued"
    said = messages(run)
    assert said["roll[web02.example.com].rescue/back"].startswith("web02.example.com: roll[web02")
    assert said["roll[web02.example.com].always/tell"] == "web02.example.com"
    assert "roll[web03.example.com]/up" not in said


def test_a_runbook_edited_in_the_middle_of_a_fan(tmp_path: Path) -> None:
    run = record(tmp_path, ROLL).at(3.0, Signal("SIGTERM")).run()
    later = record(
        tmp_path,
        ROLL.replace("{id: enable, toy.act: {}}", "{id: enable, toy.act: {changed: false}}"),
    )
    changed, refused = compare_plans(run.plan, later.plan, run.state)
    assert refused == ()
    assert "roll[web01.example.com]/enable" in changed
    later = record(tmp_path, ROLL.replace("seconds: 1s", "seconds: 2s"))
    _, refused = compare_plans(run.plan, later.plan, run.state)
    assert refused == ("roll[web01.example.com]/drain",)


def test_a_check_goes_through_every_instance(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(textwrap.dedent(HOSTS))
    book = """
        name: Check
        inventory: hosts.yml
        steps: [{id: roll, hosts: web, steps: [{id: a, toy.act: {}}, {id: b, toy.act: {}}]}]
    """
    run = Recorded(tmp_path, book, mode="check").run()
    assert [path for path in messages(run) if path.endswith("/b")] == [
        f"roll[web0{number}.example.com]/b" for number in (1, 2, 3)
    ]
