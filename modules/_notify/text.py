"""What notices say: templates in several languages, with every placeholder filled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from engine.module_api import Context, Refused

_PLACEHOLDER = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)")
_LOCAL = re.compile(r"\{%-?\s*(?:for\s+(\w+)(?:\s*,\s*(\w+))?\s+in|set\s+(\w+)\s*=)")


class Words(msgspec.Struct, frozen=True):
    """A notice in one language."""

    subject: str
    text: str


def prepare(
    ctx: Context,
    languages: list[str],
    template: str,
    subject: str,
    text: str,
    vars: dict[str, Any],
) -> dict[str, Words]:
    """The notice in each language; Refused, naming all of them, where placeholders are missing."""
    if bool(template) == bool(text):
        raise Refused("a notice is either a `template` or a `text`")
    raw = {one: _source(ctx, one, template) if template else (subject, text) for one in languages}
    missing = {
        name
        for parts in raw.values()
        for part in parts
        for name in _placeholders(part)
        if not ctx.evaluate(f"{name} is defined", **vars)
    }
    if missing:
        raise Refused(
            f"the notice {template or 'text'} lacks {', '.join(sorted(missing))}",
            hint="give the step `vars: {name: value}`",
        )
    made = {}
    for language, (first, body) in raw.items():
        heading = str(ctx.render(subject or first, **vars)).strip()
        words = str(ctx.render(body, **vars)).strip()
        made[language] = Words(heading or _first_line(words), words)
    return made


def _first_line(text: str) -> str:
    """A subject for a notice without one: no pager and no mail does without."""
    line = text.partition("\n")[0].strip()
    return line if len(line) <= 100 else f"{line[:99]}…"


def _placeholders(text: str) -> set[str]:
    """Names that a template reads, without those that it sets itself."""
    own = {name for found in _LOCAL.findall(text) for name in found}
    return set(_PLACEHOLDER.findall(text)) - own - {"env", "secret", "loop", "range"}


def _source(ctx: Context, language: str, template: str) -> tuple[str, str]:
    """Subject and body of a template, as written."""
    folder = str(ctx.connection("notify").get("templates") or "files/notices")
    path = ctx.file(Path(folder) / language / f"{template}.txt")
    try:
        head, _, body = path.read_text(encoding="utf-8").partition("\n")
    except FileNotFoundError:
        raise Refused(
            f"there is no notice {template!r} in {language!r}: {path} is missing",
            hint=f"there are: {', '.join(_known(path.parent)) or 'none'}",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the notice {path} cannot be read: {error}") from None
    marker, colon, subject = head.partition(":")
    if marker.strip().lower() != "subject" or not colon:
        raise Refused(f"the first line of the notice {path} must be `Subject: …`")
    return subject.strip(), body.strip("\n")


def _known(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.txt"))


def chosen(notices: dict[str, Words], languages: tuple[str, ...]) -> dict[str, Words]:
    """The notice in a channel's languages, in their order."""
    return {language: notices[language] for language in languages}
