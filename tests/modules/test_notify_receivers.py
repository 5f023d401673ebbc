"""Receivers have limits, habits and faults: the notice goes out all the same, to whom it is for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Failed, Refused, Result, Unreachable
from modules import notify
from modules._notify import addresses
from modules._notify.addresses import MailAddress
from tests.modules.conftest import Answer, MakeContext, Request, Serve, Told
from tests.modules.receivers import ROUTING_KEY, Inbox, PagerDuty, Slack, Statuspage
from tests.modules.smtp_server import MailServer

HOSTILE = "{{ secret('api_key') }} {% for x in y %} {# c #}"


@pytest.fixture
def smtp() -> Iterator[Callable[..., MailServer]]:
    """Start mail servers that end with the test."""
    servers: list[MailServer] = []

    def start(*extensions: str, **more: Any) -> MailServer:
        servers.append(MailServer(*extensions, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def make(make_context: MakeContext) -> Callable[..., TaskContext]:
    """A context with these channels."""

    def build(channels: dict[str, Any], languages: Any = "en", **more: Any) -> TaskContext:
        listed = [languages] if isinstance(languages, str) else languages
        return make_context({"notify": {"channels": channels, "languages": listed}}, **more)

    return build


Make = Callable[..., TaskContext]
Smtp = Callable[..., MailServer]


def send(ctx: TaskContext, channel: Any, **arguments: Any) -> Result:
    return notify.send(ctx, channel, **{"text": "All is well.", "subject": "News", **arguments})


def mail(server: MailServer, **more: Any) -> dict[str, Any]:
    settings = {"from": "ce@example.com", "to": ["sre@example.com"], "tls": "none", **more}
    return {"mail": {"smtp": {"host": "127.0.0.1", "port": server.port, **settings}}}


# -- mail ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("extensions", [(), ("8BITMIME",), ("8BITMIME", "SMTPUTF8")])
@pytest.mark.parametrize("text", ["Rückfall auf 5.0 ist fertig", "回滚已完成：5.0", "x" * 3000])
def test_mail_reaches_servers_that_take_seven_bits(
    make: Make, smtp: Smtp, extensions: tuple[str, ...], text: str
) -> None:
    server = smtp(*extensions)
    send(make(mail(server)), "mail", subject="Rückfall\nBcc: evil@example.com", text=text)
    (message,), (raw,) = server.messages, server.raw
    assert raw.isascii()
    assert max(map(len, raw.splitlines())) < 998
    assert message.get_content().strip() == text
    assert message["Subject"] == "Rückfall Bcc: evil@example.com"
    assert message["Bcc"] is None


def test_halves_of_characters_stop_no_mail(make: Make, smtp: Smtp) -> None:
    server = smtp()
    send(make(mail(server)), "mail", subject="a\ud800b", text="it said \udcff")
    assert server.messages[0].get_content().strip() == "it said ?"


def test_a_comma_in_a_name_leads_to_nobody_else(make: Make, smtp: Smtp) -> None:
    server = smtp()
    people = ["Doe, Jane <jane@example.com>", '"Roe, \\"R\\"" <roe@example.com>', "a@example.com"]
    send(make(mail(server, to=people, **{"from": "Größe, Ce <ce@example.com>"})), "mail")
    assert server.recipients == ["jane@example.com", "roe@example.com", "a@example.com"]
    (message,) = server.messages
    named = [(one.display_name, one.addr_spec) for one in message["To"].addresses]
    assert named[:2] == [("Doe, Jane", "jane@example.com"), ('Roe, "R"', "roe@example.com")]
    assert message["From"].addresses[0].display_name == "Größe, Ce"


@pytest.mark.parametrize(
    ("value", "people"),
    [
        ("a@b.c, d@e.f", ["a@b.c", "d@e.f"]),
        ('"Doe, J" <a@b.c>, d@e.f, a@b.c', ["a@b.c", "d@e.f"]),
        (["a@b.c, d@e.f"], ["a@b.c", "d@e.f"]),
        (["SRE <a@größe.example>"], ["a@xn--gre-6ka8i.example"]),
    ],
)
def test_addresses_are_read_as_people_write_them(value: Any, people: list[str]) -> None:
    assert [one.address for one in addresses.read(value, "to")] == people


@pytest.mark.parametrize(
    "value", ["Doe, Jane <a@b.c>", "sre", ["a@b.c\nBcc: x@y.z"], "", ["a@b@c"]]
)
def test_what_is_no_address_is_refused(value: Any) -> None:
    with pytest.raises(Refused, match="`to`"):
        addresses.read(value, "to")


def test_a_name_before_an_address_is_kept() -> None:
    assert addresses.read(["Jane Doe <j@b.c>"], "to") == [MailAddress("Jane Doe", "j@b.c")]


def test_an_address_beyond_ascii_needs_a_server_for_it(make: Make, smtp: Smtp) -> None:
    channels = mail(smtp(), **{"from": "größe@example.com"})
    with pytest.raises(Refused) as caught:
        send(make(channels), "mail")
    assert "SMTPUTF8" in " ".join(caught.value.evidence)
    assert "tls: none" not in caught.value.hint
    able = smtp("8BITMIME", "SMTPUTF8")
    send(make(mail(able, **{"from": "größe@example.com"})), "mail")
    assert "SMTPUTF8" in able.senders[0]


def test_a_mail_that_reached_some_is_not_told_as_none(make: Make, smtp: Smtp) -> None:
    people = ["sre@example.com", "gone@example.com"]
    server = smtp(refused=("gone@example.com",))
    with pytest.raises(Failed) as caught:
        send(make(mail(server, to=people)), "mail")
    assert caught.value.message == (
        "the notice did not reach mail; sent to mail (only sre@example.com)"
    )
    assert server.recipients == ["sre@example.com"]


def test_a_recipient_who_is_refused_for_now_may_be_tried_again(make: Make, smtp: Smtp) -> None:
    server = smtp(refused=("sre@example.com",), code=450)
    with pytest.raises(Unreachable, match="nothing was sent"):
        send(make(mail(server)), "mail")


def test_a_password_that_cannot_be_sent_is_no_defect(make: Make, smtp: Smtp) -> None:
    server = smtp("AUTH PLAIN LOGIN")
    with pytest.raises(Refused) as caught:
        send(make(mail(server, user="ce", password="geheimß")), "mail")
    assert "logins are of ASCII" in caught.value.hint


# -- limits -------------------------------------------------------------------------------------
@pytest.mark.parametrize("letter", ["x", "回", '"', "\n"])
def test_what_is_too_long_for_a_pager_is_shortened_and_goes_out(
    make: Make, serve: Serve, letter: str
) -> None:
    pagerduty = PagerDuty()
    server = serve(pagerduty)
    settings = {"routing_key": ROUTING_KEY, "url": f"{server.url}/v2/enqueue"}
    channels = {"oncall": {"pagerduty": {**settings, "source": "s" * 300}}}
    long = {"incident": "INC " + "i" * 600, "text": f"Begin {letter * 600_000} end"}
    send(make(channels), "oncall", subject="S" * 3000, **long)
    send(make(channels, step="b"), "oncall", status="resolved", **long)
    other = {**long, "incident": long["incident"] + "x"}
    send(make(channels, step="c"), "oncall", **other)
    assert [len(events) for events in pagerduty.alerts.values()] == [2, 1]
    assert all(len(request.body) < 512_000 for request in server.requests)
    text = next(iter(pagerduty.alerts.values()))[0]["payload"]["custom_details"]["text"]
    assert text.startswith("Begin")
    assert text.endswith("of 600010 characters)")


def test_a_status_page_gets_what_it_can_hold(make: Make, serve: Serve) -> None:
    page = Statuspage()
    server = serve(page)
    settings = {"page": "page-1", "token": "secret-token", "url": f"{server.url}/v1"}
    ctx = make({"status": {"statuspage": settings}})
    send(ctx, "status", subject="S" * 900, text="t" * 30_000)
    incident = server.requests[-1].json()["incident"]
    assert (len(incident["name"]), len(incident["body"])) == (255, 25_000)


def test_an_entity_is_not_cut_in_half(make: Make, serve: Serve) -> None:
    slack = Slack()
    webhook = f"{serve(slack).url}/services/T0/B0/XXXX"
    for shift in range(5):
        ctx = make({"team": {"slack": {"webhook": webhook}}}, step=f"s{shift}")
        send(ctx, "team", text="x" * shift + "&" * 10_000)
    assert all(text.endswith("&amp;\n…") for text in slack.texts)


# -- what is no success -------------------------------------------------------------------------
PAGE = (200, "<html>Log in</html>", {"Content-Type": "text/html"})
ELSEWHERE = (302, "", {"Location": "https://login.example.com/"})


@pytest.mark.parametrize(
    ("transport", "answer", "words"),
    [
        ("slack", PAGE, "with a page for people"),
        ("slack", (200, {"ok": False, "error": "no_service"}), "it says no_service"),
        ("slack", ELSEWHERE, "status 302"),
        ("webhook", ELSEWHERE, "status 302"),
        ("pagerduty", PAGE, "status 200"),
        ("pagerduty", ELSEWHERE, "status 302"),
        ("statuspage", ELSEWHERE, "status 302"),
        ("statuspage", PAGE, "did not answer with JSON"),
    ],
)
def test_an_answer_that_is_no_success_is_told_as_none(
    make: Make, serve: Serve, transport: str, answer: Answer, words: str
) -> None:
    url = serve(lambda request: answer).url
    settings = {
        "slack": {"webhook": url},
        "webhook": {"url": url},
        "pagerduty": {"routing_key": ROUTING_KEY, "url": url},
        "statuspage": {"page": "p", "token": "secret-token", "url": url},
    }[transport]
    with pytest.raises((Failed, Refused), match="nothing was sent") as caught:
        send(make({"one": {transport: settings}}), "one")
    assert words in " ".join(caught.value.evidence)


def test_an_incident_that_was_not_saved_is_no_success(make: Make, serve: Serve) -> None:
    url = serve(lambda request: (200, [] if request.method == "GET" else {})).url
    settings = {"page": "p", "token": "secret-token", "url": url}
    with pytest.raises(Failed) as caught:
        send(make({"one": {"statuspage": settings}}), "one")
    assert "did not answer with the incident" in caught.value.evidence[0]


# -- one channel silences no other ----------------------------------------------------------------
class Broken(dict[str, Any]):
    """Channels of which one cannot be rendered."""

    def __getitem__(self, name: str) -> Any:
        if name == "bad":
            raise Refused("the inventory has no secret 'slak'")
        return super().__getitem__(name)


@pytest.mark.parametrize(
    "bad",
    [
        {"fax": {}},
        {"slack": {}},
        {"webhook": {"url": "http://127.0.0.1:1", "headrs": {}}},
        {"webhook": {"url": "http://127.0.0.1:1", "verify": "perhaps"}},
        {"smtp": {"host": "h", "from": "a@b.c", "to": "nobody"}},
        {"channels": ["typo"]},
        {"channels": ["bad"]},
        {"channels": "inbox"},
        {"languages": "zh", "console": {}},
        {"slack": "https://example.com"},
        "https://example.com",
        {},
        None,
    ],
)
def test_a_channel_that_is_not_right_is_named_and_the_others_get_it(
    make: Make, serve: Serve, bad: Any
) -> None:
    inbox = Inbox()
    channels = {"bad": bad, "inbox": {"webhook": {"url": serve(inbox).url}}}
    with pytest.raises((Failed, Refused, Unreachable)) as caught:
        send(make(channels), ["bad", "inbox"])
    assert caught.value.message.endswith("; sent to inbox")
    assert len(inbox.notices) == 1
    assert not any("Error" in line for line in caught.value.evidence)


def test_an_unknown_secret_of_one_channel_silences_no_other(make: Make, serve: Serve) -> None:
    inbox = Inbox()
    channels = Broken(bad={}, inbox={"webhook": {"url": serve(inbox).url}})
    with pytest.raises(Refused, match="did not reach bad; sent to inbox"):
        send(make(channels), ["bad", "inbox"])
    assert len(inbox.notices) == 1


def test_an_expired_token_silences_no_other(make: Make, serve: Serve) -> None:
    inbox = Inbox()
    expired = serve(lambda request: (401, {"error": "token expired"})).url
    channels = {
        "status": {"statuspage": {"page": "p", "token": "old-token", "url": expired}},
        "inbox": {"webhook": {"url": serve(inbox).url}},
    }
    with pytest.raises(Refused, match="did not reach status; sent to inbox"):
        send(make(channels), ["status", "inbox"])


def test_settings_made_of_digits_are_text(make: Make, serve: Serve) -> None:
    server = serve(lambda request: (202, {"status": "success"}))
    channels = {"oncall": {"pagerduty": {"routing_key": 12345, "url": server.url}}}
    send(make(channels), "oncall")
    assert server.requests[0].json()["routing_key"] == "12345"


# -- templates and text of the world ------------------------------------------------------------
def notices(root: Path, **files: bytes) -> None:
    """Files of notices by language."""
    for language, content in files.items():
        folder = root / "files" / "notices" / language
        folder.mkdir(parents=True)
        (folder / "marked.txt").write_bytes(content)


def test_a_notice_may_begin_with_a_byte_order_mark(make: Make, root: Path, told: Told) -> None:
    notices(root, en=b"\xef\xbb\xbfSubject: With a mark\r\n\r\nHello {{ who }}\r\n")
    ctx = make({"log": {"console": {}}})
    data = notify.send(ctx, "log", template="marked", vars={"who": "you"}).data
    assert data["notices"]["en"] == {"subject": "With a mark", "text": "Hello you"}


def test_a_notice_that_is_no_text_is_refused_in_words(make: Make, root: Path) -> None:
    notices(root, en="Subject: ü\n\nü".encode("latin-1"))
    with pytest.raises(Refused, match="is not UTF-8 text"):
        notify.send(make({"log": {"console": {}}}), "log", template="marked")


def test_a_language_that_lacks_the_notice_silences_nobody(
    make: Make, serve: Serve, root: Path, told: Told
) -> None:
    notices(root, en=b"Subject: Down\n\nIt is down.")
    inbox = Inbox()
    url = serve(inbox).url
    channels = {"zh": {"languages": ["zh"], "webhook": {"url": url}}, "log": {"console": {}}}
    notify.send(make(channels), ["zh", "log"], template="marked")
    assert [one["text"] for one in inbox.notices.values()] == ["It is down."]
    assert "people get it in en" in told.warnings[0]


def test_a_text_that_is_empty_in_this_run_is_none(make: Make, root: Path) -> None:
    notices(root, en=b"Subject: Marked\n\nHello")
    ctx = make({"log": {"console": {}}})
    empty = "{{ '' if marked else 'x' }}"
    arguments = {"template": "marked", "text": empty, "subject": empty, "vars": {"marked": True}}
    data = notify.send(ctx, "log", **arguments).data  # type: ignore[arg-type]
    assert data["notices"]["en"] == {"subject": "Marked", "text": "Hello"}


def everything(url: str, mailbox: MailServer) -> dict[str, Any]:
    """A channel of every kind."""
    return {
        "slack": {"slack": {"webhook": f"{url}/slack"}},
        "oncall": {"pagerduty": {"routing_key": ROUTING_KEY, "url": f"{url}/pager"}},
        "hook": {"webhook": {"url": f"{url}/hook"}},
        "status": {"statuspage": {"page": "p", "token": "secret-token", "url": f"{url}/status"}},
        "log": {"console": {}},
        **mail(mailbox),
    }


@pytest.mark.parametrize("route", ["text", "template"])
def test_text_of_the_world_stays_text_on_every_route(
    make_context: MakeContext, serve: Serve, smtp: Smtp, root: Path, told: Told, route: str
) -> None:
    """What a command said is sent as it was said: nothing renders it a second time."""

    def answer(request: Request) -> Answer:
        if "pager" in request.path:
            return 202, {"status": "success"}
        if "incidents" in request.path:
            return 200, [] if request.method == "GET" else {"id": "1"}
        return 200, "ok"

    server, mailbox = serve(answer), smtp()
    channels = everything(server.url, mailbox)
    notices(root, en=b"Subject: It said {{ output.stdout }}\n\nIt said {{ why }}")
    arguments: dict[str, Any] = {
        "text": {"subject": "It said {{ output.stdout }}", "text": "It said {{ why }}"},
        "template": {"template": "marked"},
    }[route]
    ctx = make_context(
        {"notify": {"channels": channels}},
        scope={"output": {"stdout": HOSTILE}},
        secrets={"api_key": "swordfish-9"},
    )
    result = notify.send(ctx, list(channels), vars={"why": HOSTILE}, incident=HOSTILE, **arguments)
    expected = f"It said {HOSTILE}"
    assert result.data["notices"]["en"] == {"subject": expected, "text": expected}
    bodies = [json.dumps(one.json()) for one in server.requests if one.body]
    assert len(bodies) == 4
    assert all(json.dumps(HOSTILE)[1:-1] in body for body in bodies)
    (letter,) = mailbox.messages
    assert letter["Subject"] == expected
    assert letter.get_content().strip() == expected
    assert expected in told.progress
    assert "swordfish" not in "".join(bodies) + str(letter) + "".join(told.progress)
