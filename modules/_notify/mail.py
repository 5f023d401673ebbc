"""Notices by e-mail, over SMTP with TLS, with a Message-ID that is the same in every attempt.

A message is plain ASCII on its way (quoted-printable, base64), as servers without 8BITMIME want it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable, is_local
from modules._http.tls import Tls
from modules._notify import addresses
from modules._notify.addresses import MailAddress
from modules._notify.transports import Mail

if TYPE_CHECKING:
    import smtplib
    import ssl
    from email.headerregistry import Address
    from email.message import EmailMessage

_PRIORITY = {"critical": "1", "error": "2"}
_PORTS = {"tls": 465, "starttls": 587, "none": 25}


class Letter(NamedTuple):
    """What is written; `key` is the same in every attempt."""

    key: str
    subject: str
    text: str
    severity: str


def send(ctx: Context, settings: Mail, letter: Letter, patience: float) -> bool:
    """Send one message to all recipients, with `patience` seconds for each answer. Those whose
    server took it in an earlier attempt of the same task are left out; if there is nobody else,
    it was sent already."""
    import smtplib

    done = ctx.cached(f"notify:mail:{letter.key}", set[str])
    sender, everyone = _sender(settings), addresses.read(settings.to, "to")
    rest = [one.address for one in everyone if one.address not in done]
    if not rest:
        return True
    message = _message(ctx, sender, everyone, letter)
    with _session(ctx, settings, patience) as session, ctx.fence():
        try:
            refused: Any = session.send_message(message, sender.address, rest)
        except smtplib.SMTPRecipientsRefused as error:
            refused = error.recipients
    took = [one for one in rest if one not in refused]
    done.update(took)
    if refused:
        raise _refusal(refused, sorted(done))
    return False


def _refusal(refused: dict[str, Any], done: list[str]) -> ActionError:
    """What it means that a server took the message for some recipients only, or for none."""
    later = all(400 <= answer[0] < 500 for answer in refused.values())
    kind = Unreachable if later else Failed
    return kind(
        f"the mail server refused {', '.join(refused)}",
        hint=f"{', '.join(done)} got it; a retry writes to the others only" if done else "",
        evidence=[f"{who}: {_words(answer)}" for who, answer in refused.items()],
        data={"reached": done},
    )


def _sender(settings: Mail) -> MailAddress:
    senders = addresses.read([settings.from_], "from")
    if len(senders) != 1:
        raise Refused(f"`from` must be one address, not {len(senders)}")
    return senders[0]


def _message(
    ctx: Context, sender: MailAddress, everyone: list[MailAddress], letter: Letter
) -> EmailMessage:
    from email import policy
    from email.message import EmailMessage
    from email.utils import format_datetime

    message = EmailMessage(policy=policy.SMTP.clone(cte_type="7bit"))
    message["From"] = _header(sender)
    message["To"] = [_header(one) for one in everyone]
    message["Subject"] = _writable(" ".join(letter.subject.split()))
    message["Date"] = format_datetime(ctx.now())
    message["Message-ID"] = f"<{letter.key}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    for name, value in ctx.identity().items():
        message[name] = value
    if letter.severity in _PRIORITY:
        message["X-Priority"] = _PRIORITY[letter.severity]
    text = _writable(letter.text)
    # Chosen here, not by its length: what is not ASCII must not go out as it is.
    message.set_content(text, cte=None if text.isascii() else _encoding(text))
    return message


def _encoding(text: str) -> str:
    """Quoted-printable where most can be read as it is, else base64."""
    foreign = sum(not character.isascii() for character in text)
    return "quoted-printable" if foreign * 6 < len(text) else "base64"


def _writable(text: str) -> str:
    """Without halves of characters, which some outputs hold and no mail can."""
    return text.encode(errors="replace").decode()


def _header(mailbox: MailAddress) -> Address:
    from email.headerregistry import Address

    local, _, domain = mailbox.address.rpartition("@")
    return Address(_writable(mailbox.name), local, domain)


@contextlib.contextmanager
def _session(ctx: Context, settings: Mail, patience: float) -> Iterator[smtplib.SMTP]:
    """A session with the server, encrypted and logged in as the inventory says."""
    import smtplib

    host, mode = settings.host, settings.tls
    port = settings.port if settings.port is not None else _PORTS[mode]
    if not 0 < port < 65536:
        raise Refused(f"the mail server's port must be from 1 to 65535, not {port}")
    timeout = ctx.remaining(at_most=patience) or patience
    if mode == "none" and not is_local(host):
        ctx.warn(f"mail goes to {host} without TLS: `notify` of the inventory says so")
    tls = Tls(settings.verify, settings.ca, "email of notify")
    security = tls.context(ctx) if mode != "none" else None
    try:
        session = _connect(ctx, host, port, timeout, security if mode == "tls" else None)
        with contextlib.closing(session), ctx.on_cancel(lambda: _shut(session)):
            if mode == "starttls":
                session.starttls(context=security)
            if settings.user:
                session.login(settings.user, settings.password)
            yield session
            with contextlib.suppress(smtplib.SMTPException, OSError):
                session.quit()
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        ctx.checkpoint()
        raise _in_our_words(f"{host}:{port}", error) from None


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


def _in_our_words(server: str, error: Exception) -> ActionError:
    import smtplib
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(
            f"the certificate of the mail server {server} is not to be trusted",
            hint="renew it, or name its authority with `ca:`",
            evidence=[str(error)],
        )
    if isinstance(error, UnicodeError):
        return Refused(
            f"the name of the mail server {server}, `user` or `password` cannot be sent",
            hint="SMTP logins are of ASCII characters",
        )
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return _not_supported(server, str(error))
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return Refused(f"the mail server {server} refused the login", evidence=[_reply(error)])
    if isinstance(error, smtplib.SMTPResponseException):
        kind = Unreachable if 400 <= error.smtp_code < 500 else Failed
        return kind(f"the mail server {server} refused the message", evidence=[_reply(error)])
    return Unreachable(f"the mail server {server} cannot be used", evidence=[str(error)])


def _not_supported(server: str, words: str) -> Refused:
    """What a server does not offer: addresses beyond ASCII, logins, or TLS."""
    if "SMTPUTF8" in words:
        return Refused(
            f"the mail server {server} takes no addresses with characters beyond ASCII (SMTPUTF8)",
            hint="give `from` and `to` addresses of ASCII characters; names may hold any",
        )
    if "AUTH" in words:
        return Refused(
            f"the mail server {server} takes no login",
            hint="leave `user` out, or is TLS needed first?",
            evidence=[words],
        )
    return Refused(
        f"the mail server {server} does not offer TLS",
        hint="for a server without TLS say `tls: none`",
        evidence=[words],
    )


def _reply(error: smtplib.SMTPResponseException) -> str:
    return _words((error.smtp_code, error.smtp_error))


def _words(answer: Any) -> str:
    code, text = answer
    return f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
