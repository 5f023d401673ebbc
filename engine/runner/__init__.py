"""The runner: the only loop, and the only one that appends to the journal.

`runner` has the loop; `questions` the probes and observations that are on their way, `ports` what
the loop needs of others, `messages` what arrives in its mailbox.
"""

from engine.runner.messages import Broken, Caution, Progress, Signal, Wake
from engine.runner.ports import Evaluator, Observer
from engine.runner.questions import PROBE_TIME, SHORTEST_OBSERVATION
from engine.runner.runner import Parts, Runner

__all__ = [
    "PROBE_TIME",
    "SHORTEST_OBSERVATION",
    "Broken",
    "Caution",
    "Evaluator",
    "Observer",
    "Parts",
    "Progress",
    "Runner",
    "Signal",
    "Wake",
]
