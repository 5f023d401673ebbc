"""A command of a step with hosts says whether it runs on them or here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from engine.model import Block, Call
    from tests.loader.conftest import Desk

INVENTORY = "hosts: {web: {hosts: {web1: , web2: }}}\n"


def calls(block: Block | None) -> list[Call]:
    found: list[Call] = []
    for step in block.steps if block is not None else ():
        found += [step.call] if step.call else []
        for inner in (step.block, step.undo, step.rescue, step.always):
            found += calls(inner)
    return found


@pytest.mark.parametrize(
    "step",
    [
        "{hosts: web, shell: rm -rf /srv/old}",
        "{hosts: web, shell: {command: [uptime], effect: read}}",
        "{hosts: web, docker.push: {image: x}}",
        "{hosts: web, ssh.run: uptime, undo: {shell: rm x}}",
        "{hosts: web, ssh.run: uptime, rescue: [{shell: rm x}]}",
    ],
)
def test_a_local_action_below_hosts_is_refused_with_both_ways_out(desk: Desk, step: str) -> None:
    (problem,) = desk.problems(f"steps: [{step}]", INVENTORY)
    assert "runs on this machine, once for each host" in problem.message
    assert "`on: controller`" in problem.suggestion


def test_on_hosts_is_the_action_that_works_there(desk: Desk) -> None:
    book = desk.load(
        """
        steps:
          - hosts: web
            on: hosts
            shell: {command: uptime, effect: read, expect: [0, 1]}
            undo: {shell: echo back}
        """,
        INVENTORY,
    )
    first, undo = calls(book.block)
    assert (first.action, first.effect) == ("ssh.run", "read")
    assert first.arguments == {"command": "uptime", "effect": "read", "expect": [0, 1]}
    assert undo.action == "ssh.run"


def test_on_controller_is_said_for_a_step_or_for_a_group(desk: Desk) -> None:
    book = desk.load(
        """
        steps:
          - {hosts: web, on: controller, shell: "ping {{ host.name }}"}
          - on: controller
            steps:
              - {hosts: web, shell: "ping {{ host.name }}"}
              - {hosts: web, on: hosts, shell: uptime}
          - shell: uptime
        """,
        INVENTORY,
    )
    assert [call.action for call in calls(book.block)] == ["shell", "shell", "ssh.run", "shell"]


def test_an_argument_that_the_other_action_does_not_have_is_told(desk: Desk) -> None:
    text = "steps: [{hosts: web, on: hosts, shell: {command: x, nonsense: 1}}]"
    (problem,) = desk.problems(text, INVENTORY)
    assert "ssh.run has no argument 'nonsense'" in problem.message


@pytest.mark.parametrize(
    ("step", "said", "hint"),
    [
        ("{on: hosts, shell: x}", "the step has no `hosts`", "give it `hosts:`"),
        ("{hosts: web, on: host, shell: x}", "`on` cannot be 'host'", "did you mean 'hosts'?"),
        ("{hosts: web, on: hosts, assert: {that: 1 == 1}}", "assert cannot work on the", "ssh.run"),
        ("{hosts: web, delegate_to: localhost, shell: x}", "'delegate_to'", "`on: controller`"),
    ],
)
def test_what_cannot_be_meant_is_refused(desk: Desk, step: str, said: str, hint: str) -> None:
    first = desk.problems(f"steps: [{step}]", INVENTORY)[0]
    both = [(p.message, p.suggestion) for p in desk.problems(f"steps: [{step}]", INVENTORY)]
    assert any(said in message and hint in suggestion for message, suggestion in both), first


def test_a_command_in_an_included_runbook_is_told_where_it_is_included(desk: Desk) -> None:
    desk.write("inner.yml", "steps: [{shell: rm -rf /srv/old}]")
    (problem, *_) = [
        each
        for each in desk.problems("steps: [{hosts: web, runbook: inner.yml}]", INVENTORY)
        if "this machine" in each.message
    ]
    assert problem.file.endswith("book.yml")
    desk.load("steps: [{runbook: inner.yml}]", INVENTORY)


def test_a_runbook_for_the_hosts_of_another_needs_hosts_where_it_is_included(desk: Desk) -> None:
    desk.write("inner.yml", "steps: [{on: hosts, shell: uptime}]")
    (problem,) = desk.problems("steps: [{runbook: inner.yml}]", INVENTORY)
    assert "shell is to run on the hosts" in problem.message
