"""Tell people: Slack, PagerDuty, e-mail, Statuspage, webhooks, the console.

Inventory section ``notify``::

    notify:
      languages: [en, zh]           # of notices; default [en]; a channel may have its own
      templates: files/notices      # folder below the runbook's: <language>/<template>.txt
      channels:
        team: {slack: {webhook: "{{ secret('slack_webhook') }}"}}
        oncall: {pagerduty: {routing_key: "{{ secret('pagerduty') }}"}}
        status: {statuspage: {page: ID, components: [ID, ID], token: "{{ secret('token') }}"}}
        mail:
          languages: [zh]
          smtp: {host: mail.example.com, port: 587, from: ce@example.com, to: [sre@example.com],
                 user: ce, password: "{{ secret('mail') }}", tls: starttls}   # or tls, none
                 # an entry of `to` may be "Doe, Jane <jane@example.com>"
        hook: {webhook: {url: "https://example.com/hook", headers: {X-Team: sre},
                         sign: "{{ secret('hook') }}"}}
        log: {console: {}}
        everyone: {channels: [team, oncall, mail]}

``pagerduty``, ``statuspage`` and ``slack`` take a ``url`` (for slack: ``webhook``) of another
server than the public one; all take ``ca: FILE`` and ``verify: false`` as http-check does.
``deduplicates: true`` in a slack, webhook or smtp entry says that its receiver recognises a
repeated notice by its key (header ``Idempotency-Key``, ``Message-ID``); PagerDuty
(``dedup_key``) does so by itself, and Statuspage is asked.

With `sign` a webhook's requests carry ``X-CE-Timestamp`` (epoch seconds) and ``X-CE-Signature``:
``sha256=`` and the HMAC-SHA256, in hexadecimal, of the timestamp, a full stop and the body. A
channel whose secret is missing, whose settings make no sense or that is down silences no other,
and with a `timeout` of the step each gets a share of the time that is left. A receiver that asks
to be left alone for ten seconds or less (``Retry-After``) is sent to again after that. What is too
long for a receiver is shortened and says so.

A template's first line is ``Subject: …``, its body follows after an empty line; placeholders are
``{{ name }}``, filled from the step's `vars` and everything else in the step's scope.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from engine.module_api import (
    ActionError,
    Arguments,
    Cancelled,
    Context,
    Failed,
    FileName,
    Name,
    Probe,
    Refused,
    Result,
    Template,
    Value,
    action,
    count,
)
from modules._http.client import TIMEOUT
from modules._notify import channels as notify_channels
from modules._notify import delivery as notify_delivery
from modules._notify import text as notify_text
from modules._notify.channels import Notice, Severity, Target

Channel = Annotated[str, Name("notify.channels", "channel")]
TemplateName = Annotated[str, FileName("files/notices", "notify.templates", "notice")]
IncidentStatus = Literal["", "investigating", "identified", "monitoring", "resolved"]
Components = Literal["", "operational", "degraded", "down", "partial_outage", "under_maintenance"]
Alert = Literal["", "trigger", "acknowledge", "resolve"]

_SHOWN = 3
"""Lines of a notice that a diff shows under its subject."""

_LONGEST_WAIT = 10.0
_ROUNDS = 3


@action(effect="once", simulates=True)
def send(
    ctx: Context,
    channel: Channel | list[Channel],
    *,
    template: TemplateName = "",
    subject: Template = "",
    text: Template = "",
    vars: dict[str, Value] | None = None,
    languages: list[str] | None = None,
    severity: Severity = "info",
    incident: str = "",
    status: IncidentStatus = "",
    component_status: Components = "",
    alert: Alert = "",
) -> Result:
    """Send a notice to a channel of the inventory, or to several.

    Unknown channels, a missing template and placeholders without a value fail the step with nothing
    sent. If one of several channels fails, the others are still sent to; a retry sends to the rest.

    Result data: ``sent`` (channels sent to now), ``already`` (by an earlier attempt, or known to
    their receiver), ``failed`` (channel → why), ``key``, ``notices`` (language → ``subject`` and
    ``text``). Effect once: a receiver that deduplicates by the key gets a notice once in spite of a
    crash; where it cannot, the run asks a person.

    Args:
        channel: a name of the inventory's `notify.channels`, or several.
        template: name of a template; or else `text`.
        subject: the subject, instead of the template's.
        text: the text, instead of a template; both are rendered once, with `vars`.
        vars: values for placeholders.
        languages: instead of the channel's.
        severity: critical, error, warning or info; PagerDuty's, others show it.
        incident: notices with the same incident belong together: PagerDuty and Statuspage update
            what they have. Default: every notice is its own.
        status: of a Statuspage incident; ``resolved`` also resolves PagerDuty's.
        component_status: state of the Statuspage components.
        alert: what becomes of PagerDuty's alert of the incident; default trigger.
    """
    targets, notices = _prepared(ctx, channel, template, subject, text, vars, languages)
    return _send(ctx, targets, Notice(notices, severity, incident, status, component_status, alert))


def _send(ctx: Context, targets: list[Target], notice: Notice) -> Result:
    """Send each target the notice in its languages, unless an earlier attempt did."""
    notices = notice.words
    if notice.alert in ("acknowledge", "resolve") and not notice.incident:
        raise Refused(
            f"`alert: {notice.alert}` needs an `incident`", hint="the one that it was triggered for"
        )
    if len(targets) == 1 and isinstance(targets[0].broken, Refused):
        raise targets[0].broken
    done = ctx.cached(f"notify:done:{ctx.key}", set[str])
    sent: list[str] = []
    already = [target.name for target in targets if target.name in done]

    def deliver(target: Target, patience: float) -> None:
        words = notify_text.chosen(notices, target.languages)
        own = msgspec.structs.replace(notice, words=words)
        known = notify_delivery.deliver(ctx, target, own, patience)
        done.add(target.name)
        (already if known else sent).append(target.name)
        ctx.progress(f"{target}: {'had it already' if known else 'sent'}")

    failures = _send_all(ctx, [one for one in targets if one.name not in done], deliver)
    data = _data(ctx, notices, sent, already, failures)
    if failures:
        raise _failure(failures, sent + already, data)
    return Result(changed=bool(sent), data=data, message=_summary(targets, notices))


@send.check
def send_check(ctx: Context, args: Arguments) -> Result:
    """Prepare everything and show it; send nothing."""
    targets, notices = _prepared(
        ctx, args.channel, args.template, args.subject, args.text, args.vars, args.languages
    )
    if broken := {target.name: target.broken for target in targets if target.broken is not None}:
        raise _failure(broken, [], _data(ctx, notices, [], [], broken))
    lines = []
    for target in targets:
        lines.append(f"+ to {target}")
        for one in notify_text.chosen(notices, target.languages).values():
            lines += [f"+   {line}" for line in _shortly(one)]
    for language, one in notices.items():
        ctx.log(f"{language}: {one.subject}\n\n{one.text}")
    names = [target.name for target in targets]
    return Result(
        changed=True,
        data=_data(ctx, notices, names, [], {}),
        diff="\n".join([*lines, ""]),
        message=f"would send: {_summary(targets, notices)}",
    )


def _shortly(words: notify_text.Words) -> list[str]:
    """A notice as a diff shows it; the step's log has it whole."""
    body = words.text.splitlines()
    left = len(body) - _SHOWN
    rest = [f"… and {count(left, 'line')} more"] if left > 0 else []
    return [words.subject, "", *body[:_SHOWN], *rest]


