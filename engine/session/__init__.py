"""A session: one process carrying one run, put together from its parts and taken apart again.

`begin` starts a new run, `resume` goes on with an old one; both give a `Session` whose `run`
does the work. Here is decided what belongs to a run on disk (its folder, its runbook as it was),
who may run it (locks, preemption), what a signal means, and with which exit status it ends.
"""

from engine.session.beginning import begin
from engine.session.composition import Addresses, Description, LabFinder, Surroundings
from engine.session.edits import compare_plans
from engine.session.options import Options, check_options, registry_for
from engine.session.recorded import old_plan, read_run
from engine.session.resuming import Decision, Wishes, answer, resume
from engine.session.session import EXIT_OUTCOME, EXIT_STOPPED, Session, exit_status

__all__ = [
    "EXIT_OUTCOME",
    "EXIT_STOPPED",
    "Addresses",
    "Decision",
    "Description",
    "LabFinder",
    "Options",
    "Session",
    "Surroundings",
    "Wishes",
    "answer",
    "begin",
    "check_options",
    "compare_plans",
    "exit_status",
    "old_plan",
    "read_run",
    "registry_for",
    "resume",
]
