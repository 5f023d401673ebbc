"""The share of requests that a version gets is the weight that was set, at both front doors."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from engine.lab import control
from engine.production.figures import Figures
from tests.lab.production import Production

REQUESTS = 2000
TOLERANCE = 0.02 * REQUESTS

Setter = Callable[[int], None]


@pytest.mark.parametrize("percent", [5, 20, 50, 100])
def test_both_entrances_follow_the_weights(lab: Production, percent: int) -> None:
    lab.scale("green", 2)
    lab.set_edge(percent)
    lab.set_mesh(percent)
    for url in (lab.info.app_url, lab.info.mesh_url):
        seen = lab.versions_seen(url, REQUESTS)
        assert sum(seen.values()) == REQUESTS
        assert abs(seen["5.1"] - REQUESTS * percent / 100) <= TOLERANCE, seen
        assert seen["failed"] == 0


def test_the_users_see_the_split_too(lab: Production) -> None:
    lab.scale("green", 2)
    lab.quieten()
    lab.set_edge(20)
    lab.set_mesh(20)
    before = lab.figures()
    control.set_rate(lab.state, 400)
    lab.let_pass(REQUESTS)
    lab.quieten()
    after = lab.figures()
    canary = _of_canary(after) - _of_canary(before)
    assert abs(canary / (after.requests - before.requests) - 0.2) <= 0.02
    assert after.failures == before.failures


def _of_canary(figures: Figures) -> int:
    return figures.versions["5.1"].requests if "5.1" in figures.versions else 0


def test_an_entrance_has_its_own_weights(lab: Production) -> None:
    lab.scale("green", 1)
    lab.set_mesh(100)
    assert set(lab.versions_seen(lab.info.app_url, 50)) == {"5.0"}
    assert set(lab.versions_seen(lab.info.mesh_url, 50)) == {"5.1"}


def test_the_header_always_leads_to_the_canary(lab: Production) -> None:
    lab.scale("green", 1)
    for url in (lab.info.app_url, lab.info.mesh_url):
        assert set(lab.versions_seen(url, 20, headers="X-Canary-User: true\r\n")) == {"5.1"}
        assert set(lab.versions_seen(url, 20, headers="X-Canary-User: false\r\n")) == {"5.0"}


def test_a_share_for_a_version_without_pods_fails_as_in_production(lab: Production) -> None:
    lab.set_edge(50)
    seen = lab.versions_seen(lab.info.app_url, 20)
    assert seen["failed"] > 5 < seen["5.0"]
    lab.set_edge(0)
    assert set(lab.versions_seen(lab.info.app_url, 20)) == {"5.0"}


def test_the_selector_decides_what_stable_serves(lab: Production) -> None:
    lab.scale("green", 2)
    lab.select("5.1")
    assert lab.serving("claude_stable") == ["claude-green-1", "claude-green-2"]
    assert set(lab.versions_seen(lab.info.app_url, 50)) == {"5.1"}
    lab.select("5.0")
    assert set(lab.versions_seen(lab.info.app_url, 50)) == {"5.0"}


def test_haproxy_shows_its_servers_and_statistics(lab: Production) -> None:
    shown = lab.haproxy("show stat claude_stable 4 -1")
    names = {line.split(",")[1] for line in shown.splitlines() if line.startswith("claude_stable")}
    assert len(names) == 3
    assert all(name.startswith("claude-blue-") for name in names)
    assert "claude_stable" in httpx.get(lab.info.stats_url).text


def test_pods_that_are_ready_are_served_already(lab: Production) -> None:
    lab.scale("green", 5)
    # Not eventually: who gives them a share now must not meet an empty backend.
    assert len(lab.serving("claude_canary")) == 5
