"""The runner's `Evaluator`, put together from its parts."""

from __future__ import annotations

from engine.evaluation.jobs import Jobs
from engine.evaluation.judging import Judging
from engine.evaluation.material import Material, Unrecorded
from engine.evaluation.preparing import Preparing
from engine.evaluation.scopes import Scopes


class StepEvaluator:
    """Answers what templates, inventory and modules say about a step.

    One for a run; used by the runner's thread only. It keeps no state of the run, except what no
    event may hold (`Unrecorded`).
    """

    def __init__(self, material: Material) -> None:
        unrecorded = Unrecorded(material.plan)
        self.material = material
        self.scopes = Scopes(material, unrecorded)
        preparing = Preparing(material, self.scopes, unrecorded)
        jobs = Jobs(material, self.scopes, preparing, unrecorded)
        judging = Judging(material, self.scopes, preparing, unrecorded)
        self.prepare = preparing.prepare
        self.job = jobs.job
        self.probe = jobs.probe
        self.observation = jobs.observation
        self.judge = judging.judge
        self.judge_probe = judging.judge_probe
        self.judge_observation = judging.judge_observation
        self.failure = material.failure
