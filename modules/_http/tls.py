"""TLS of HTTP servers: how their certificates are checked, and when the first of them ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.module_api import Context, Refused

if TYPE_CHECKING:
    import ssl


class Tls:
    """How a server's certificate is checked: by `verify`, against `ca` if there is one."""

    def __init__(self, verify: bool = True, ca: str = "", section: str = "") -> None:
        """`section` is the part of the inventory that says so."""
        self.verify = verify
        self.ca = ca
        self.section = section

    def context(self, ctx: Context) -> ssl.SSLContext:
        """The TLS settings, made once a run (reading the authorities takes a while)."""
        if not self.verify:
            said = f"`{self.section}` of the inventory says so"
            ctx.warn(f"TLS certificates are not verified: {said}")
        return ctx.cached(f"http:tls:{self.verify}:{self.ca}", lambda: self._make(ctx))

    def _make(self, ctx: Context) -> ssl.SSLContext:
        import ssl

        import httpx

        if not self.verify:
            unchecked = ssl.create_default_context()
            unchecked.check_hostname = False
            unchecked.verify_mode = ssl.CERT_NONE
            return unchecked
        if not self.ca:
            return _lenient(httpx.create_ssl_context())
        path = Path(self.ca) if Path(self.ca).is_absolute() else ctx.file(self.ca)
        try:
            return _lenient(ssl.create_default_context(cafile=str(path)))
        except OSError as error:
            why = getattr(error, "reason", "") or error.strerror or "it holds no certificate"
            raise Refused(f"the CA file {path} cannot be used: {why}") from None


def _lenient(context: ssl.SSLContext) -> ssl.SSLContext:
    """As curl and kubectl have it: many authorities of one's own say nothing of the use of their
    keys, and Python 3.13 would refuse them for that."""
    import ssl

    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def expiry(tls: Any) -> tuple[float, str] | None:
    """Of a connection's TLS: when the first certificate of the server's chain ends (epoch
    seconds), and whose that is, empty for the server's own."""
    from cryptography import x509

    chain = [x509.load_der_x509_certificate(one) for one in _chain(tls)]
    if not chain:
        return None
    first = min(chain, key=lambda one: one.not_valid_after_utc)
    name = "" if first is chain[0] else first.subject.rfc4514_string()
    return first.not_valid_after_utc.timestamp(), name


def _chain(tls: Any) -> list[bytes]:
    """The server's certificates as it was verified by them (DER), its own first; without a
    verification those that it sent."""
    for place in (tls, getattr(tls, "_sslobj", None)):  # public since Python 3.13
        for name in ("get_verified_chain", "get_unverified_chain"):
            chain = getattr(place, name, lambda: None)()
            if chain:
                return [_der(one) for one in chain]
    own = tls.getpeercert(binary_form=True)
    return [own] if own else []


def _der(certificate: Any) -> bytes:
    if isinstance(certificate, bytes):
        return certificate
    from _ssl import ENCODING_DER

    encoded: bytes = certificate.public_bytes(ENCODING_DER)
    return encoded
