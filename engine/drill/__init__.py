"""Drills: scenarios that are played in a simulated world and judged by what was expected.

`scenario` says what a file can say, `cases` multiplies it by its matrix, `reading` and `checking`
find everything that is wrong with it, `stage` plays it, `judging` compares with what was expected.
"""

from engine.drill.judging import Assessment
from engine.drill.reading import Drill, read_drills
from engine.drill.scenario import Scenario
from engine.drill.stage import Happening, Played, Stage, play

__all__ = ["Assessment", "Drill", "Happening", "Played", "Scenario", "Stage", "play", "read_drills"]
