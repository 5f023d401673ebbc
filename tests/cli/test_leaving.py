"""Leaving, and what a run does not depend on: a second Ctrl-C, closed streams, a finished run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PATIENCE, Desk, wait_until

STUBBORN = """
    steps:
      - shell: |
          trap '' TERM INT
          echo $$ > pid
          while :; do sleep 0.05; date +%N > alive; done
"""


def is_gone(pid: int) -> bool:
    """Whether a process is over; one that nobody has waited for yet is."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    return text.rpartition(")")[2].split()[0] == "Z"


def test_a_second_interrupt_leaves_no_command_running_and_says_what_it_did(desk: Desk) -> None:
    desk.write(STUBBORN)
    process = desk.start("book.yml")
    pid_file = desk.folder / "pid"
    wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the command")
    process.send_signal(signal.SIGINT)
    wait_until(lambda: "stop_requested" in desk.run().journal_path.read_text(), "the first one")
    status, output = desk.end(process, signal.SIGINT)
    assert status == 130
    assert "left at once: what was running has been ended" in output
    assert f"ce-run resume {desk.run().run_id}" in output
    wait_until(lambda: is_gone(int(pid_file.read_text())), "its end")


@pytest.mark.parametrize(
    "streams", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", ">/dev/full 2>&1"]
)
def test_a_run_does_not_depend_on_who_reads_it(desk: Desk, streams: str) -> None:
    desk.write("steps:\n  - shell: echo done > ran\n")
    line = f"{sys.executable} -m engine.cli book.yml {streams}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=desk.folder, env=desk.environment, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0
    assert (desk.folder / "ran").read_text() == "done\n"
    assert "succeeded" in desk.ce_run("runs").stdout


@pytest.mark.parametrize("command", ["runs", "show last", "modules", "validate book.yml"])
def test_an_answer_that_cannot_be_written_is_no_defect(desk: Desk, command: str) -> None:
    desk.write("steps:\n  - shell: 'true'\n")
    assert desk.ce_run("book.yml").returncode == 0
    line = f"{sys.executable} -m engine.cli {command} >/dev/full"
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=desk.folder,
        env=desk.environment,
        timeout=PATIENCE,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 74
    assert done.stderr == "ce-run: the output cannot be written: no space left on device\n"


def test_to_resume_what_has_succeeded_is_no_mistake(desk: Desk) -> None:
    desk.write("steps:\n  - shell: 'true'\n")
    assert desk.ce_run("book.yml").returncode == 0
    before = desk.run().journal_path.read_bytes()
    again = desk.ce_run("resume", "last")
    assert again.returncode == 0
    assert "has succeeded: nothing is left to do" in again.stderr
    assert desk.ce_run("resume", "last", "--rescue").returncode == 2
    assert desk.run().journal_path.read_bytes() == before
