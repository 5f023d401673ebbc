"""Templates: sandboxed Jinja2 with native values, strict about what is undefined, and lazy.

`Templates` renders and evaluates in a `Scope`; `references` tells what a template would read,
without rendering it. Jinja2 itself is imported by the first template (``sandbox``), because it
takes longer to import than everything else here together.
"""

from engine.templating.fields import FUNCTIONS
from engine.templating.scope import Forgotten, Scope, Steps
from engine.templating.templates import (
    RESERVED,
    Entries,
    Lazy,
    TemplateFailed,
    Templates,
    is_template,
)

__all__ = [
    "FUNCTIONS",
    "RESERVED",
    "Entries",
    "Forgotten",
    "Lazy",
    "Scope",
    "Steps",
    "TemplateFailed",
    "Templates",
    "is_template",
]
