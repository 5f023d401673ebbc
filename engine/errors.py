"""The errors of ce-run, in one tree, so that each place catches exactly what it can answer for.

::

    CeRunError                   somebody can do something about it; carries the exit status
    ├── UsageError               the command line is wrong                              exit 2
    │   └── InvalidRunbook       one or more Problems in a runbook or inventory         exit 2
    ├── ResumeRefused            this run cannot go on as it was asked to               exit 2
    │   └── NothingLeft          it has succeeded: nothing is left to do                exit 0
    ├── LockHeld                 another run owns the environment                       exit 4
    ├── WaitingForPerson         nobody is here to answer                               exit 5
    ├── JournalError             the journal cannot be written or read                  exit 3
    │   └── JournalDamaged       a line other than the last is damaged
    ├── LabError                 the lab cannot do what was asked                       exit 1
    └── ActionError              an action did not do its work; see `kind`              exit 1
        ├── Failed               the other side did it wrong or said no for good
        ├── Unreachable          the other side could not be reached; a retry may help
        ├── Refused              we or they refuse to do this as it stands (credentials, rules)
        ├── TimedOut             the attempt's time was up
        └── Cancelled            somebody asked it to stop
    IllegalEvent                 a bug of ours: the fold was given an event that cannot follow

An ActionError tells what happened, `hint` tells what to try next, `evidence` quotes the other
side (pod events, a server's answer) line by line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

FailureKind = Literal[
    "failed",
    "unreachable",
    "refused",
    "timed_out",
    "guard_tripped",
    "inconclusive",
    "budget_exceeded",
    "gate_refused",
    "gate_timed_out",
    "cancelled",
    "interrupted",
]
"""The one taxonomy of failures (design §3); every kind can be rescued."""


class CeRunError(Exception):
    """Something a person can act on: what happened, and in `hint` what to do next."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CeRunError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_status = 2


class Problem:
    """One thing that is wrong in a file, at a place a person can go to.

    `line` and `column` count from 1; 0 means the file as a whole.
    """

    __slots__ = ("column", "file", "line", "message", "source", "suggestion")

    def __init__(
        self,
        file: str,
        line: int,
        column: int,
        message: str,
        *,
        suggestion: str = "",
        source: str = "",
    ) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.message = message
        self.suggestion = suggestion
        self.source = source

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        tail = f" … {self.suggestion}" if self.suggestion else ""
        return f"{place}: {self.message}{tail}"

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"


class InvalidRunbook(UsageError):
    """A runbook or inventory has problems; all that could be found are in `problems`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        count = len(problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} found")
        self.problems = list(problems)


class ResumeRefused(CeRunError):
    """The run cannot be resumed as asked: finished, running elsewhere, or its runbook changed."""

    exit_status = 2


class NothingLeft(ResumeRefused):
    """The run has succeeded: there is nothing to resume, and nothing is wrong."""

    exit_status = 0


class LockHeld(CeRunError):
    """Another living run owns a lock that this run needs."""

    exit_status = 4


class WaitingForPerson(CeRunError):
    """A person has to answer and none can be asked here."""

    exit_status = 5


class JournalError(CeRunError):
    """The journal cannot be written or read; without it nothing may happen."""

    exit_status = 3


class JournalDamaged(JournalError):
    """A line of the journal other than a torn last one does not check out."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(
            f"{file}:{line}: the journal is damaged here: {reason}",
            hint="restore the file from a copy; ce-run does not guess what a damaged journal said",
        )
        self.line = line


class LabError(CeRunError):
    """The lab is not there, or could not do what was asked."""


class ActionError(CeRunError):
    """An action did not do its work.

    `data` is what it knows all the same (it becomes the result of the failed task), `evidence`
    are lines of the other side's own words.
    """

    kind: ClassVar[FailureKind] = "failed"
    retryable: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        evidence: Sequence[str] = (),
        data: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.evidence = list(evidence)
        self.data = data or {}
        self.final = False
        """True if the step can only fail, whatever the world is like: nobody is advised to do it
        again. A rescue ends with such a step where a person has to act."""


class Failed(ActionError):
    """The work was tried and went wrong."""


class Unreachable(ActionError):
    """The other side could not be reached."""

    kind = "unreachable"


class Refused(ActionError):
    """It was refused, by a rule of ours or by the other side; trying again alone will not help."""

    kind = "refused"
    retryable = False


class TimedOut(ActionError):
    """The time for it was up."""

    kind = "timed_out"


class Cancelled(ActionError):
    """It was asked to stop before it was done."""

    kind = "cancelled"
    retryable = False
    STOPPED: ClassVar[str] = "stopped before it was done"
    """The message where that is all; another one says what became of what it was doing."""


class IllegalEvent(RuntimeError):
    """An event that cannot follow the state it was applied to: a defect in ce-run itself."""
