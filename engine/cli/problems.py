"""Errors as people and editors read them: problems like a compiler's, messages with a hint."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from engine.cli.github import annotation, command, in_actions
from engine.cli.terminal import Writer
from engine.errors import CeRunError, InvalidRunbook, Problem
from engine.report.words import Line, Span, line, width
from engine.units import count


def tell_error(error: CeRunError, stream: TextIO | None = None) -> None:
    """What happened and what to do next, on stderr."""
    writer = Writer(stream or sys.stderr)
    if isinstance(error, InvalidRunbook):
        for problem in error.problems:
            tell_problem(writer, problem)
        lines = [line(Span(error.message, "bad"))]
    else:
        first, *more = error.message.splitlines() or [""]
        lines = [line(Span("ce-run: ", "bad"), first), *(line("  ", each) for each in more)]
    if error.hint:
        first, *more = error.hint.splitlines()
        lines.append(line(Span("  hint: ", "dim"), first))
        lines += [line(" " * 8, each) for each in more]
    writer.lines(lines)
    if in_actions() and not isinstance(error, InvalidRunbook):
        hint = f"\nhint: {error.hint}" if error.hint else ""
        writer.command(command("error", f"{error.message}{hint}"))


def tell_problem(writer: Writer, problem: Problem) -> None:
    """A problem for people; in a job of GitHub Actions also at its line of the file."""
    writer.lines(problem_lines(problem))
    if in_actions():
        message = f"{problem.message}{_tail(problem)}"
        place = (problem.file, problem.line, problem.column)
        writer.command(annotation(*place, message))


def problem_lines(problem: Problem) -> list[Line]:
    """``file:line:column: what … did you mean``, the source line, a caret below the column."""
    place = f"{problem.file}:{problem.line}:{problem.column}" if problem.line else problem.file
    lines = [line(Span(place, "head"), ": ", Span(problem.message, "bad"), _tail(problem))]
    if problem.source.strip():
        source = problem.source.rstrip("\n").expandtabs(1)
        lines.append(line(f"  {source[:160]}"))
        before = source[: max(problem.column - 1, 0)]
        if 0 < problem.column <= 160:
            lines.append(line(" " * (2 + width(before)), Span("^", "bad")))
    return lines


def _tail(problem: Problem) -> str:
    return f" … {problem.suggestion}" if problem.suggestion else ""


def problem_data(problem: Problem) -> dict[str, Any]:
    """A problem for programs."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "suggestion": problem.suggestion,
    }


def problems_found(number: int) -> str:
    """``3 problems``."""
    return count(number, "problem")
