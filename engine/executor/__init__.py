"""Carries out tasks: the contexts that actions see, and the threads they run on.

The runner hands over a `Job` and gets a `JobResult` in its mailbox; it never waits for an
action. Threads, because every driver this project uses is synchronous; daemon threads, because
an action that cannot be stopped must not keep the process alive (its task is then in doubt, and
the journal says so).
"""

from engine.executor.context import ANSWER_PATIENCE, Attempt, TaskContext
from engine.executor.executor import Executor, ThreadExecutor
from engine.executor.jobs import Job, JobResult, carry_out
from engine.executor.logs import LOG_BYTES, LOG_FULL, log_stem
from engine.executor.services import CLOSE_PATIENCE, Clients, Fence, NoFence, Services

__all__ = [
    "ANSWER_PATIENCE",
    "CLOSE_PATIENCE",
    "LOG_BYTES",
    "LOG_FULL",
    "Attempt",
    "Clients",
    "Executor",
    "Fence",
    "Job",
    "JobResult",
    "NoFence",
    "Services",
    "TaskContext",
    "ThreadExecutor",
    "carry_out",
    "log_stem",
]
