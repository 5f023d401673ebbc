"""Commands run, are judged by their exit status, and end with all their children."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, TimedOut
from modules import shell
from tests.modules.conftest import MakeContext, Told

CancelWhen = Callable[[TaskContext, Callable[[], bool]], object]


def log_of(ctx: TaskContext, tmp_path: Path) -> str:
    return "".join(path.read_text() for path in (tmp_path / "logs").glob("*.log"))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_text_runs_in_a_shell_and_its_output_is_the_result(ctx: TaskContext) -> None:
    result = shell.run(ctx, "echo $((20 + 3)); echo no >&2")
    assert result.changed
    assert result.data == {
        "code": 0,
        "stdout": "23",
        "stderr": "no",
        "truncated": False,
        "skipped": False,
    }


def test_a_command_with_a_secret_shows_in_no_list_of_processes(
    ctx: TaskContext, told: Told
) -> None:
    told.masked.append("open-sesame")
    command = (
        "tr '\\0' ' ' </proc/$$/cmdline; echo; env | grep -c CE_RUN_SCRIPT; echo 'open-sesame'"
    )
    shown, inherited, said = shell.run(ctx, command).data["stdout"].splitlines()
    assert "sesame" not in shown
    assert (inherited, said) == ("0", "open-sesame")


def test_a_list_with_a_secret_in_it_is_refused(ctx: TaskContext, told: Told) -> None:
    told.masked.append("open-sesame")
    with pytest.raises(Refused, match="every list of processes shows") as caught:
        shell.run(ctx, ["echo", "it is open-sesame"])
    assert caught.value.hint == "give it by `env` or `stdin`"


def test_a_list_runs_without_a_shell(ctx: TaskContext) -> None:
    assert shell.run(ctx, ["printf", "%s", "$HOME; ls"]).data["stdout"] == "$HOME; ls"


def test_output_goes_to_the_log_of_the_step(ctx: TaskContext, tmp_path: Path) -> None:
    shell.run(ctx, "echo first; echo second >&2; printf third")
    assert sorted(log_of(ctx, tmp_path).splitlines()) == ["first", "second", "third"]


def test_an_unexpected_exit_status_fails_with_the_last_words(ctx: TaskContext) -> None:
    with pytest.raises(Failed) as caught:
        shell.run(ctx, "echo out; echo 'disk full' >&2; exit 3")
    assert caught.value.message == (
        "`echo out; echo 'disk full' >&2; exit 3` ended with exit status 3"
    )
    assert caught.value.evidence == ["disk full"]
    assert caught.value.data["code"] == 3


def test_other_exit_statuses_can_be_expected(ctx: TaskContext) -> None:
    assert shell.run(ctx, "exit 4", expect=[0, 4]).data["code"] == 4
    with pytest.raises(Failed, match="exit status 0, not 1"):
        shell.run(ctx, "true", expect=1)


def test_a_command_that_a_signal_ended_says_so(ctx: TaskContext) -> None:
    with pytest.raises(Failed, match="was ended by signal 9"):
        shell.run(ctx, "kill -9 $$")


def test_a_missing_program_is_refused_with_its_name(ctx: TaskContext) -> None:
    with pytest.raises(Refused, match="no-such-program: no such file"):
        shell.run(ctx, ["no-such-program"])
    with pytest.raises(Failed) as caught:
        shell.run(ctx, "no-such-program")
    assert "did not find" in caught.value.hint


def test_it_gets_stdin_environment_folder_and_the_run(ctx: TaskContext, root: Path) -> None:
    (root / "files").mkdir()
    result = shell.run(
        ctx,
        "cat; echo $NAME $CE_RUN_ID $CE_RUN_TOKEN; pwd",
        stdin="words\n",
        env={"NAME": 5},
        cwd="files",
    )
    assert result.data["stdout"] == f"words\n5 run-1 0\n{root.resolve() / 'files'}"


def test_a_folder_outside_is_refused(ctx: TaskContext) -> None:
    with pytest.raises(Refused, match="outside"):
        shell.run(ctx, "true", cwd="/etc")


def test_a_megabyte_in_and_out_does_not_block_and_is_bounded(ctx: TaskContext) -> None:
    text = "".join(f"{number:07d}\n" for number in range(131072))
    result = shell.run(ctx, "tee /dev/stderr", stdin=text, limit=1000)
    out = result.data["stdout"]
    assert result.data["truncated"]
    assert out.startswith("0000000\n")
    assert out.endswith("0131071")
    assert f"{len(text) - 1000} bytes left out" in out


def test_a_command_that_does_not_read_its_stdin_is_fine(ctx: TaskContext) -> None:
    assert shell.run(ctx, "true", stdin="x" * 1_000_000).data["code"] == 0


def test_a_child_left_in_the_background_is_not_waited_for(ctx: TaskContext) -> None:
    pid = int(shell.run(ctx, "sleep 60 & echo $!").data["stdout"])
    assert alive(pid)
    os.kill(pid, 9)


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["setsid", "sleep", "60"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
os.rename("pids", "ready")
time.sleep(60)
"""


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds of mercy are for production."""
    monkeypatch.setattr("modules._process.child.GRACE", 0.2)


@pytest.mark.usefixtures("short_grace")
def test_a_cancelled_command_ends_with_children_that_ignore_it_or_ran_away(
    ctx: TaskContext, root: Path, cancel_when: CancelWhen
) -> None:
    (root / "stubborn.py").write_text(STUBBORN)
    cancel_when(ctx, (root / "ready").exists)
    with pytest.raises(Cancelled):
        shell.run(ctx, f"{sys.executable} stubborn.py & wait")
    pids = [int(text) for text in (root / "ready").read_text().split()]
    assert len(pids) == 2
    assert [alive(pid) for pid in pids] == [False, False]


DAEMON = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
open("daemon.pid", "w").write(str(os.getpid()))
os.rename("daemon.pid", "daemon")
time.sleep(60)
"""


