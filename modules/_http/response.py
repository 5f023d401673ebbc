"""An HTTP answer, what its status means, and which statuses are expected."""

from __future__ import annotations

import codecs
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from engine.module_api import Check, Failed, Refused

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks; those of UTF-32 come first, as one begins with that of UTF-16."""


class Response:
    """An answer, read to its end (or to `client.BODY` bytes of it, decoded)."""

    __slots__ = (
        "at",
        "body",
        "headers",
        "is_cut",
        "seconds",
        "status",
        "tls_expiry",
        "tls_subject",
        "url",
    )

    def __init__(
        self,
        url: str,
        status: int,
        headers: dict[str, str],
        body: bytes,
        seconds: float,
        tls_expiry: float | None,
    ) -> None:
        """`seconds` until it was read. `tls_expiry` is when the first certificate that the server
        depends on ends, epoch seconds; None without TLS."""
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body
        self.seconds = seconds
        self.tls_expiry = tls_expiry
        self.tls_subject = ""
        """Whose certificate that is; empty where it is the server's own."""
        self.is_cut = False
        """Whether there was more of the body than is read."""
        self.at: datetime | None = None
        """When it came."""

    @property
    def text(self) -> str:
        """The body as text, by its byte order mark, else by the charset that its header names."""
        return self.body.decode(self._encoding(), errors="replace")

    def _encoding(self) -> str:
        for mark, name in _MARKS.items():
            if self.body.startswith(mark):
                return name
        return _charset(self.headers.get("content-type", "")) or "utf-8"

    def json(self) -> Any:
        """The body as JSON; raises Failed if it is none."""
        import json as json_module

        if self.is_cut:
            raise Failed(
                f"{self.url} answered with more than {len(self.body) >> 20} MiB: too much to be "
                "read as JSON"
            )
        try:
            text = self.body.decode(self._encoding(), "surrogatepass")
            return json_module.loads(text, parse_constant=_not_json)
        except (ValueError, RecursionError) as error:
            raise Failed(
                f"{self.url} did not answer with JSON: {_why_no_json(error)}",
                evidence=self.lines(),
            ) from None

    def lines(self, most: int = 5) -> list[str]:
        """The beginning of the body, for evidence; of a redirect first where it leads to."""
        text = self.body[:16000].decode(self._encoding(), errors="replace")[:4000]
        lines = [line[:300] for line in text.splitlines() if line.strip()][:most]
        location = self.headers.get("location")
        return [f"Location: {location[:300]}", *lines] if self.is_redirect and location else lines

    @property
    def is_redirect(self) -> bool:
        """Whether it says only where else to ask."""
        return 300 <= self.status < 400

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to be left alone for; None where it does not."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        from email.utils import parsedate_to_datetime

        try:
            until = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError):
            return None
        if self.at is None:
            return None
        if until.tzinfo is None:  # "-0000" is UTC, too
            until = until.replace(tzinfo=UTC)
        return max(0.0, (until - self.at).total_seconds())


def _charset(content_type: str) -> str:
    """The encoding that a header names, if Python knows it as one of text; else empty."""
    if "charset" not in content_type.lower():
        return ""
    from email.message import Message

    message = Message()
    message["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
    name = str(message.get_param("charset") or "")
    try:
        known = codecs.lookup(name)
    except (LookupError, ValueError):
        return ""
    # Others, such as "zlib" or "idna", turn no bytes into text, or take for ever about it.
    is_text = getattr(known, "_is_text_encoding", True) and known.name not in _SLOW
    return known.name if is_text else ""


_SLOW = frozenset(("idna", "punycode", "unicode_escape", "raw_unicode_escape", "unicode-escape"))


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")


def _why_no_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {error.encoding.upper()} text"
    return str(error)


def valid_status(text: int | str) -> None:
    """Refused for what is neither a status nor a class of them, such as ``2xx``."""
    if not re.fullmatch(r"[1-5](\d\d|xx)", str(text)):
        raise Refused(f"{text!r} is not a status", hint="write 200, [200, 204] or 2xx")


StatusText = Annotated[int | str, Check(valid_status)]
"""A status or a class of them."""


def fits(status: int, pattern: int | str) -> bool:
    """Whether a status is the expected one, or of the expected class: ``2xx``."""
    text = str(pattern)
    return str(status)[0] == text[0] if text.endswith("xx") else str(status) == text
