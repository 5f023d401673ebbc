"""Notices reach every kind of receiver once, complete, in the languages people read."""

from __future__ import annotations

import hmac
import re
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from engine.clock import VirtualClock
from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, Result, Unreachable
from modules import notify
from tests.modules.conftest import Certificate, MakeContext, Serve, Told
from tests.modules.receivers import ROUTING_KEY, Inbox, PagerDuty, Slack, Statuspage

CancelWhen = Callable[[TaskContext, Callable[[], bool]], object]

NOTICES = Path(__file__).parents[2] / "runbooks" / "files" / "notices"
PHASE = {
    "phase_number": 1,
    "phase_name": "canary",
    "version": "5.1",
    "traffic_percentage": 5,
    "error_rate": 0.04,
    "response_time_p95": 187,
    "active_agents": 61,
    "total_agents": 61,
    "next_phase_number": 2,
    "next_phase_start_time": "14:30",
}


class Mail:
    """What an SMTP server of a test took; it refuses ``refused@example.com``."""

    def __init__(self) -> None:
        self.messages: list[tuple[list[str], EmailMessage]] = []
        self.users: list[str] = []

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("refused@"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append((envelope.rcpt_tos, message))
        return "250 OK"

    def authenticate(
        self, server: Any, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.users.append(data.login.decode())
        return AuthResult(success=data.password == b"mail-secret", handled=False)


@pytest.fixture
def smtp() -> Iterator[Callable[..., tuple[Mail, int]]]:
    """Start SMTP servers; with a certificate they insist on STARTTLS and a login."""
    started: list[Controller] = []

    def start(tls: ssl.SSLContext | None = None) -> tuple[Mail, int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        mail = Mail()
        options: dict[str, Any] = {}
        if tls is not None:
            options = {
                "tls_context": tls,
                "require_starttls": True,
                "auth_required": True,
                "authenticator": mail.authenticate,
            }
        controller = Controller(mail, hostname="127.0.0.1", port=port, **options)
        controller.start()
        started.append(controller)
        return mail, port

    yield start
    for controller in started:
        controller.stop()


@pytest.fixture
def notices(root: Path) -> Path:
    """The project's own notices, below the runbook's folder."""
    shutil.copytree(NOTICES, root / "files" / "notices")
    return NOTICES


@pytest.fixture
def make(make_context: MakeContext, root: Path) -> Callable[..., TaskContext]:
    """A context with these channels."""

    def build(channels: dict[str, Any], languages: list[str] | None = None, **more: Any) -> Any:
        section = {"channels": channels, "languages": languages or ["en"]}
        return make_context({"notify": section}, **more)

    return build


Make = Callable[..., TaskContext]


def send(ctx: TaskContext, channel: Any, **arguments: Any) -> Result:
    return notify.send(ctx, channel, **{"text": "All is well.", "subject": "News", **arguments})


# -- receivers ----------------------------------------------------------------------------------
def test_slack_gets_subject_and_text(make: Make, serve: Serve, told: Told) -> None:
    slack = Slack()
    webhook = f"{serve(slack).url}/services/T0/B0/XXXX"
    ctx = make({"team": {"slack": {"webhook": webhook}}})
    result = send(ctx, "team", subject="5.0 & <5.1>", severity="critical")
    assert slack.texts == ["🔴 *5.0 &amp; &lt;5.1&gt;*\nAll is well."]
    assert result.data["sent"] == ["team"]
    assert result.changed
    assert told.masked == [webhook]


def test_pagerduty_gets_a_valid_event_with_the_tasks_key(make: Make, serve: Serve) -> None:
    pagerduty = PagerDuty()
    url = f"{serve(pagerduty).url}/v2/enqueue"
    channels = {"oncall": {"pagerduty": {"routing_key": ROUTING_KEY, "url": url}}}
    send(make(channels), "oncall", severity="critical", subject="x" * 2000)
    send(make(channels, attempt=2), "oncall", severity="critical", subject="again")
    send(make(channels, step="other"), "oncall")
    assert [len(events) for events in pagerduty.alerts.values()] == [2, 1]
    event = next(iter(pagerduty.alerts.values()))[0]
    assert event["payload"]["severity"] == "critical"
    assert event["payload"]["custom_details"]["text"] == "All is well."


def test_notices_of_an_incident_are_one_alert_until_it_is_resolved(
    make: Make, serve: Serve
) -> None:
    pagerduty = PagerDuty()
    url = f"{serve(pagerduty).url}/v2/enqueue"
    ctx = make({"oncall": {"pagerduty": {"routing_key": ROUTING_KEY, "url": url}}})
    send(ctx, "oncall", incident="INC-2024-001", severity="error")
    ctx = make({"oncall": {"pagerduty": {"routing_key": ROUTING_KEY, "url": url}}}, step="b")
    send(ctx, "oncall", incident="INC-2024-001", status="resolved")
    actions = [one["event_action"] for one in pagerduty.alerts["INC-2024-001"]]
    assert actions == ["trigger", "resolve"]


def test_an_invalid_event_fails_in_pagerdutys_words(make: Make, serve: Serve) -> None:
    url = f"{serve(PagerDuty()).url}/v2/enqueue"
    ctx = make({"oncall": {"pagerduty": {"routing_key": "wrong", "url": url}}})
    with pytest.raises(Failed) as caught:
        send(ctx, "oncall")
    assert caught.value.message == "the notice did not reach oncall; nothing was sent"
    assert "Invalid routing key" in " ".join(caught.value.evidence)


def oncall(pagerduty: PagerDuty, serve: Serve) -> dict[str, Any]:
    """A channel of that name which leads there."""
    url = f"{serve(pagerduty).url}/v2/enqueue"
    return {"oncall": {"pagerduty": {"routing_key": ROUTING_KEY, "url": url}}}


def test_a_receiver_that_asks_for_a_moment_gets_it(make: Make, serve: Serve, told: Told) -> None:
    pagerduty, inbox = PagerDuty(), Inbox()
    pagerduty.overloaded = 1
    clock = VirtualClock()
    channels = {**oncall(pagerduty, serve), "hook": {"webhook": {"url": serve(inbox).url}}}
    before = clock.now()
    result = send(make(channels, clock=clock), ["oncall", "hook"])
    assert result.data["sent"] == ["hook", "oncall"]  # nobody waited for whoever asked for time
    assert clock.now() - before == 1
    assert len(inbox.notices) == len(pagerduty.alerts) == 1
    assert "oncall: asked for 1 s, then once more" in told.progress


def test_a_receiver_that_is_overloaded_for_long_is_left_to_a_retry(
    make: Make, serve: Serve
) -> None:
    pagerduty = PagerDuty()
    pagerduty.overloaded = 3
    ctx = make(oncall(pagerduty, serve), clock=VirtualClock())
    with pytest.raises(Unreachable) as caught:
        send(ctx, "oncall")
    assert caught.value.hint == "it asks to wait 1 s"
    assert send(ctx, "oncall").data["sent"] == ["oncall"]
    slow = serve(lambda request: (429, "", {"Retry-After": "3600"}))
    clock = VirtualClock()
    before = clock.now()
    with pytest.raises(Unreachable) as caught:
        send(make({"hook": {"webhook": {"url": slow.url}}}, clock=clock), "hook")
    assert caught.value.hint == "it asks to wait 3600 s"
    assert clock.now() == before


def test_an_alert_is_triggered_acknowledged_and_resolved(make: Make, serve: Serve) -> None:
    pagerduty = PagerDuty()
    channels = oncall(pagerduty, serve)
    for alert in ("", "acknowledge", "resolve"):
        send(make(channels, step=f"step-{alert}"), "oncall", incident="INC-1", alert=alert)
    assert [one["event_action"] for one in pagerduty.alerts["INC-1"]] == [
        "trigger",
        "acknowledge",
        "resolve",
    ]
    with pytest.raises(Refused, match="`alert: acknowledge` needs an `incident`"):
        send(make(channels), "oncall", alert="acknowledge")


def test_a_signed_webhook_can_be_verified(make: Make, serve: Serve, told: Told) -> None:
    server = serve(lambda request: (200, {}))
    ctx = make({"hook": {"webhook": {"url": server.url, "sign": "shared-secret"}}})
    send(ctx, "hook", text="阶段 1")
    (request,) = server.requests
    moment = request.headers["x-ce-timestamp"]
    assert abs(int(moment) - ctx.now().timestamp()) < 60
    expected = hmac.new(b"shared-secret", f"{moment}.".encode() + request.body, "sha256")
    assert request.headers["x-ce-signature"] == f"sha256={expected.hexdigest()}"
    assert request.json()["text"] == "阶段 1"
    assert told.masked == ["shared-secret"]


def test_a_notice_without_a_subject_gets_its_first_line(make: Make, serve: Serve) -> None:
    pagerduty = PagerDuty()
    send(make(oncall(pagerduty, serve)), "oncall", subject="", text="Errors are up.\nLook.")
    (event,) = next(iter(pagerduty.alerts.values()))
    assert event["payload"]["summary"] == "Errors are up."


def test_a_wrong_webhook_is_refused_without_telling_its_address(make: Make, serve: Serve) -> None:
    webhook = f"{serve(Slack()).url}/services/very-secret"
    with pytest.raises(Refused) as caught:
        send(make({"team": {"slack": {"webhook": webhook}}}), "team")
    error = caught.value
    assert "very-secret" not in " ".join([error.message, error.hint, *error.evidence])
    assert "invalid_token" in " ".join(error.evidence)


def test_a_webhook_gets_every_language_and_the_run(make: Make, serve: Serve, notices: Path) -> None:
    inbox = Inbox()
    settings = {"url": serve(inbox).url, "headers": {"X-Team": "sre"}}
    ctx = make({"hook": {"webhook": settings}}, ["en", "zh"])
    send(ctx, "hook", template="phase-done", text="", subject="", vars=PHASE)
    (notice,) = inbox.notices.values()
    assert notice["notices"]["en"]["subject"] == "Phase 1 done: canary"
    assert notice["notices"]["zh"]["subject"] == "阶段 1 已完成：canary"
    assert notice["subject"] == "Phase 1 done: canary / 阶段 1 已完成：canary"
    assert "智能体：61/61" in notice["text"]
    assert notice["headers"]["x-ce-run"] == "run-1"
    assert notice["headers"]["x-team"] == "sre"


def test_a_variable_may_be_given_by_language(make: Make, serve: Serve, notices: Path) -> None:
    inbox = Inbox()
    names = {**PHASE, "phase_name": {"en": "canary", "zh": "金丝雀"}}
    hook = make({"hook": {"webhook": {"url": serve(inbox).url}}}, ["en", "zh"])
    send(hook, "hook", template="phase-done", text="", subject="", vars=names)
    (notice,) = inbox.notices.values()
    assert notice["subject"] == "Phase 1 done: canary / 阶段 1 已完成：金丝雀"


def test_statuspage_is_asked_before_anything_is_created(make: Make, serve: Serve) -> None:
    page = Statuspage()
    settings = {
        "page": "page-1",
        "token": "secret-token",
        "url": f"{serve(page).url}/v1",
        "components": ["api", "web"],
    }
    channels = {"status": {"statuspage": settings}}
    options = {"incident": "INC-2024-001", "status": "investigating", "component_status": "down"}
    first = send(make(channels, step="one"), "status", **options)
    again = send(make(channels, step="one", attempt=2), "status", **options)
    assert (first.data["sent"], again.data["sent"], again.data["already"]) == (
        ["status"],
        [],
        ["status"],
    )
    assert page.components == {"api": "major_outage", "web": "major_outage"}
    options = {**options, "status": "resolved", "component_status": "operational"}
    send(make(channels, step="two"), "status", text="Recovered.", **options)
    (incident,) = page.incidents
    assert incident["updates"] == ["All is well.", "Recovered."]
    assert incident["status"] == "resolved"
    assert page.components == {"api": "operational", "web": "operational"}
    send(make(channels, step="three"), "status")
    assert len(page.incidents) == 2
    assert notify.send.prober is not None
    probe = notify.send.prober
    assert probe(make(channels, step="one"), "status", incident="INC-2024-001").verdict == "done"
    assert probe(make(channels, step="three"), "status").verdict == "done"
    assert probe(make(channels, step="four"), "status").verdict == "not_done"


def test_statuspage_with_a_wrong_token_is_refused(make: Make, serve: Serve) -> None:
    settings = {"page": "page-1", "token": "wrong", "url": f"{serve(Statuspage()).url}/v1"}
    with pytest.raises(Refused) as caught:
        send(make({"status": {"statuspage": settings}}), "status")
    assert "Could not authenticate" in " ".join(caught.value.evidence)


def test_the_console_is_the_progress_of_the_step(make: Make, told: Told) -> None:
    send(make({"log": {"console": {}}}), "log")
    assert told.progress == ["News", "All is well.", "log (console): sent"]


# -- mail ---------------------------------------------------------------------------------------
def mail_channel(port: int, **more: Any) -> dict[str, Any]:
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "from": "ce-run@example.com",
        "to": ["sre@example.com", "lead@example.com"],
        "tls": "none",
        **more,
    }
    return {"mail": {"smtp": settings}}


def test_a_mail_reaches_everyone_with_a_key_that_stays(
    make: Make, smtp: Any, notices: Path
) -> None:
    mail, port = smtp()
    channels = mail_channel(port)
    arguments = {"template": "phase-done", "text": "", "subject": "", "vars": PHASE}
    send(make(channels, ["zh"]), "mail", **arguments, severity="critical")
    send(make(channels, ["zh"], attempt=2), "mail", **arguments)
    (recipients, first), (_, second) = mail.messages
    assert recipients == ["sre@example.com", "lead@example.com"]
    assert first["Subject"] == "阶段 1 已完成：canary"
    assert "5.1 流量占比：5 %" in first.get_content()
    assert first["Message-ID"] == second["Message-ID"]
    assert re.fullmatch(r"<ce-run-[0-9a-f]+@example\.com>", first["Message-ID"])
    assert (first["X-CE-Run"], first["X-Priority"]) == ("run-1", "1")


def test_mail_is_encrypted_and_logged_in_with_a_trusted_server(
    make: Make, smtp: Any, certificate: Callable[[float], Certificate]
) -> None:
    made = certificate(30)
    mail, port = smtp(made.server)
    secure = {"tls": "starttls", "user": "ce", "password": "mail-secret"}
    with pytest.raises(Refused, match="did not reach mail") as caught:
        send(make(mail_channel(port, **secure)), "mail")
    assert "certificate" in caught.value.evidence[0]
    send(make(mail_channel(port, **secure, ca=str(made.file))), "mail")
    assert len(mail.messages) == 1
    assert mail.users == ["ce"]
    wrong = {**secure, "password": "wrong", "ca": str(made.file)}
    with pytest.raises(Refused) as caught:
        send(make(mail_channel(port, **wrong)), "mail")
    assert "refused the login" in caught.value.evidence[0]
    assert "wrong" not in " ".join(caught.value.evidence)


def test_a_server_without_tls_is_refused_unless_the_inventory_says_so(
    make: Make, smtp: Any
) -> None:
    _, port = smtp()
    with pytest.raises(Refused) as caught:
        send(make(mail_channel(port, tls="starttls")), "mail")
    assert caught.value.hint == "for a server without TLS say `tls: none`"


def test_a_refused_recipient_is_named_and_a_retry_writes_to_nobody_twice(
    make: Make, smtp: Any
) -> None:
    mail, port = smtp()
    ctx = make(mail_channel(port, to=["sre@example.com", "refused@example.com"]))
    for _ in range(2):
        with pytest.raises(Failed) as caught:
            send(ctx, "mail")
        assert "refused@example.com" in caught.value.evidence[0]
        assert "550 no such mailbox" in " ".join(caught.value.evidence)
    assert [recipients for recipients, _ in mail.messages] == [["sre@example.com"]]


def test_no_mail_server_is_unreachable(make: Make) -> None:
    with pytest.raises(Unreachable):
        send(make(mail_channel(1)), "mail")


def test_a_cancelled_mail_does_not_wait_for_the_server(make: Make, cancel_when: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ctx = make(mail_channel(silent.getsockname()[1]))
        accepted = threading.Event()

        def accept() -> None:
            client, _ = silent.accept()
            accepted.set()
            with client:
                client.recv(1)  # until the other side gives up

        thread = threading.Thread(target=accept)
        thread.start()
        cancel_when(ctx, accepted.is_set)
        with pytest.raises((Cancelled, Unreachable)):
            send(ctx, "mail")
        thread.join()


# -- several channels ---------------------------------------------------------------------------
def test_if_one_of_several_fails_the_result_says_which_were_sent_and_a_retry_sends_the_rest(
    make: Make, serve: Serve
) -> None:
    good, bad, slack = Inbox(), Inbox(), Slack()
    bad.status = 500
    channels = {
        "good": {"webhook": {"url": serve(good).url}},
        "bad": {"webhook": {"url": serve(bad).url}},
        "team": {"slack": {"webhook": f"{serve(slack).url}/services/T0/B0/XXXX"}},
        "all": {"channels": ["good", "bad", "team"]},
    }
    ctx = make(channels)
    with pytest.raises(Unreachable) as caught:
        send(ctx, "all")
    assert caught.value.message == "the notice did not reach bad; sent to good, team"
    assert caught.value.data["sent"] == ["good", "team"]
    assert caught.value.data["failed"] == {"bad": "webhook answered with status 500"}
    bad.status = 200
    retried = send(ctx, ["all", "good"])
    assert (retried.data["sent"], retried.data["already"]) == (["bad"], ["good", "team"])
    assert len(slack.texts) == 1


def test_a_channel_may_have_several_transports_and_languages_of_its_own(
    make: Make, serve: Serve, notices: Path
) -> None:
    inbox, slack = Inbox(), Slack()
    channels = {
        "both": {
            "languages": ["zh"],
            "webhook": {"url": serve(inbox).url},
            "slack": {"webhook": f"{serve(slack).url}/services/T0/B0/XXXX"},
        }
    }
    arguments = {"template": "phase-done", "text": "", "subject": "", "vars": PHASE}
    result = send(make(channels), "both", **arguments)
    assert result.data["sent"] == ["both/webhook", "both/slack"]
    assert list(result.data["notices"]) == ["zh"]
    send(make(channels, step="english"), "both", **arguments, languages=["en"])
    assert [text.splitlines()[0] for text in slack.texts] == [
        "*阶段 1 已完成：canary*",
        "*Phase 1 done: canary*",
    ]


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({}, "no channel 'team'"),
        ({"team": {}}, "leads nowhere"),
        ({"team": {"fax": {}}}, "unknown transport 'fax'"),
        ({"team": {"slack": {}}}, "lacks webhook for slack"),
        ({"team": {"smtp": {"host": "x"}}}, "lacks from, to for smtp"),
        ({"team": {"channels": ["b"]}, "b": {"channels": ["team"]}}, "team → b → team"),
    ],
)
def test_channels_that_cannot_work_are_refused(make: Make, channels: Any, message: str) -> None:
    with pytest.raises(Refused, match=message):
        send(make(channels), "team")


@pytest.mark.parametrize(
    "broken",
    [
        {"smtp": {"host": "127.0.0.1", "port": "mail", "from": "a@b.c", "to": "d@e.f"}},
        {"smtp": {"host": "h", "from": "a@b.c\nBcc: x@y.z", "to": "d@e.f", "tls": "none"}},
        {"webhook": {"url": "http://127.0.0.1:1", "headers": {"X-Team": "a\nb"}}},
        {"webhook": {"url": "http://127.0.0.1:1", "ca": 5}},
        {"slack": {"webhook": "nowhere"}},
        {"statuspage": {"page": "p", "token": "t", "url": "{inbox}"}},
    ],
)
def test_a_channel_that_cannot_work_silences_no_other(
    make: Make, serve: Serve, smtp: Any, broken: dict[str, Any]
) -> None:
    inbox = Inbox()
    url = serve(inbox).url
    mail, port = smtp()
    for settings in broken.values():
        if settings.get("host") == "h":
            settings.update(host="127.0.0.1", port=port)
        if settings.get("url") == "{inbox}":
            settings["url"] = serve(lambda request: (200, {"no": "list"})).url
    with pytest.raises((Failed, Refused, Unreachable), match="did not reach first; sent to second"):
        send(make({"first": broken, "second": {"webhook": {"url": url}}}), ["first", "second"])
    assert len(inbox.notices) == 1
    assert mail.messages == []


def test_a_defect_of_one_channel_silences_no_other(
    make: Make, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def breaks(*arguments: Any) -> bool:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("modules._notify.mail.send", breaks)
    inbox = Inbox()
    channels = {**mail_channel(1), "hook": {"webhook": {"url": serve(inbox).url}}}
    with pytest.raises(Failed, match="did not reach mail; sent to hook") as caught:
        send(make(channels), ["mail", "hook"])
    assert caught.value.evidence == [
        "mail: a defect of the module kept it from being sent",
        "  ZeroDivisionError: oh",
    ]
    assert "Traceback" in (tmp_path / "logs" / "step.0.1.log").read_text()


def test_silent_servers_leave_the_others_their_share_of_the_time(make: Make, serve: Serve) -> None:
    inbox = Inbox()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        channels = {
            "one": {"webhook": {"url": url}},
            "two": mail_channel(silent.getsockname()[1])["mail"],
            "last": {"webhook": {"url": serve(inbox).url}},
        }
        with pytest.raises(Failed, match="did not reach one, two; sent to last"):
            send(make(channels, seconds=3), ["one", "two", "last"])
    assert len(inbox.notices) == 1


# -- templates ----------------------------------------------------------------------------------
def test_every_missing_placeholder_is_named_before_anything_is_sent(
    make: Make, serve: Serve, notices: Path
) -> None:
    inbox = Inbox()
    ctx = make({"hook": {"webhook": {"url": serve(inbox).url}}}, ["en", "zh"])
    some = {name: value for name, value in PHASE.items() if not name.startswith("next")}
    with pytest.raises(Refused) as caught:
        notify.send(ctx, "hook", template="phase-done", vars=some)
    assert caught.value.message == (
        "the notice phase-done lacks next_phase_number, next_phase_start_time"
    )
    assert inbox.notices == {}


def test_a_template_that_is_not_there_is_refused_with_those_that_are(
    make: Make, notices: Path
) -> None:
    with pytest.raises(Refused, match="no notice 'phase' in 'en'") as caught:
        notify.send(make({"log": {"console": {}}}), "log", template="phase")
    assert "phase-done" in caught.value.hint


def test_a_notice_needs_a_template_or_a_text(make: Make) -> None:
    with pytest.raises(Refused, match="either a `template` or a `text`"):
        notify.send(make({"log": {"console": {}}}), "log")


def test_a_template_begins_with_its_subject(make: Make, root: Path) -> None:
    folder = root / "files" / "notices" / "en"
    folder.mkdir(parents=True)
    (folder / "bad.txt").write_text("Hello\n")
    with pytest.raises(Refused, match="first line of the notice"):
        notify.send(make({"log": {"console": {}}}), "log", template="bad")


EVERYTHING: dict[str, Any] = {
    **PHASE,
    **{
        name: f"<{name}>"
        for name in re.findall(
            r"\w+",
            """
            deployment_start_time estimated_completion_time grafana_dashboard_url
            deployment_status_url deployment_lead emergency_contact issue_description
            impact_scope current_status mitigation_actions incident_commander next_update
            incident_id incident_time expected_recovery recovery_time war_room severity duration
            review_time press_contact deployment_end_time deployment_status rollback_version
            rollback_reason initiated_by rollback_start_time data_status session_status
            backup_name restored_rows set_aside_rows old_database run_id traffic_steps
            summary direct_cause technical_impact business_impact
            """,
        )
    },
    "components": [{"name": "API", "state": "degraded"}, {"name": "Web", "state": "operational"}],
    "targets": [{"name": "error rate", "goal": "< 0.1 %", "actual": "0.04 %"}],
    "phases": [{"name": "canary", "planned": "30m", "actual": "28m"}],
    "highlights": ["no request failed"],
    "lessons": ["watch longer"],
    "follow_ups": ["a load test"],
    "timeline": [{"at": "14:32", "who": "Alertmanager", "what": "error rate"}],
    "root_causes": ["a memory leak"],
    "contributing_factors": ["the canary was watched too shortly"],
    "went_well": ["the rollback"],
    "went_badly": ["a restart was tried first"],
    "actions": [{"what": "a test", "owner": "SRE", "due": "Friday", "acceptance": "it is red"}],
}
NAMES = sorted(path.stem for path in (NOTICES / "en").glob("*.txt"))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", NAMES)
def test_every_notice_can_be_filled(make: Make, notices: Path, name: str, language: str) -> None:
    ctx = make({"log": {"console": {}}}, [language])
    result = notify.send(ctx, "log", template=name, vars=EVERYTHING)
    notice = result.data["notices"][language]
    assert notice["subject"]
    assert "{" not in notice["subject"] + notice["text"]
    assert "\n\n\n" not in notice["text"]
    chinese = re.search(r"[\u4e00-\u9fff]", notice["subject"] + notice["text"]) is not None
    assert chinese == (language == "zh")


def test_both_languages_have_the_same_notices_with_the_same_placeholders() -> None:
    assert sorted(path.stem for path in (NOTICES / "zh").glob("*.txt")) == NAMES
    for name in NAMES:
        english, chinese = (
            set(re.findall(r"\{[{%] *(?:for \w+ in )?([a-z_.]+)", file.read_text()))
            for file in (NOTICES / "en" / f"{name}.txt", NOTICES / "zh" / f"{name}.txt")
        )
        assert english == chinese


def test_lists_in_a_notice_are_lines(make: Make, notices: Path) -> None:
    ctx = make({"log": {"console": {}}}, ["zh"])
    text = notify.send(ctx, "log", template="status-page", vars=EVERYTHING).data["notices"]["zh"]
    assert "组件状态：\n- API：性能下降\n- Web：正常\n\n下次更新" in text["text"]


# -- check and probe ----------------------------------------------------------------------------
def test_check_shows_the_notice_and_sends_nothing(make: Make, serve: Serve, notices: Path) -> None:
    inbox = Inbox()
    ctx = make({"hook": {"webhook": {"url": serve(inbox).url}}}, mode="check")
    assert notify.send.checker is not None
    shown = notify.send.checker(ctx, "hook", template="phase-done", vars=PHASE)
    assert shown.changed
    assert shown.diff.splitlines()[:3] == [
        "+ to hook (webhook)",
        "+   Phase 1 done: canary",
        "+   ",
    ]
    assert shown.diff.count("\n") < 9, "a notice is shown short"
    assert inbox.notices == {}
    assert shown.data.keys() == send(ctx, "hook").data.keys()
    with pytest.raises(Refused, match="lacks"):
        notify.send.checker(ctx, "hook", template="phase-done", vars={})


def test_after_a_crash_only_a_receiver_that_knows_its_keys_is_sent_to_again(make: Make) -> None:
    channels = {
        "slack": {"slack": {"webhook": "http://x"}},
        "inbox": {"webhook": {"url": "http://x", "deduplicates": True}},
        "hook": {"webhook": {"url": "http://x"}},
        "oncall": {"pagerduty": {"routing_key": ROUTING_KEY}},
    }
    assert notify.send.prober is not None
    found = {
        name: notify.send.prober(make(channels), name).verdict
        for name in ("slack", "inbox", "hook", "oncall")
    }
    assert found == {
        "slack": "unknown",
        "inbox": "not_done",
        "hook": "unknown",
        "oncall": "not_done",
    }
    both = notify.send.prober(make(channels), ["inbox", "slack"])
    assert (both.verdict, both.message) == ("unknown", "nobody can tell whether slack got it")
