"""What a rehearsal costs: two hours of ``deploy-5.1.yml`` in a simulated world, the whole process.

The floor is an interpreter that imports click, as for starting up. Run it alone:
``python -m benchmarks --only rehearsing``.
"""

from __future__ import annotations

import tempfile

from benchmarks.figures import Figure
from benchmarks.processes import CE_RUN, import_click, paired, seconds

PAIRS = 7


def deployment() -> list[Figure]:
    """From the shell's prompt to the summary."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(CE_RUN), "runbooks/deploy-5.1.yml", "--simulate", "--state", folder]
        work, floor = paired(lambda: seconds(command), import_click, PAIRS)
    what = "deploy-5.1.yml --simulate, two hours"
    return [Figure(what, work, floor, 15.0, "python -c 'import click'")]


ALL = (deployment,)
