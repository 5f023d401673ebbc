"""What notices say: templates in several languages, with every placeholder filled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.module_api import Context, Refused

_PLACEHOLDER = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)")
_LISTED = re.compile(r"\{%-?\s*for\s+[\w\s,]+?\s+in\s+([A-Za-z_]\w*)")
_LANGUAGE = re.compile(r"[a-z]{2}(-[A-Za-z]{2,4})?")
_LOCAL = re.compile(r"\{%-?\s*(?:for\s+(\w+)(?:\s*,\s*(\w+))?\s+in|set\s+(\w+)\s*=)")


_ENGINES = frozenset(
    ("inputs", "steps", "run", "host", "hosts", "groups", "item", "failure", "approval", "vars")
)
"""Names that the engine gives a meaning: they are said in no language."""


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
    """The notice in each language; Refused, naming all of them, where placeholders are missing.

    A language that has no such notice is left out with a warning as long as another has it.
    """
    if template and text and not str(ctx.render(text, **vars)).strip():
        text = ""  # one that is empty in this run
    if bool(template) == bool(text):
        raise Refused("a notice is either a `template` or a `text`")
    raw = (
        _sources(ctx, languages, template)
        if template
        else dict.fromkeys(languages, (subject, text))
    )
    missing = _missing(ctx, [part for parts in raw.values() for part in parts], vars)
    if missing:
        raise Refused(
            f"the notice {template or 'text'} lacks {', '.join(missing)}",
            hint="give the step `vars: {name: value}`",
        )
    words = {}
    for language, (first, body) in raw.items():
        names = _in_language(ctx, language, (subject, first, body), vars)
        own = str(ctx.render(subject, **names)).strip()
        heading = own or str(ctx.render(first, **names)).strip()
        rendered = str(ctx.render(body, **names)).strip()
        words[language] = Words(heading or _first_line(rendered), rendered)
    return words


def _sources(ctx: Context, languages: list[str], template: str) -> dict[str, tuple[str, str]]:
    """A template as written in each language that has it; Refused if none has."""
    sources, faults = {}, list[Refused]()
    for language in languages:
        try:
            sources[language] = _source(ctx, language, template)
        except Refused as error:
            faults.append(error)
    if not sources and faults:
        raise faults[0]
    for fault in faults:
        ctx.warn(f"{fault.message}; people get it in {', '.join(sources)}")
    return sources


def _missing(ctx: Context, parts: list[str], vars: dict[str, Any]) -> list[str]:
    """Names of placeholders that nothing fills; all are asked for in one expression."""
    names = sorted({name for part in parts for name in _placeholders(part)})
    known = ctx.evaluate(f"[{', '.join(f'{name} is defined' for name in names)}]", **vars)
    return [name for name, filled in zip(names, known, strict=True) if not filled]


def _in_language(
    ctx: Context, language: str, parts: tuple[str, ...], vars: dict[str, Any]
) -> dict[str, Any]:
    """The names of a notice, those that are said by language (``{en: …, zh: …}``) in this one."""
    names = dict(vars)
    read = sorted({each for part in parts for each in _placeholders(part)} - _ENGINES)
    values = ctx.evaluate(f"[{', '.join(read)}]", **vars)
    for name, value in zip(read, values, strict=True):
        if isinstance(value, Mapping) and language in value and all(map(_is_language, value)):
            names[name] = value[language]
    return names


def _is_language(key: object) -> bool:
    return isinstance(key, str) and _LANGUAGE.fullmatch(key) is not None


def _first_line(text: str) -> str:
    """A subject for a notice without one: no pager and no mail does without."""
    line = text.partition("\n")[0].strip()
    return line if len(line) <= 100 else f"{line[:99]}…"


def _placeholders(text: str) -> set[str]:
    """Names that a template reads, without those that it sets itself."""
    own = {name for names in _LOCAL.findall(text) for name in names}
    return (
        {*_PLACEHOLDER.findall(text), *_LISTED.findall(text)}
        - own
        - {"env", "secret", "loop", "range"}
    )


def _source(ctx: Context, language: str, template: str) -> tuple[str, str]:
    """Subject and body of a template, as written."""
    folder = str(ctx.connection("notify").get("templates") or "files/notices")
    path = ctx.file(Path(folder) / language / f"{template}.txt")
    try:
        head, _, body = path.read_text(encoding="utf-8-sig").partition("\n")
    except FileNotFoundError:
        raise Refused(
            f"there is no notice {template!r} in {language!r}: {path} is missing",
            hint=f"there are: {', '.join(_known(path.parent)) or 'none'}",
        ) from None
    except UnicodeDecodeError:
        raise Refused(f"the notice {path} is not UTF-8 text", hint="save it as UTF-8") from None
    except OSError as error:
        raise Refused(f"the notice {path} cannot be read: {error.strerror}") from None
    marker, colon, subject = head.partition(":")
    if marker.strip().lower() != "subject" or not colon:
        raise Refused(f"the first line of the notice {path} must be `Subject: …`")
    return subject.strip(), body.strip("\n")


def _known(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.txt"))


def chosen(notices: dict[str, Words], languages: tuple[str, ...]) -> dict[str, Words]:
    """The notice in a channel's languages, in their order; in others if it has none of them."""
    spoken = {language: notices[language] for language in languages if language in notices}
    return spoken or notices
