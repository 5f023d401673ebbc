"""A job and its outcome: the function to call, and what became of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from engine.errors import ActionError, Cancelled, Failed
from engine.executor.context import TaskContext
from engine.module_api import Context, Probe, Result


class Job(msgspec.Struct, eq=False):
    """One attempt to carry out: the function to call, its arguments and its context.

    `purpose` tells what the outcome is for; with ``guard``, `task` is the guard's number.
    `inline` jobs only compute and may run on the runner's own thread. An observation is `constant`
    if the guard asks the same each time and judges the same answer alike.
    """

    step: str
    task: int
    attempt: int
    function: Callable[..., Result | Probe]
    arguments: Mapping[str, Any]
    context: TaskContext
    purpose: Literal["run", "probe", "guard"] = "run"
    inline: bool = False
    constant: bool = False


class JobResult(msgspec.Struct):
    """What became of a job: exactly one of `result`, `probe` and `error` is set."""

    job: Job
    result: Result | None = None
    probe: Probe | None = None
    error: ActionError | None = None


def carry_out(job: Job) -> JobResult:
    """Call the job's function and turn whatever happens into a JobResult."""
    context: Context = job.context
    try:
        returned: object = job.function(context, **job.arguments)
    except ActionError as error:
        return JobResult(job, error=_with_context(job, error))
    except BaseException as error:  # whatever it is, somebody waits for an outcome
        job.context.log(traceback.format_exc())
        return JobResult(
            job,
            error=Failed(
                f"the module failed with {type(error).__name__}: {error}",
                hint="this is a defect of the module; its traceback is in the step's log",
            ),
        )
    wrong = _misfit(returned)
    if wrong:
        return JobResult(job, error=Failed(wrong, hint="this is a defect of the module"))
    if isinstance(returned, Probe):
        return JobResult(job, probe=returned)
    assert isinstance(returned, Result)
    return JobResult(job, result=returned)


def _misfit(returned: object) -> str:
    """What is wrong with what a module returned: nothing checked its types before it ran."""
    if isinstance(returned, Probe):
        return "" if returned.result is None else _misfit(returned.result)
    if not isinstance(returned, Result):
        return f"the module returned {type(returned).__name__} where a Result is due"
    for name, kind in (("changed", bool), ("data", dict), ("diff", str), ("message", str)):
        value = getattr(returned, name)
        if not isinstance(value, kind):
            return (
                f"the module returned a Result whose `{name}` is {type(value).__name__} and "
                f"has to be {kind.__name__}"
            )
    return ""


def _with_context(job: Job, error: ActionError) -> ActionError:
    """A driver that was shut by a cancellation fails in its own words; say what it really was."""
    if job.context.stopping and not isinstance(error, Cancelled):
        return Cancelled(Cancelled.STOPPED, evidence=[error.message])
    return error
