"""Tags and limits that fit nothing are errors before the first step, with the nearest word."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Desk

BOOK = """\
inventory: inventory.yml
steps:
  - {id: first, shell: touch changed, tags: [prepare], register: made}
  - {id: there, hosts: web, on: controller, shell: echo, tags: [deploy]}
  - {id: last, shell: "echo {{ steps.first.result.code }}", tags: [report]}
  - {id: named, shell: "echo {{ made.code }}", tags: [names]}
  - {id: careful, shell: "echo {{ made.code | default(0) }} {{ steps.first.skipped }}", tags: [ok]}
"""
INVENTORY = "hosts: {web: {hosts: {web1: , web2: }}, data: {hosts: {db1: }}}\n"


@pytest.fixture
def book(desk: Desk) -> Desk:
    desk.write(BOOK)
    desk.write(INVENTORY, "inventory.yml")
    return desk


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["--tags", "deplyo"], "no step has the tag 'deplyo'", "did you mean 'deploy'?"),
        (["--skip-tags", "prepair"], "no step has the tag 'prepair'", "did you mean 'prepare'?"),
        (["-l", "wbe1"], "--limit wbe1: the inventory has no host or group 'wbe1'", "'web1'"),
        (["-l", "web:!web1:!web2"], "it leaves no host of the inventory", ""),
        (["-l", "data"], "no step works on any of these hosts", "the steps work on web"),
        (["--tags", "report"], "step 'last' reads steps.first.result, but the tags", "'first'"),
        (["--tags", "names"], "step 'named' reads made, but the tags leave out 'first'", ""),
        (["--skip-tags", "prepare"], "but the tags leave out 'first'", ""),
        (["--skip-tags", "all,tagged"], "the tags leave no step", ""),
    ],
)
def test_what_fits_nothing_is_refused_before_anything_is_done(
    book: Desk, words: list[str], said: str, hint: str
) -> None:
    done = book.ce_run("book.yml", *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert hint in done.stderr
    assert not (book.folder / "changed").exists()
    assert not (book.state / "runs").exists() or not list((book.state / "runs").iterdir())


@pytest.mark.parametrize(
    "words",
    [["--tags", "deploy"], ["--tags", "prepare,report"], ["-l", "web1"], ["--tags", "ok"],
     ["--tags", "all"], ["-l", "web:&all"]],
)  # fmt: skip
def test_what_fits_runs(book: Desk, words: list[str]) -> None:
    done = book.ce_run("book.yml", *words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_limit_needs_steps_with_hosts(desk: Desk) -> None:
    desk.write("inventory: inventory.yml\nsteps: [{shell: touch changed}]")
    desk.write(INVENTORY, "inventory.yml")
    done = desk.ce_run("book.yml", "-l", "web1")
    assert done.returncode == 2
    assert "no step of this runbook has `hosts`" in done.stderr
