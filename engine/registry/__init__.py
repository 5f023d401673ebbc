"""The modules there are and their actions: found by name, imported only when a runbook names them.

`discovery` looks for modules in folders and entry points, `actions` turns an action's signature
into parameters, `types` checks and converts what a runbook gives for them.
"""

from engine.registry.actions import ActionInfo, BadArguments, Parameter
from engine.registry.discovery import ModuleInfo, Registry
from engine.registry.types import Mismatch, describe, spell

__all__ = [
    "ActionInfo",
    "BadArguments",
    "Mismatch",
    "ModuleInfo",
    "Parameter",
    "Registry",
    "describe",
    "spell",
]
