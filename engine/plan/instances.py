"""What a group with `hosts` or `loop` fans out into: names of its instances, and their steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.events import TaskSpec
from engine.model import Step

_HOST = re.compile(r"[^\s/~,\[\]]{1,100}")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


def labels_of(specs: Sequence[TaskSpec]) -> list[str]:
    """A name for each instance: its host, its item where items are short words, else its number.

    Names follow from what the journal has, so they are the same after a resume.
    """
    words = [_word(spec.item) for spec in specs]
    names = list(zip((spec.host for spec in specs), words, strict=True))
    strange = any(spec.host and not _HOST.fullmatch(spec.host) for spec in specs)
    if strange:
        return [str(number) for number in range(1, len(specs) + 1)]
    if not all(words) or len(set(names)) < len(names):
        words = [str(number) for number in range(1, len(specs) + 1)]
    return [_label(spec, word) for spec, word in zip(specs, words, strict=True)]


def _label(spec: TaskSpec, word: str) -> str:
    if spec.host is None:
        return word
    return spec.host if spec.item is None else f"{spec.host},{word}"


def _word(item: Any) -> str:
    if item is None:
        return "-"
    plain = isinstance(item, str | int) and not isinstance(item, bool)
    return str(item) if plain and _PLAIN.fullmatch(str(item)) else ""


def instance_step(step: Step) -> Step:
    """The step of one instance: the group without what is said about all of them.

    Conditions, the question to a person, order, and what becomes of the result are the group's.
    Its rescue, undo and always belong to each instance, as in Ansible. Its guards and its budget
    are about the whole; those of an included runbook are written in there, about one run of it.
    """
    included = step.included is not None
    return msgspec.structs.replace(
        step,
        fan=None,
        when=(),
        gate=None,
        needs=(),
        register=None,
        ignore_errors=False,
        guards=step.guards if included else (),
        budget=step.budget if included else None,
    )
