"""What the runbook's templates, the inventory and the modules say about a step.

`StepEvaluator` is the runner's `Evaluator`, made of four parts, each in a file of its own:
`scopes` (what a step's templates can read), `preparing` (whether and how a step begins), `jobs`
(what the executor gets) and `judging` (which event an outcome becomes).
"""

from engine.evaluation.evaluator import StepEvaluator
from engine.evaluation.material import Material
from engine.evaluation.values import run_stamp

__all__ = ["Material", "StepEvaluator", "run_stamp"]