@send.probe
def send_probe(ctx: Context, args: Arguments) -> Probe:
    """Ask the receivers that can be asked; those that deduplicate may be sent to again."""
    targets = notify_channels.targets(ctx, _names(args.channel), None)
    answers = {one.name: notify_delivery.probe(ctx, one, args.incident) for one in targets}
    unsure = [name for name, answer in answers.items() if answer == "unknown"]
    if unsure:
        return Probe("unknown", message=f"nobody can tell whether {', '.join(unsure)} got it")
    if all(answer == "done" for answer in answers.values()):
        return Probe("done", Result(changed=True, data=_data(ctx, {}, [], list(answers), {})))
    return Probe("not_done", message="whoever has it already recognises it by its key")


def _names(channel: str | list[str]) -> list[str]:
    return [channel] if isinstance(channel, str) else channel


def _send_all(
    ctx: Context, targets: list[Target], deliver: Callable[[Target, float], None]
) -> dict[str, ActionError]:
    """Send to each, again where a receiver asks for a moment; what went wrong, by receiver."""
    failures: dict[str, ActionError] = {}
    pending = targets
    for turn in range(_ROUNDS):
        round_ = _send_each(ctx, pending, deliver)
        for target in pending:
            failures.pop(target.name, None)
        failures.update(round_)
        waits = {name: wait for name, error in round_.items() if (wait := _moment(ctx, error))}
        pending = [target for target in pending if target.name in waits]
        if not pending or turn == _ROUNDS - 1:
            break
        longest = max(waits.values())
        ctx.progress(f"{', '.join(waits)}: asked for {longest:g} s, then once more")
        ctx.sleep(longest)
    return failures