@pytest.mark.usefixtures("short_grace")
def test_a_cancelled_command_ends_with_daemons_whose_parents_are_gone(
    ctx: TaskContext, root: Path, cancel_when: CancelWhen
) -> None:
    (root / "daemon.py").write_text(DAEMON)
    bystander = int(shell.run(ctx, "setsid sleep 60 & echo $!").data["stdout"])
    cancel_when(ctx, (root / "daemon").exists)
    with pytest.raises(Cancelled):
        shell.run(ctx, f"{sys.executable} daemon.py; sleep 60")
    assert not alive(int((root / "daemon").read_text()))
    assert alive(bystander)  # an earlier command left it behind on purpose
    os.kill(bystander, 9)


def test_a_cancelled_command_may_clean_up(
    ctx: TaskContext, root: Path, cancel_when: CancelWhen
) -> None:
    cancel_when(ctx, (root / "ready").exists)
    with pytest.raises(Cancelled):
        shell.run(ctx, "trap 'touch cleaned; exit 0' TERM; touch ready; sleep 60 & wait")
    assert (root / "cleaned").exists()


def test_at_the_deadline_the_command_is_over(make_context: MakeContext, root: Path) -> None:
    ctx = make_context(seconds=1.0)
    with pytest.raises(TimedOut):
        shell.run(ctx, "echo $$ > pid; exec sleep 60")
    assert not alive(int((root / "pid").read_text()))


def test_nothing_is_done_when_what_it_creates_is_there(ctx: TaskContext, root: Path) -> None:
    first = shell.run(ctx, "echo x >> made", creates="made")
    second = shell.run(ctx, "echo x >> made", creates="made")
    assert (first.changed, second.changed) == (True, False)
    assert second.data["skipped"]
    assert (root / "made").read_text() == "x\n"


def test_nothing_is_done_when_unless_succeeds(ctx: TaskContext, root: Path) -> None:
    assert shell.run(ctx, "touch flag", unless="test -e flag").changed
    assert not shell.run(ctx, "touch flag", unless="test -e flag").changed


def test_check_shows_the_command_and_runs_only_reads(make_context: MakeContext, root: Path) -> None:
    ctx = make_context(mode="check")
    assert shell.run.checker is not None
    shown = shell.run.checker(ctx, "touch flag")
    assert (shown.changed, shown.diff) == (True, "+ touch flag\n")
    assert not (root / "flag").exists()
    assert not shell.run.checker(ctx, "touch flag", unless="true").changed
    read = shell.run.checker(ctx, "echo 1", effect="read")
    assert (read.changed, read.data["stdout"]) == (False, "1")
    assert shown.data.keys() == read.data.keys()


def test_after_a_crash_only_a_trace_tells(ctx: TaskContext, root: Path) -> None:
    assert shell.run.prober is not None
    assert shell.run.prober(ctx, "send-money").verdict == "unknown"
    assert shell.run.prober(ctx, "sync", effect="idempotent").verdict == "not_done"
    assert shell.run.prober(ctx, "make", creates="made").verdict == "unknown"
    (root / "made").touch()
    probe = shell.run.prober(ctx, "make", creates="made")
    assert probe.verdict == "done"
    assert probe.result is not None
    assert probe.result.data["skipped"]


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_what_no_signal_ends_is_not_said_to_be_stopped_and_holds_nobody_up(
    make_context: MakeContext,
    root: Path,
    cancel_when: CancelWhen,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """Another user's process, or one that waits for a disk: here our signals do not arrive."""
    ctx = make_context(seconds=None if how == "cancelled" else 0.5)
    monkeypatch.setattr("modules._process.group.ProcessGroup._signal", lambda *arguments: None)
    if how == "cancelled":
        cancel_when(ctx, (root / "ready").exists)
    with pytest.raises((Cancelled, TimedOut), match=r"still runs \(process \d+\)") as caught:
        shell.run(ctx, "touch ready; exec sleep 60")
    [pid] = re.findall(r"\d+", caught.value.message)
    assert alive(int(pid))
    os.kill(int(pid), 9)
    pause = threading.Event()
    while alive(int(pid)):
        pause.wait(0.01)
