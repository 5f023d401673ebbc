"""An action with its arguments: found, checked against its signature, its files looked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

from engine.errors import InvalidRunbook
from engine.loader.book import NO_NAMES, Book, Use
from engine.loader.fields import COMMON
from engine.loader.names import check_names
from engine.loader.source import Map, Seq, Spot
from engine.loader.template_files import check_file_names, note_files
from engine.loader.tree import StepNode
from engine.model import Call, Effect
from engine.registry import ActionInfo, Mismatch
from engine.registry.naming import Named
from engine.registry.rendering import may_be_table
from engine.registry.types import ArgumentType
from engine.templating import is_template
from engine.text import did_you_mean


def find_action(book: Book, key: str) -> ActionInfo | None:
    """The action that a key names; None too when its module is broken, which is then noted."""
    try:
        return book.session.registry.action(key)
    except InvalidRunbook as error:
        book.problems.extend(error.problems)
        book.session.broken.add(key)
        return None


def read_call(book: Book, map: Map, key: str, info: ActionInfo, step: StepNode | None) -> Call:
    """The call under `key`; problems of its arguments are noted."""
    at = map.key_at(key)
    value = map[key]
    given = arguments_of(map, key, info)
    if given is None:
        said = f"{info.name} takes no arguments"
        book.problem(map.value_at(key), said)
        given = Map(at)
    arguments = info.written(given)
    for mismatch in info.check(arguments):
        spot = _locate(given, mismatch) or (map.value_at(key) if value is not None else at)
        if not mismatch.at:
            spot = at
        book.problem(spot, mismatch.message, _hint(info, mismatch, key))
    templated = _note_arguments(book, given, info, step)
    own = _own_names(given)
    note_files(book, info, arguments, step, own)
    check_file_names(book, info, arguments, step, own, lambda name: given.value_at(name))

    def where(named: Named | None) -> Spot:
        if named is None:
            return at
        mismatch = Mismatch(named.at, "", of_key=named.of_key)
        return _locate(given, mismatch) or map.value_at(key)

    check_names(book, info, arguments, where)
    _look_for_files(book, given, info, arguments)
    return Call(
        action=info.name,
        arguments=_from_root(book, info, arguments),
        effect=_effect(info, arguments),
        place=book.source.place(at),
        literal=not templated,
    )


def _hint(info: ActionInfo, mismatch: Mismatch, key: str) -> str:
    """What to write instead; a key of the step among the arguments belongs beside the action."""
    name = mismatch.at[0] if mismatch.of_key and len(mismatch.at) == 1 else None
    if name in COMMON and info.parameter(str(name)) is None:
        return f"it is a key of the step: write it below `{key}:`, as far to the left"
    return mismatch.suggestion


def _effect(info: ActionInfo, arguments: dict[str, Any]) -> Effect:
    """The action's effect, or what the runbook says where the action lets it say (`shell`)."""
    said = arguments.get("effect") if info.parameter("effect") else None
    for each in get_args(Effect):
        if each == said:
            found: Effect = each
            return found
    return info.effect


def arguments_of(map: Map, key: str, info: ActionInfo) -> Map | None:
    """The arguments as a mapping: a bare value is the first argument."""
    value = map[key]
    if isinstance(value, Map):
        return value
    made = Map(map.value_at(key))
    if value is None:
        return made
    if info.first is None:
        return None
    raw = map.raws.get(key) if map.raws else None
    made.put(info.first, value, map.key_at(key), map.value_at(key), raw)
    return made


def _locate(given: Map, mismatch: Mismatch) -> Spot | None:
    """Where a mismatch stands; as near as the file tells."""
    value: Any = given
    spot: Spot | None = None
    for depth, part in enumerate(mismatch.at):
        last = depth == len(mismatch.at) - 1
        if isinstance(value, Map) and isinstance(part, str):
            key = _key_in(value, part)
            if key is None:
                return spot
            spot = value.key_at(key) if last and mismatch.of_key else value.value_at(key)
            value = value[key]
        elif isinstance(value, Seq) and isinstance(part, int) and part < len(value):
            spot = value.item_at(part)
            value = value[part]
    return spot


def _key_in(map: Map, name: str) -> str | None:
    if name in map:
        return name
    return next((key for key in map if key.replace("-", "_") == name), None)


