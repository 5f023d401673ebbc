"""How text leaves ce-run: encoded once, at the edge, for who reads it there.

What is told may hold anything: output of commands, answers of servers, names, owners of locks,
our own YAML. A terminal obeys control characters, a log view follows line feeds, GitHub Actions
obeys lines that look like its commands, a page renders Markdown and HTML. So each of these edges
has one function here, and nothing is written without it.

What is taken out stays visible: a control character becomes its escape (``\\x1b``, ``\\u202e``),
only colours disappear. All of them leave a text alone that is encoded already.
"""

from __future__ import annotations

import re

_COLOUR = re.compile("(?:\x1b\\[|\x9b)[0-9;:]{0,64}m")
"""Select graphic rendition: what colours a text, and nothing else."""

_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0a-\x1f"  # C0, but for the tab: escape, bell, carriage return, line feed
    "\x7f-\x9f"  # delete, and C1, which begins sequences as escape does
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # order, invisible
    "\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff"  # no characters
    "\U000e0000-\U000e00ff"  # tags: text that nobody sees
    "]"
)
_NAMED = {"\n": "\\n", "\r": "\\r"}
_COMMAND = re.compile(r":(?=:)|##(?=\[)")
_MARKUP = re.compile(r"[&<>`*_\[\]~|\\@#!]")
_LONGEST_PAGE = 200_000
"""Characters; GitHub refuses a page of more than 1 MiB."""

_FENCE = re.compile(r"[`~]{3,}")


def visible(text: str) -> str:
    """`text` as one line that can do nothing: no control characters, no hidden ones, no other
    order than that of writing; colours are left out."""
    if text.isprintable():  # which is nearly always; no character of `_UNSEEN` is
        return text
    return _UNSEEN.sub(_escape, _COLOUR.sub("", text))


def visible_lines(text: str) -> str:
    """The same of a text of several lines, which stay lines."""
    if text.isprintable():
        return text
    return "\n".join(visible(each.removesuffix("\r")) for each in text.split("\n"))


def for_actions(text: str) -> str:
    """A visible text for a log of GitHub Actions, without anything that its runner takes for a
    command: ``::`` at the beginning of a line, wherever that is after trimming, or ``##[``
    anywhere in it. Both get a space."""
    return _COMMAND.sub(lambda found: f"{found[0]} ", text)


def for_json(text: str) -> str:
    """JSON with everything escaped that is not to be seen, and ``##[``, which a log of GitHub
    Actions would obey: the same value, written otherwise. Line feeds between its parts stay."""
    if "##[" in text:
        text = text.replace("##[", "#\\u0023[")
    if text.isprintable():
        return text
    return _UNSEEN.sub(lambda found: found[0] if found[0] == "\n" else _json(found[0]), text)


def for_markdown(text: str) -> str:
    """A visible text in one line of Markdown: nothing in it is markup, a mention or HTML."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", visible(text))


def fenced(text: str) -> str:
    """Lines as a block of Markdown that nothing in them ends."""
    body = visible_lines(text)
    if len(body) > _LONGEST_PAGE:
        body = f"{body[:_LONGEST_PAGE]}\n… the rest is in the journal"
    fence = "`" * max((len(each) + 1 for each in _FENCE.findall(body)), default=3)
    return f"{fence}text\n{body}\n{fence}\n"


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json(character: str) -> str:
    data = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{data[place : place + 4]}" for place in range(0, len(data), 4))
