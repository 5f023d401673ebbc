"""A lab starts, tells, stops, and leaves nothing: no process, no socket, no file elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import httpx
import pytest

from engine.errors import LabError
from engine.lab import control
from engine.lab.layout import Layout
from engine.lab.settings import Settings
from tests.lab.production import (
    Production,
    descendants,
    eventually,
    lives,
    remaining,
    traces,
)

SMALL = Settings(blue_replicas=1, users=4, request_rate=20)

LEFT_AFTER_DOWN = {
    "supervisor.lock",
    "supervisor.log",
    "settings.json",
    "requests.jsonl",
    "logs",
}


def test_up_and_down_leave_nothing_behind(tmp_path: Path) -> None:
    info = control.up(tmp_path, settings=SMALL)
    family = descendants(info.pid) | {info.pid}
    marks = traces(Path(info.folder), family)
    assert len(family) >= 6
    assert len(remaining(marks)) >= 3
    assert control.is_running(tmp_path)

    assert control.down(tmp_path)

    assert [pid for pid in family if lives(pid)] == []
    assert remaining(marks) == set()
    assert not control.is_running(tmp_path)
    assert {path.name for path in Layout(tmp_path).root.iterdir()} <= LEFT_AFTER_DOWN
    assert not _listens(info.app_url)
    assert not _listens(info.metrics_url)
    assert not control.down(tmp_path)


def test_a_killed_supervisor_takes_everything_with_it(tmp_path: Path) -> None:
    info = control.up(tmp_path, settings=SMALL)
    family = descendants(info.pid)
    marks = traces(Path(info.folder), family)
    os.kill(info.pid, signal.SIGKILL)
    eventually(lambda: not any(lives(pid) for pid in family))
    eventually(lambda: not remaining(marks))
    assert not control.is_running(tmp_path)
    with pytest.raises(LabError, match="no lab runs here"):
        control.status(tmp_path)
    again = control.up(tmp_path, settings=SMALL)
    assert again.pid != info.pid
    control.down(tmp_path)


def test_a_lab_ends_when_its_folder_is_removed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    info = control.up(state, settings=SMALL)
    family = descendants(info.pid) | {info.pid}
    shutil.rmtree(state, ignore_errors=True)
    eventually(lambda: not any(lives(pid) for pid in family))


def test_a_lab_ends_on_sigterm(tmp_path: Path) -> None:
    info = control.up(tmp_path, settings=SMALL)
    family = descendants(info.pid) | {info.pid}
    os.kill(info.pid, signal.SIGTERM)
    eventually(lambda: not control.is_running(tmp_path))
    assert [pid for pid in family if lives(pid)] == []
    assert not Layout(tmp_path).info.exists()


def test_a_lab_ends_when_a_server_of_it_dies(tmp_path: Path) -> None:
    info = control.up(tmp_path, settings=SMALL)
    haproxy = [pid for pid in descendants(info.pid) if _command(pid).endswith("haproxy")]
    os.kill(haproxy[0], signal.SIGKILL)
    eventually(lambda: not control.is_running(tmp_path))
    assert "HAProxy died" in Layout(tmp_path).log.read_text()


def test_two_labs_run_side_by_side(lab: Production, tmp_path: Path) -> None:
    other = control.up(tmp_path, settings=SMALL)
    try:
        assert other.network != lab.info.network
        control.fault(tmp_path, error_rate=1.0)
        assert httpx.get(f"{other.app_url}/api/v1/agents").status_code == 500
        assert httpx.get(f"{lab.info.app_url}/api/v1/agents").status_code == 200
        assert control.status(lab.state).faults == {}
    finally:
        control.down(tmp_path)
    assert control.is_running(lab.state)
    lab.let_pass(20)


def test_up_replaces_a_running_lab_unless_told_to_keep_it(tmp_path: Path) -> None:
    first = control.up(tmp_path, settings=SMALL)
    assert control.up(tmp_path, fresh=False).pid == first.pid
    second = control.up(tmp_path, settings=SMALL)
    assert second.pid != first.pid
    assert not lives(first.pid)
    assert second.network == first.network
    assert control.reset(tmp_path).request_rate == SMALL.request_rate
    control.down(tmp_path)


def test_what_a_lab_writes_is_for_its_owner_alone(lab: Production) -> None:
    root = Layout(lab.state).root
    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / "lab.json").stat().st_mode & 0o777 == 0o600
    assert Path(lab.info.kubeconfig).stat().st_mode & 0o777 == 0o600


def test_a_deep_folder_works_without_unix_sockets_for_others(tmp_path: Path) -> None:
    state = tmp_path / ("deep" * 20) / ("deeper" * 10)
    info = control.up(state, settings=SMALL)
    try:
        assert (info.haproxy_socket, info.docker_host) == ("", "")
        assert control.status(state).serving["claude_stable"] == ["claude-blue-1"]
    finally:
        control.down(state)


def test_a_lab_without_load_serves_and_says_so(tmp_path: Path) -> None:
    settings = Settings(blue_replicas=1, request_rate=0)
    info = control.up(tmp_path, settings=settings)
    try:
        assert httpx.get(f"{info.app_url}/health").status_code == 200
        assert httpx.get(f"{info.metrics_url}/metrics.json?name=error_rate").json()["metrics"] == []
        with pytest.raises(LabError, match="without a load"):
            control.figures(tmp_path)
    finally:
        control.down(tmp_path)


def test_what_keeps_a_lab_from_starting_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CE_RUN_HAPROXY", "/nowhere/haproxy")
    with pytest.raises(LabError, match="haproxy") as caught:
        control.up(tmp_path, settings=SMALL)
    assert caught.value.hint
    assert not control.is_running(tmp_path)


def test_asking_where_no_lab_runs_says_how_to_start_one(tmp_path: Path) -> None:
    for ask in (control.status, control.figures, control.clear_faults, control.reset):
        with pytest.raises(LabError) as caught:
            ask(tmp_path)
        assert "ce-run lab up" in caught.value.hint
    assert control.inbox(tmp_path) == []


@pytest.mark.parametrize(
    "wrong", [{"users": 0}, {"request_rate": -1}, {"mesh_share": 1.5}, {"probe_period": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]


def _listens(url: str) -> bool:
    place = httpx.URL(url)
    with socket.socket() as connection:
        return connection.connect_ex((place.host, place.port or 80)) == 0


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
