"""The data of the production: sessions, acknowledged writes, pauses, a swapped database."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import httpx
import psycopg
import pytest

from tests.lab.production import Production, eventually


@pytest.fixture
def member(lab: Production) -> Iterator[httpx.Client]:
    """A user who is signed in, at the edge."""
    with httpx.Client(base_url=lab.info.app_url) as client:
        answer = client.post("/api/v1/sessions", json={"user": "ada"})
        assert answer.status_code == 201
        cookie = answer.headers["Set-Cookie"]
        assert "claude-session=" in cookie
        assert "Max-Age=3600" in cookie
        yield client


def test_a_session_goes_on_in_another_version(lab: Production, member: httpx.Client) -> None:
    lab.scale("green", 1)
    answer = member.get("/api/v1/session", headers={"X-Canary-User": "true"})
    assert answer.headers["X-CE-Version"] == "5.1"
    assert answer.json() == {"user": "ada", "since_version": "5.0"}


def test_a_session_that_nobody_opened_is_unknown(lab: Production) -> None:
    cookies = {"claude-session": "stranger"}
    with httpx.Client(base_url=lab.info.app_url, cookies=cookies) as client:
        assert client.get("/api/v1/session").status_code == 401
        assert client.post("/api/v1/orders", json={"seq": 1}).status_code == 401
    assert httpx.get(f"{lab.info.app_url}/api/v1/session").json() == {"error": "session_unknown"}


def test_an_order_is_written_once_however_often_it_is_sent(
    lab: Production, member: httpx.Client
) -> None:
    order = {"source": "test", "seq": 7, "amount": 3}
    first = member.post("/api/v1/orders", json=order)
    again = member.post("/api/v1/orders", json=order)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert lab.sql("SELECT amount, version FROM orders WHERE source = 'test'") == [(3, "5.0")]


@pytest.mark.parametrize("body", [b"{}", b"no json", b'{"seq": "x"}', b"[]"])
def test_a_bad_order_is_the_sender_s_mistake(member: httpx.Client, body: bytes) -> None:
    assert member.post("/api/v1/orders", content=body).status_code == 400


def test_a_workflow_passes_through_its_eight_phases(member: httpx.Client) -> None:
    body = {"workflow": "ada-1"}
    phases = [member.post("/api/v1/workflow/advance", json=body).json()["phase"] for _ in range(9)]
    assert phases == [0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_a_configmap_pauses_writes_and_nothing_else(lab: Production, member: httpx.Client) -> None:
    lab.set_configmap("claude-enhancer-maintenance", {"writes": "paused"})
    eventually(lambda: _writes_are(lab, "paused"))
    answer = member.post("/api/v1/orders", json={"seq": 1})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["X-CE-Paused"] == "writes"
    assert member.get("/api/v1/session").status_code == 200
    before = lab.figures()
    count = lab.sql("SELECT count(*) FROM orders")
    lab.let_pass(100)
    after = lab.figures()
    assert lab.sql("SELECT count(*) FROM orders") == count
    assert after.paused > before.paused
    assert after.failures == before.failures
    lab.set_configmap("claude-enhancer-maintenance", None)
    eventually(lambda: _writes_are(lab, "open"))
    assert member.post("/api/v1/orders", json={"seq": 1}).status_code == 201


def test_a_row_pauses_writes_in_the_same_instant(lab: Production, member: httpx.Client) -> None:
    lab.sql("UPDATE switches SET paused = true WHERE name = 'writes'")
    try:
        assert member.post("/api/v1/orders", json={"seq": 2}).status_code == 503
        assert member.post("/api/v1/workflow/advance", json={"workflow": "x"}).status_code == 503
    finally:
        lab.sql("UPDATE switches SET paused = false WHERE name = 'writes'")
    assert member.post("/api/v1/orders", json={"seq": 2}).status_code == 201


def test_users_do_not_notice_that_the_database_is_swapped(lab: Production) -> None:
    with lab.no_failure():
        lab.sql("ALTER DATABASE claude_enhancer ALLOW_CONNECTIONS false", database="postgres")
        lab.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = 'claude_enhancer'",
            database="postgres",
        )
        for statement in (
            "CREATE DATABASE claude_enhancer_next TEMPLATE claude_enhancer",
            "ALTER DATABASE claude_enhancer RENAME TO claude_enhancer_old",
            "ALTER DATABASE claude_enhancer_next RENAME TO claude_enhancer",
            "DROP DATABASE claude_enhancer_old",
        ):
            eventually(partial(_ran, lab, statement))


def test_an_acknowledged_write_that_is_gone_is_counted(lab: Production) -> None:
    lab.let_pass(100)
    gone = lab.sql(
        "DELETE FROM orders WHERE id IN (SELECT id FROM orders WHERE source LIKE 'load-%'"
        " ORDER BY id LIMIT 3) RETURNING source, seq, session_id, amount, version"
    )
    assert lab.figures(verify_writes=True).writes_lost == 3
    for source, seq, session, amount, version in gone:
        lab.sql(
            "INSERT INTO orders (source, seq, session_id, amount, version)"
            f" VALUES ('{source}', {seq}, '{session}', {amount}, '{version}')"
        )
    assert lab.figures(verify_writes=True).writes_lost == 0


def test_the_load_counts_sessions_that_are_lost(lab: Production) -> None:
    before = lab.figures().sessions_lost
    lab.sql("DELETE FROM sessions WHERE id IN (SELECT id FROM sessions LIMIT 20)")
    eventually(lambda: lab.figures().sessions_lost > before)
    # They sign in again, so that one loss is not counted for ever.
    eventually(lambda: _settled(lab))


def test_the_database_has_what_a_triage_asks_for(lab: Production) -> None:
    assert lab.sql("SELECT count(*) FROM agents") == [(61,)]
    assert lab.sql("SELECT count(*) > 0 FROM pg_stat_statements") == [(True,)]
    assert lab.sql("SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'idle'") == [(True,)]


def _writes_are(lab: Production, state: str) -> bool:
    """Whether every pod says so."""
    ports = lab.info.pod_ports
    return all(
        httpx.get(f"http://{pod.status.pod_ip}:{ports[8080]}/health/ready").json()["writes"]
        == state
        for pod in lab.ready_pods("blue")
    )


def _ran(lab: Production, statement: str) -> bool:
    try:
        lab.sql(statement, database="postgres")
    except psycopg.errors.ObjectInUse:
        return False
    return True


def _settled(lab: Production) -> bool:
    before = lab.figures().sessions_lost
    lab.let_pass(80)
    return lab.figures().sessions_lost == before
