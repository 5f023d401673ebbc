"""Notices land in the inbox over HTTP and SMTP, answered as their real receivers answer."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage
from typing import Any

import httpx
import pytest

from engine.lab import control
from tests.lab.production import Production

EVENT: dict[str, Any] = {
    "routing_key": "k" * 32,
    "event_action": "trigger",
    "dedup_key": "deploy-1",
    "payload": {"summary": "Error rate 0.7 %", "source": "ce-run", "severity": "critical"},
}


def test_slack_takes_a_text(lab: Production) -> None:
    answer = httpx.post(f"{lab.info.slack_url}/team", json={"text": "Deployment\nstarted"})
    assert (answer.status_code, answer.text) == (200, "ok")
    [message] = control.inbox(lab.state)
    assert (message.channel, message.target) == ("slack", "team")
    assert (message.summary, message.accepted) == ("Deployment started", True)


def test_slack_finds_the_text_in_blocks(lab: Production) -> None:
    block = {"type": "section", "text": {"type": "mrkdwn", "text": "阶段完成 5 %"}}
    assert httpx.post(f"{lab.info.slack_url}/t", json={"blocks": [block]}).text == "ok"
    assert control.inbox(lab.state)[0].summary == "阶段完成 5 %"


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"{}", "no_text"), (b"not json", "invalid_payload"), (b"[1]", "invalid_payload")],
)
def test_slack_refuses_what_has_no_text(lab: Production, body: bytes, words: str) -> None:
    answer = httpx.post(f"{lab.info.slack_url}/team", content=body)
    assert (answer.status_code, answer.text) == (400, words)
    assert not control.inbox(lab.state)[0].accepted


def test_pagerduty_accepts_and_shows_repetitions(lab: Production) -> None:
    for _ in range(2):
        answer = httpx.post(lab.info.pagerduty_url, json=EVENT)
        assert answer.status_code == 202
        assert answer.json() == {
            "status": "success",
            "message": "Event processed",
            "dedup_key": "deploy-1",
        }
    resolve = {**EVENT, "event_action": "resolve"}
    assert httpx.post(lab.info.pagerduty_url, json=resolve).status_code == 202
    assert [m.duplicate for m in control.inbox(lab.state)] == [False, True, False]


def test_pagerduty_makes_up_a_key_for_an_event_without(lab: Production) -> None:
    event = {key: value for key, value in EVENT.items() if key != "dedup_key"}
    keys = {httpx.post(lab.info.pagerduty_url, json=event).json()["dedup_key"] for _ in range(2)}
    assert len(keys) == 2
    assert not any(m.duplicate for m in control.inbox(lab.state))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"routing_key": "short"}, "routing_key"),
        ({"routing_key": None}, "routing_key"),
        ({"event_action": "page"}, "event_action"),
        ({"payload": None}, "payload"),
        ({"payload": {"summary": "", "source": "x", "severity": "info"}}, "payload.summary"),
        ({"payload": {"summary": "x", "source": "x", "severity": "bad"}}, "payload.severity"),
        ({"event_action": "resolve", "dedup_key": ""}, "dedup_key"),
    ],
)
def test_pagerduty_says_what_is_wrong(lab: Production, change: Any, word: str) -> None:
    answer = httpx.post(lab.info.pagerduty_url, json={**EVENT, **change})
    assert answer.status_code == 400
    assert answer.json()["status"] == "invalid event"
    assert any(f"'{word}'" in error for error in answer.json()["errors"])


def test_statuspage_keeps_incidents_and_components(lab: Production) -> None:
    page, auth = f"{lab.info.statuspage_url}/pages/p1", {"Authorization": "OAuth token"}
    body: dict[str, Any] = {"incident": {"name": "Slow answers", "status": "investigating"}}
    made = httpx.post(f"{page}/incidents", json=body, headers=auth)
    assert made.status_code == 201
    place = f"{page}/incidents/{made.json()['id']}"
    body = {"incident": {"status": "resolved"}}
    assert httpx.patch(place, json=body, headers=auth).json()["name"] == "Slow answers"
    assert httpx.get(f"{page}/incidents", headers=auth).json()[0]["status"] == "resolved"
    component = {"component": {"status": "degraded_performance"}}
    assert httpx.patch(f"{page}/components/api", json=component, headers=auth).status_code == 200
    component = {"component": {"status": "tired"}}
    assert httpx.patch(f"{page}/components/api", json=component, headers=auth).status_code == 422
    assert httpx.post(f"{page}/incidents", json=body).status_code == 401
    assert "token" not in str(control.inbox(lab.state))


def test_a_webhook_keeps_the_sender_s_key(lab: Production) -> None:
    url, headers = f"{lab.info.webhook_url}/zoom", {"Idempotency-Key": "run-1/step-2"}
    for _ in range(2):
        assert httpx.post(url, json={"text": "war room"}, headers=headers).status_code == 200
    first, second = control.inbox(lab.state)
    assert (first.key, first.duplicate, second.duplicate) == ("run-1/step-2", False, True)


def _mail(subject: str = "Rollback done", key: str = "<1@ce-run>") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = "ce-run@example.com", "team@example.com"
    mail["Subject"], mail["Message-ID"] = subject, key
    mail.set_content("All traffic is on 5.0.\n\n所有流量已回到 5.0。\n")
    return mail


def test_mail_arrives_with_its_subject_and_text(lab: Production) -> None:
    with smtplib.SMTP(lab.info.smtp_host, lab.info.smtp_port) as smtp:
        smtp.login("ce-run", "a password that must not be kept")
        smtp.send_message(_mail("回滚完成"))
        smtp.send_message(_mail("回滚完成"))
    first, second = control.inbox(lab.state)
    assert (first.channel, first.target) == ("email", "team@example.com")
    assert first.summary == "回滚完成"
    assert "所有流量" in first.body["text"]
    assert first.body["login"] == "ce-run"
    assert (first.duplicate, second.duplicate) == (False, True)
    assert "must not be kept" not in str(control.inbox(lab.state))


def test_mail_needs_no_login(lab: Production) -> None:
    with smtplib.SMTP(lab.info.smtp_host, lab.info.smtp_port) as smtp:
        smtp.send_message(_mail())
    assert control.inbox(lab.state)[0].body["login"] is None


def test_the_inbox_fails_as_often_as_it_was_told(lab: Production) -> None:
    control.trouble_inbox(lab.state, fail_next=1)
    assert httpx.post(lab.info.pagerduty_url, json=EVENT).status_code == 503
    assert httpx.post(lab.info.pagerduty_url, json=EVENT).status_code == 202
    refused, accepted = control.inbox(lab.state)
    # What was refused has not arrived: its repetition is none.
    assert (refused.accepted, accepted.accepted, accepted.duplicate) == (False, True, False)


def test_an_inbox_that_is_down_refuses_everything(lab: Production) -> None:
    control.trouble_inbox(lab.state, down=True)
    assert httpx.post(f"{lab.info.slack_url}/t", json={"text": "x"}).status_code == 503
    with (
        smtplib.SMTP(lab.info.smtp_host, lab.info.smtp_port) as smtp,
        pytest.raises(smtplib.SMTPDataError, match="451"),
    ):
        smtp.send_message(_mail())
    control.trouble_inbox(lab.state, down=False)
    assert httpx.post(f"{lab.info.slack_url}/t", json={"text": "x"}).status_code == 200
