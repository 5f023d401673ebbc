"""Hides secrets in everything that a run writes.

A `Redactor` is told each secret when it becomes known and from then on replaces it, and the
forms it takes on its way through other systems: base64 (at every alignment), hexadecimal,
URL-encoded, escaped for JSON, HTML, a shell or Python, wrapped over lines, and cut off where
somebody shortened a text. One compiled expression searches for all of them at once; as long as
there is no secret, nothing is searched at all.

A character that others escape is looked for in every spelling (`_spellings`), so that it does
not matter which of them a system chose to escape.
"""

from __future__ import annotations

import threading
from typing import Any

from engine.redaction.forms import SHORTEST, SecretForm, forms, meant, texts
from engine.redaction.search import MASK, Search

__all__ = ["MASK", "SHORTEST", "Redactor"]


class Redactor:
    """Knows values and replaces them by ``***``. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: set[str] = set()
        self._forms: set[SecretForm] = set()
        self._texts: set[str] = set()
        self._search: Search | None = None

    @property
    def active(self) -> bool:
        """Whether there is anything to hide."""
        return bool(self._forms)

    def add(self, value: str) -> bool:
        """Hide `value` from now on, each line of it too if it has several (keys, certificates),
        the password inside a URL, and what it is base64 of.

        False if it is too short to be hidden.
        """
        with self._lock:
            if value in self._values:
                return True
            known = [each for each in meant(value) if len(each) >= SHORTEST]
            if not known:
                return not value.strip()
            lines = [line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST]
            spelled = {*known, *lines}
            self._values |= {value, *spelled}
            self._forms = self._forms | {form for each in spelled for form in forms(each)}
            self._texts = self._texts | {text for each in spelled for text in texts(each)}
            self._search = None
            return True

    def mask(self, text: str) -> str:
        """`text` without secrets."""
        return self._searching().mask(text) if self._forms else text

    def mask_value(self, value: Any) -> Any:
        """A JSON value without secrets in its texts and keys; the same object if none was
        found."""
        if not self._forms:
            return value
        return self._mask_value(value)

    def _searching(self) -> Search:
        """The search for all forms, made when it is needed after a change."""
        search = self._search
        if search is None:
            with self._lock:
                search = self._search = Search(self._forms, self._texts)
        return search

    def _mask_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            masked = {self._mask_value(k): self._mask_value(v) for k, v in value.items()}
            same = len(masked) == len(value) and all(
                masked.get(k, MASK) is v for k, v in value.items()
            )
            return value if same else masked
        if isinstance(value, list | tuple):
            items = [self._mask_value(each) for each in value]
            same = all(a is b for a, b in zip(items, value, strict=True))
            return value if same else items
        if isinstance(value, int | float) and not isinstance(value, bool):
            return MASK if str(value) in self._values else value
        return value
