"""A runbook as data: what the loader makes of YAML and everything after it reads.

Nothing here knows files, templates or time. Values that may hold templates are kept as they were
written (`Any`); conditions are kept as expression text; durations are seconds unless a template
stands in their place, in which case they are text until the step is prepared. Every struct is
frozen: a run never changes its runbook.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Seconds: TypeAlias = float | str
"""A duration: seconds, or a template that renders to one when the step is prepared."""

Effect = Literal["read", "idempotent", "once"]
"""What a repetition would do: nothing, the same again, or harm (design §3)."""

Mode = Literal["run", "check", "simulate"]
"""How a run treats the world: it changes it, it only reads it, or it works on a simulated one."""

InputType = Literal["string", "integer", "number", "boolean", "duration", "list", "mapping"]


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where something stands in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Input(msgspec.Struct, frozen=True):
    """A declared input of a runbook. `required` when there is no default."""

    name: str
    type: InputType = "string"
    default: Any = None
    required: bool = False
    pattern: str | None = None
    choices: tuple[Any, ...] = ()
    help: str = ""


class Call(msgspec.Struct, frozen=True):
    """An action with its arguments as written: ``kubectl.apply: {file: …}``.

    `action` is the canonical name (``http-check``, ``kubectl.apply``); `literal` says that no
    argument holds a template, so that `arguments` can be passed on without rendering.
    """

    action: str
    arguments: dict[str, Any]
    effect: Effect
    place: Place
    literal: bool = False


class Retry(msgspec.Struct, frozen=True):
    """How often and how soon a failed attempt is repeated (`attempts` counts the first).

    The n-th repetition waits ``min(delay * backoff ** (n - 1), max_delay)``, plus or minus
    the fraction `jitter` of it.
    """

    attempts: int = 1
    delay: float = 0.0
    backoff: float = 1.0
    max_delay: float | None = None
    jitter: float = 0.0


class Guard(msgspec.Struct, frozen=True):
    """An observation repeated beside a group while its steps run (design §3).

    `trip` is an expression over ``result``; true is the verdict *fail*. It trips when it has been
    failing for `hold` seconds. An observation with fewer than `min_samples` samples is
    inconclusive.
    """

    name: str
    call: Call
    trip: str
    every: Seconds = 10.0
    hold: Seconds = 0.0
    min_samples: Any = 1
    place: Place | None = None


class Gate(msgspec.Struct, frozen=True):
    """A question to a person before a step starts. Without `timeout` it waits for ever."""

    message: Any
    checklist: Any = ()
    timeout: Seconds | None = None


class Fan(msgspec.Struct, frozen=True):
    """How a step fans out into tasks: over hosts, over items, in batches.

    `hosts` is a pattern of the inventory, `loop` a list or a template of one. `serial` is the
    batch size: a number, a percentage (``"20%"``) or a list of them as in Ansible.
    """

    hosts: Any = None
    loop: Any = None
    serial: Any = None
    max_fail_percentage: float = 0.0


class Step(msgspec.Struct, frozen=True):
    """One entry of a ``steps`` list: an action, a group or an included runbook.

    Exactly one of `call` and `block` is set; an included runbook is a block with `included`.
    `needs` are sibling ids, already resolved: the implied order is written out.
    """

    id: str
    place: Place
    name: str = ""
    call: Call | None = None
    block: Block | None = None
    included: Included | None = None
    needs: tuple[str, ...] = ()
    when: tuple[str, ...] = ()
    fan: Fan | None = None
    retry: Retry | None = None
    until: str | None = None
    failed_when: str | None = None
    changed_when: str | None = None
    register: str | None = None
    timeout: Seconds | None = None
    budget: Seconds | None = None
    guards: tuple[Guard, ...] = ()
    gate: Gate | None = None
    undo: Block | None = None
    rescue: Block | None = None
    always: Block | None = None
    ignore_errors: bool = False
    after_rescue: Literal["end", "continue"] = "end"
    """What a successful rescue means for the steps that come after: the run ends, or goes on."""
    no_log: bool = False
    tags: tuple[str, ...] = ()
    vars: dict[str, Any] | None = None


class Block(msgspec.Struct, frozen=True):
    """A list of steps that form a DAG of their own."""

    steps: tuple[Step, ...]
    place: Place


class Included(msgspec.Struct, frozen=True):
    """What an included runbook brings along: its inputs and what ``with`` gives them."""

    file: str
    name: str
    inputs: dict[str, Input]
    arguments: dict[str, Any]
    vars: dict[str, Any]


class Runbook(msgspec.Struct, frozen=True):
    """A whole runbook. `root` is the folder its files are relative to (absolute)."""

    file: str
    name: str
    block: Block
    inventory: str | None = None
    inputs: dict[str, Input] = {}
    vars: dict[str, Any] = {}
    locks: tuple[str, ...] = ()
    budget: Seconds | None = None
    preempts: bool = False
    guards: tuple[Guard, ...] = ()
    rescue: Block | None = None
    always: Block | None = None
    root: str = "."
    folders: tuple[str, ...] = ()
    """Folders (absolute) that its files lie below: its own, and those of the runbooks that it
    includes from elsewhere. Above them `root` may hold what is nobody's business here."""
    sources: dict[str, str] = {}
    """Every file that took part, by the path it was found under, with its SHA-256."""
