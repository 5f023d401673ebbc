"""The certificate of the lab's TLS entrance: signed by itself, made anew at every start."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.clock import utc
from engine.lab.clock import CLOCK
from engine.lab.layout import write_private

_LIFETIME = datetime.timedelta(days=90)


def make_certificate(folder: Path, host: str, address: str) -> tuple[Path, Path]:
    """A certificate for a host name, an address and localhost.

    Returns two files: certificate and key, as HAProxy reads them, and the certificate alone, for
    those who are to trust it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names: list[x509.GeneralName] = [
        x509.DNSName(host),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address(address)),
    ]
    now = utc(CLOCK.now())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    both, public = folder / "edge.pem", folder / "edge-ca.pem"
    write_private(both, certificate + secret)
    write_private(public, certificate)
    return both, public