def has_templates(value: Any) -> bool:
    """Whether there is any template in a value."""
    if isinstance(value, str):
        return is_template(value)
    if isinstance(value, dict):
        return any(has_templates(each) for each in value.values())
    return isinstance(value, list) and any(has_templates(each) for each in value)


# -- templates and expressions ------------------------------------------------------------------
def _note_arguments(book: Book, given: Map, info: ActionInfo, step: StepNode | None) -> bool:
    templated = False
    own = _own_names(given)
    for name, value in given.items():
        if not isinstance(value, str | dict | list | bool):
            continue
        parameter = info.parameter(name)
        kind = parameter.kind if parameter else info.extra
        at = given.value_at(name)
        if kind is not None and kind.holds_written:
            templated |= _note_by_kind(book, value, at, kind, step, own)
        else:
            templated |= book.note(value, at, step)
        if is_template(name):
            book.problem(given.key_at(name), "the name of an argument cannot be a template")
    return templated


def _own_names(given: Map) -> frozenset[str] | None:
    """Names that an action adds when it renders a template itself: those of its argument `vars`;
    None if they are not known."""
    names = given.get("vars", {})
    return frozenset(names) if isinstance(names, dict) else None


def _note_by_kind(
    book: Book,
    value: Any,
    at: Spot,
    kind: ArgumentType | None,
    step: StepNode | None,
    own: frozenset[str] | None,
) -> bool:
    """Note templates and, where the signature wants them, expressions; whether there are any that
    are rendered before the action."""
    if isinstance(value, str) and kind is not None and kind.is_expression:
        if may_be_table(kind, value):
            return book.note(value, at, step)
        book.uses.append(Use(value, at, step, expression=True, open=not kind.is_closed))
        return False
    if isinstance(value, str) and kind is not None and kind.stays_written:
        if is_template(value):
            extra = own or NO_NAMES
            book.uses.append(Use(value, at, step, extra=extra, open=own is None))
        return False
    found = False
    if isinstance(value, Map):
        keys = kind.key_kind() if kind else None
        for key, each in value.items():
            if keys is not None:
                _note_by_kind(book, key, value.key_at(key), keys, step, own)
            elif is_template(key):
                book.uses.append(Use(key, value.key_at(key), step))
                found = True
            inner = kind.inner(key) if kind else None
            found |= _note_by_kind(book, each, value.value_at(key), inner, step, own)
    elif isinstance(value, Seq):
        for index, each in enumerate(value):
            inner = kind.inner(index) if kind else None
            found |= _note_by_kind(book, each, value.item_at(index), inner, step, own)
    else:
        found = book.note(value, at, step)
    return found


# -- files ----------------------------------------------------------------------------------------
def _look_for_files(book: Book, given: Map, info: ActionInfo, arguments: dict[str, Any]) -> None:
    for name, path in info.files(arguments):
        if is_template(path):
            continue
        key = _key_in(given, name)
        at = given.value_at(key) if key is not None else given.at
        problem = _file_problem(book, path)
        if problem is not None:
            book.problem(at, *problem)


def _file_problem(book: Book, path: str) -> tuple[str, str] | None:
    if "\0" in path:
        return f"'{path!r}' is no path", ""
    try:
        found = (book.folder / path).resolve()
        if not any(found.is_relative_to(each) for each in (book.folder, book.session.home)):
            hint = "keep the files of a runbook beside it, below its folder"
            return f"the file '{path}' lies outside the runbook's folder", hint
        if found.exists():
            return None
        folder = found.parent
        names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    except (OSError, ValueError, RuntimeError):
        return f"the file '{path}' cannot be looked for", ""
    hint = did_you_mean(found.name, names)
    if hint.startswith("did you mean"):
        near = str(Path(path).parent / hint.split("'")[1])
        return f"there is no file '{path}'", f"did you mean '{near}'?"
    return f"there is no file '{path}'", ""


def _from_root(book: Book, info: ActionInfo, arguments: dict[str, Any]) -> dict[str, Any]:
    """Paths of files of an included runbook in another folder, as seen from the run's folder."""
    if book.folder == book.session.root:
        return arguments
    prefix = Path(os.path.relpath(book.folder, book.session.root)).as_posix()
    files = {name for name, _ in info.files(arguments)}
    made = dict(arguments)
    for name in files:
        value = made[name]
        if isinstance(value, list):
            made[name] = [f"{prefix}/{each}" if isinstance(each, str) else each for each in value]
        elif not Path(value).is_absolute():
            made[name] = f"{prefix}/{value}"
    return made