def _send_each(
    ctx: Context, targets: list[Target], deliver: Callable[[Target, float], None]
) -> dict[str, ActionError]:
    """Send to each once, whatever becomes of the others."""
    failures: dict[str, ActionError] = {}
    for place, target in enumerate(targets):
        try:
            deliver(target, _patience(ctx, len(targets) - place))
        except Cancelled:
            raise
        except ActionError as error:
            ctx.checkpoint()  # asked to stop: then it is no failure of the channel
            failures[target.name] = error
        except Exception as error:
            ctx.log(traceback.format_exc())
            failures[target.name] = Failed(
                "a defect of the module kept it from being sent",
                hint="its traceback is in the step's log",
                evidence=[f"{type(error).__name__}: {error}"],
            )
        if target.name in failures:
            ctx.progress(f"{target}: {failures[target.name].message}")
    return failures


def _patience(ctx: Context, left: int) -> float:
    """Seconds for one answer, so that the last of those that are left gets its turn, too."""
    remaining = ctx.remaining()
    return TIMEOUT if remaining is None else min(TIMEOUT, 0.9 * remaining / left)


def _moment(ctx: Context, error: ActionError) -> float:
    """Seconds that a receiver asks to wait; 0 where it asks for none, or for too many."""
    asked = error.data.get("retry_after")
    remaining = ctx.remaining()
    most = _LONGEST_WAIT if remaining is None else min(_LONGEST_WAIT, remaining / 2)
    return max(asked, 0.1) if isinstance(asked, float) and asked <= most else 0.0


def _prepared(
    ctx: Context,
    channel: str | list[str],
    template: str,
    subject: str,
    text: str,
    vars: dict[str, Any] | None,
    languages: list[str] | None,
) -> tuple[list[Target], dict[str, notify_text.Words]]:
    """Where it goes and, in every language that is needed, what."""
    targets = notify_channels.targets(ctx, _names(channel), languages)
    spoken = dict.fromkeys(one for target in targets for one in target.languages)
    notices = notify_text.prepare(ctx, list(spoken), template, subject, text, vars or {})
    return targets, notices


def _data(
    ctx: Context,
    notices: dict[str, notify_text.Words],
    sent: list[str],
    already: list[str],
    failures: dict[str, ActionError],
) -> dict[str, Any]:
    return {
        "key": ctx.key,
        "sent": sent,
        "already": already,
        "failed": {name: error.message for name, error in failures.items()},
        "notices": {
            language: {"subject": one.subject, "text": one.text}
            for language, one in notices.items()
        },
    }


def _failure(
    failures: dict[str, ActionError], sent: list[str], data: dict[str, Any]
) -> ActionError:
    """One failure alone keeps its kind; several are a plain failure that lists them."""
    names = ", ".join(failures)
    partly = [
        f"{name} (only {', '.join(people)})"
        for name, error in failures.items()
        if isinstance(people := error.data.get("reached"), list) and people
    ]
    sent = [*sent, *partly]
    reached = f"; sent to {', '.join(sent)}" if sent else "; nothing was sent"
    evidence = [
        line
        for name, error in failures.items()
        for line in [f"{name}: {error.message}", *(f"  {one}" for one in error.evidence)]
    ]
    first = next(iter(failures.values()))
    kind = type(first) if len(failures) == 1 else Failed
    return kind(
        f"the notice did not reach {names}{reached}",
        hint=first.hint or "a retry sends to the rest only",
        evidence=evidence,
        data=data,
    )


def _summary(targets: list[Target], notices: dict[str, notify_text.Words]) -> str:
    first = next(iter(notices.values()))
    return f"{first.subject} → {', '.join(target.name for target in targets)}"
