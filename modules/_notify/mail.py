"""Notices by e-mail, over SMTP with TLS, with a Message-ID that is the same in every attempt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.module_api import Context, Failed, Refused, Unreachable, is_local
from modules._http import client as http_client
from modules._http.tls import Tls

if TYPE_CHECKING:
    import smtplib
    import ssl
    from email.message import EmailMessage

_PRIORITY = {"critical": "1", "error": "2"}


def send(
    ctx: Context, settings: Mapping[str, Any], key: str, subject: str, text: str, severity: str
) -> bool:
    """Send one message to all recipients. Those whose server took it in an earlier attempt of
    the same task are left out; if there is nobody else, it was sent already."""
    import smtplib

    done = ctx.cached(f"notify:mail:{key}", set[str])
    everyone = _addresses(settings["to"])
    rest = [one for one in everyone if one not in done]
    if not rest:
        return True
    message = _message(ctx, settings, key, subject, text, severity)
    with _session(ctx, settings) as session, ctx.fence():
        try:
            refused = session.send_message(message, to_addrs=rest)
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
    done.update(one for one in rest if one not in refused)
    if refused:
        raise Failed(
            f"the mail server refused {', '.join(refused)}",
            hint="the others have it" if done else "",
            evidence=[f"{who}: {_words(answer)}" for who, answer in refused.items()],
        )
    return False


def _addresses(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else str(value).split(",")
    return [str(one).strip() for one in listed if str(one).strip()]


def _message(
    ctx: Context, settings: Mapping[str, Any], key: str, subject: str, text: str, severity: str
) -> EmailMessage:
    from email.message import EmailMessage
    from email.utils import format_datetime

    message = EmailMessage()
    sender = str(settings["from"])
    try:
        message["From"] = sender
        message["To"] = ", ".join(_addresses(settings["to"]))
    except ValueError as error:  # a line break, by which one could add headers
        raise Refused(f"`from` and `to` must be addresses: {error}") from None
    message["Subject"] = " ".join(subject.split())
    message["Date"] = format_datetime(ctx.now())
    domain = sender.rpartition("@")[2].strip("> ") or "ce-run"
    message["Message-ID"] = f"<{key}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    for name, value in ctx.identity().items():
        message[name] = value
    if severity in _PRIORITY:
        message["X-Priority"] = _PRIORITY[severity]
    message.set_content(text)
    return message


@contextlib.contextmanager
def _session(ctx: Context, settings: Mapping[str, Any]) -> Iterator[smtplib.SMTP]:
    """A session with the server, encrypted and logged in as the inventory says."""
    import smtplib

    host, mode = str(settings["host"]), str(settings.get("tls", "starttls"))
    if mode not in ("starttls", "tls", "none"):
        raise Refused(f"tls: {mode} is not known", hint="write starttls, tls or none")
    port = _port(settings.get("port") or {"tls": 465, "starttls": 587, "none": 25}[mode])
    patience = float(settings.get("patience") or http_client.TIMEOUT)
    timeout = ctx.remaining(at_most=patience) or patience
    if mode == "none" and not is_local(host):
        ctx.warn(f"mail goes to {host} without TLS: `notify` of the inventory says so")
    tls = Tls(settings.get("verify", True), settings.get("ca", ""), "email of notify")
    security = tls.context(ctx) if mode != "none" else None
    try:
        session = _connect(ctx, host, port, timeout, security if mode == "tls" else None)
        with contextlib.closing(session), ctx.on_cancel(lambda: _shut(session)):
            if mode == "starttls":
                session.starttls(context=security)
            if settings.get("user"):
                session.login(str(settings["user"]), str(settings.get("password") or ""))
            yield session
            with contextlib.suppress(smtplib.SMTPException, OSError):
                session.quit()
    except (smtplib.SMTPException, OSError) as error:
        ctx.checkpoint()
        raise _in_our_words(f"{host}:{port}", error) from None


def _port(value: Any) -> int:
    if str(value).isdigit() and 0 < int(value) < 65536:
        return int(value)
    raise Refused(f"the mail server's port must be a number, not {value!r}")


def _connect(
    ctx: Context, host: str, port: int, timeout: float, security: ssl.SSLContext | None
) -> smtplib.SMTP:
    """Connect and take the server's greeting, for which a cancellation does not wait."""
    import smtplib

    class Plain(smtplib.SMTP):
        def connect(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:
            with ctx.on_cancel(lambda: _shut(self)):
                return super().connect(*arguments, **options)

    class Encrypted(smtplib.SMTP_SSL):
        def connect(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:
            with ctx.on_cancel(lambda: _shut(self)):
                return super().connect(*arguments, **options)

    if security is not None:
        return Encrypted(host, port, timeout=timeout, context=security)
    return Plain(host, port, timeout=timeout)


def _shut(session: smtplib.SMTP) -> None:
    with contextlib.suppress(Exception):
        if session.sock is not None:
            session.sock.shutdown(2)  # both ways: whoever reads from it returns


def _in_our_words(server: str, error: Exception) -> Failed | Refused | Unreachable:
    import smtplib
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(
            f"the certificate of the mail server {server} is not to be trusted",
            hint="renew it, or name its authority with `ca:`",
            evidence=[str(error)],
        )
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Refused(
            f"the mail server {server} does not offer what is needed",
            hint="for a server without TLS say `tls: none`",
            evidence=[str(error)],
        )
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return Refused(f"the mail server {server} refused the login", evidence=[_said(error)])
    if isinstance(error, smtplib.SMTPSenderRefused | smtplib.SMTPDataError):
        kind = Unreachable if 400 <= error.smtp_code < 500 else Failed
        return kind(f"the mail server {server} refused the message", evidence=[_said(error)])
    return Unreachable(f"the mail server {server} cannot be used", evidence=[str(error)])


def _said(error: smtplib.SMTPResponseException) -> str:
    return _words((error.smtp_code, error.smtp_error))


def _words(answer: Any) -> str:
    code, text = answer
    return f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
