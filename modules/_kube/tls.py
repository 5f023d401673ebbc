"""TLS of a cluster: whom we trust, and with which certificate we come."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.module_api import Context, Failed, Refused

if TYPE_CHECKING:
    import ssl


def pem(entry: Mapping[str, Any], name: str, where: str) -> str | None:
    """The PEM text of ``<name>-data`` (base64) or of the file ``<name>``."""
    if encoded := entry.get(f"{name}-data"):
        try:
            return base64.b64decode(str(encoded)).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Refused(f"{name}-data in {where} is not base64 of a PEM text") from error
    return path_of(entry.get(name))


def path_of(path: object) -> str | None:
    """The text of a file, if one is named."""
    if not path:
        return None
    try:
        return Path(str(path)).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read: {error}") from error


def text_of(value: object) -> str | None:
    """A PEM text as it is, or the text of the file that is named."""
    return str(value) if value and "-----BEGIN" in str(value) else path_of(value)


def tls_context(
    ctx: Context,
    server: str,
    *,
    verify: bool,
    said_by: str,
    authority: str | None,
    certificate: str | None,
    key: str | None,
) -> ssl.SSLContext | None:
    """Settings of TLS for a server, from PEM texts; None if it is reached without.

    `said_by` names, for messages, what they come from.
    """
    if not server.startswith("https:"):
        return None
    import ssl

    if authority is not None and "-----BEGIN" not in authority:
        raise Refused(f"the certificate authority that {said_by} gives for {server} is no PEM text")
    if key and not certificate:
        raise Refused(f"{said_by} gives a client's key for {server}, but no certificate")
    try:
        context = ssl.create_default_context(cadata=authority)
        if certificate:
            _load_certificate(context, certificate, key or certificate)
        # As in kubectl: many authorities say nothing of the use of their keys, and Python 3.13
        # would refuse them for that.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except (ssl.SSLError, ValueError, TypeError) as error:  # the others: no ASCII, no PEM at all
        why = getattr(error, "reason", "") or error
        raise Failed(
            f"the certificates for {server} cannot be used: {why}",
            hint="check certificate-authority, client-certificate and client-key",
        ) from error
    if not verify:
        ctx.warn(f"the TLS certificate of {server} is not verified: {said_by} says so")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL reads a key only from a file: one of our own that lives for a moment."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # mode 0600
        file.write(f"{certificate}\n{key}")
        file.flush()
        context.load_cert_chain(file.name)
