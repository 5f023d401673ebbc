"""SQL as text: cut a script into its statements, and find those that fit no transaction.

Not a parser: it knows what may hide a semicolon (quotes, dollar quotes, comments, parentheses,
``BEGIN ATOMIC … END``), and the first words of a statement.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator

import msgspec

from engine.module_api import Refused

_TOKEN = r"""
    (?P<comment>--[^\n]*)
  | (?P<block>/\*)
  | (?P<dollar>\$(?:[A-Za-z_\u0080-\uffff][\w]*)?\$)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*'(?:\s*\n\s*'(?:[^'\\]|\\.|'')*')*)
  | (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
  | (?P<word>[A-Za-z_\u0080-\uffff][\w$]*)
  | (?P<meta>\\[^\n]*)
  | (?P<sign>[();])
  | (?P<open>['"])
"""


@functools.cache
def _token() -> re.Pattern[str]:
    # Compiled at first use: it takes longer than importing the module.
    return re.compile(_TOKEN, re.VERBOSE | re.DOTALL)


_WORDS = 8


class Statement(msgspec.Struct, frozen=True):
    """One statement without its semicolon; `line` is where it begins, from 1."""

    text: str
    line: int
    words: tuple[str, ...]
    """Its first words outside quotes, comments and parentheses, in upper case."""

    @property
    def short(self) -> str:
        """Its first line, for people."""
        first, newline, _ = self.text.partition("\n")
        return first if len(first) <= 100 and not newline else f"{first[:97]}..."


def split(script: str) -> list[Statement]:
    """The statements of a script; Refused, with the line, where a quote or comment has no end."""
    script = script.removeprefix("\ufeff")
    if "\0" in script:
        line = script.count("\n", 0, script.index("\0")) + 1
        raise Refused(f"line {line}: there is a NUL byte, at which the server would stop reading")
    return list(_Splitter(script).statements())


def code(text: str) -> str:
    """A statement without what it says in quotes and comments; bodies in dollar quotes stay."""
    splitter, parts, position = _Splitter(text), list[str](), 0
    for token in splitter.tokens():
        if token.lastgroup in ("comment", "block", "escaped", "quoted"):
            parts.append(text[position : token.start()])
            position = splitter.after(token)
        elif token.lastgroup == "dollar":
            end = splitter.after(token)
            body = text[token.end() : end - len(token.group())]
            parts += [text[position : token.end()], code(body), token.group()]
            position = end
    return " ".join([*parts, text[position:]])


class _Splitter:
    def __init__(self, script: str) -> None:
        self._script = script
        self._counted = (0, 1)  # a position, and the line that it is on

    def statements(self) -> Iterator[Statement]:
        begin: int | None = None
        words: list[str] = []
        last = ""
        depth = atomic = position = 0
        for token in self.tokens():
            text, kind = token.group(), token.lastgroup
            begin = self._begin(begin, position, token)
            position = self.after(token)
            if kind == "word":
                word = text.upper()
                if depth == 0 and len(words) < _WORDS:
                    words.append(word)
                atomic, last = _atomic(atomic, word, last), word
            elif text in ("(", ")"):
                depth = max(0, depth + (1 if text == "(" else -1))
            elif text == ";" and depth == 0 and not atomic:
                if begin is not None:
                    statement = self._statement(begin, token.start(), words)
                    _refuse_copy(statement)  # now: what follows it may be no SQL but data
                    yield statement
                begin, words, last = None, [], ""
        if begin is None and (rest := self._script[position:]).strip():
            begin = position + len(rest) - len(rest.lstrip())
        if begin is not None:
            statement = self._statement(begin, len(self._script), words)
            _refuse_copy(statement)
            yield statement

    def tokens(self) -> Iterator[re.Match[str]]:
        """What may hide a semicolon, a word or a parenthesis, one after the other."""
        position, token = 0, _token()
        while match := token.search(self._script, position):
            position = self.after(match)
            yield match

    def _begin(self, begin: int | None, position: int, match: re.Match[str]) -> int | None:
        """Where the statement begins: at the first thing that is neither space nor comment."""
        if begin is not None:
            return begin
        between = self._script[position : match.start()]
        if between.strip():
            return position + len(between) - len(between.lstrip())
        if match.lastgroup in ("comment", "block") or match.group() == ";":
            return None
        return match.start()

    def after(self, match: re.Match[str]) -> int:
        """Where the token ends; it may reach further than its pattern."""
        kind = match.lastgroup
        if kind == "dollar":
            end = self._script.find(match.group(), match.end())
            if end < 0:
                raise Refused(f"line {self._line(match.start())}: {match.group()} has no end")
            return end + len(match.group())
        if kind == "block":
            return self._comment_end(match.start())
        if kind == "open":
            raise Refused(f"line {self._line(match.start())}: a quote has no end")
        if kind == "meta":
            raise Refused(
                f"line {self._line(match.start())}: {match.group().strip()[:40]} is a command of "
                "psql, not SQL",
                hint="leave it out, or run the file with psql in a `shell` step",
            )
        return match.end()

    def _comment_end(self, start: int) -> int:
        depth = 0
        for mark in re.compile(r"/\*|\*/").finditer(self._script, start):
            depth += 1 if mark.group() == "/*" else -1
            if depth == 0:
                return mark.end()
        raise Refused(f"line {self._line(start)}: a comment has no end")

    def _statement(self, begin: int, end: int, words: list[str]) -> Statement:
        return Statement(self._script[begin:end].strip(), self._line(begin), tuple(words))

    def _line(self, position: int) -> int:
        """The line of a position; counted on from the last one, as scripts may be long."""
        last, line = self._counted if self._counted[0] <= position else (0, 1)
        line += self._script.count("\n", last, position)
        self._counted = (position, line)
        return line


def _atomic(depth: int, word: str, last: str) -> int:
    """How many ``BEGIN ATOMIC`` and, inside of one, ``CASE`` are open after this word."""
    if word == "ATOMIC" and last == "BEGIN":
        return depth + 1
    if depth and word == "CASE":
        return depth + 1
    return depth - 1 if depth and word == "END" else depth


_CONTROL = {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"}
_ALONE = (
    ("VACUUM",),
    ("CREATE", "DATABASE"),
    ("DROP", "DATABASE"),
    ("CREATE", "TABLESPACE"),
    ("DROP", "TABLESPACE"),
    ("ALTER", "SYSTEM"),
    ("CREATE", "SUBSCRIPTION"),
    ("DROP", "SUBSCRIPTION"),
)


def _refuse_copy(statement: Statement) -> None:
    """Refuse what needs a stream to copy from or to."""
    words = statement.words
    pairs = set(itertools.pairwise(words))
    if words[:1] == ("COPY",) and pairs & {("FROM", "STDIN"), ("TO", "STDOUT")}:
        raise Refused(
            f"line {statement.line}: {statement.short}: there is no standard input or output to "
            "copy from or to",
            hint="use INSERT (pg_dump writes it with --inserts), or COPY with a file of the server",
        )


def refuse_what_fits_no_transaction(statements: list[Statement]) -> None:
    """Refuse, before anything is sent, what would break or end the script's one transaction."""
    for statement in statements:
        words = statement.words
        place = f"line {statement.line}: {statement.short}"
        first = words[0] if words else ""
        to_savepoint = first == "ROLLBACK" and "TO" in words[1:3]
        if (first in _CONTROL and not to_savepoint) or words[:2] == ("PREPARE", "TRANSACTION"):
            raise Refused(
                f"{place}: a script controls no transactions, it is one",
                hint="leave BEGIN, COMMIT and ROLLBACK out",
            )
        if any(words[: len(alone)] == alone for alone in _ALONE) or (
            first in ("CREATE", "DROP", "REINDEX") and "CONCURRENTLY" in words
        ):
            raise Refused(
                f"{place}: this statement cannot run inside a transaction",
                hint="take it out of the script and run it with psql in a `shell` step",
            )
