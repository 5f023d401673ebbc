"""Files that an action renders: their templates are checked like those of the runbook.

An action whose `File` arguments are templates has a boolean argument `template`; with ``false`` a
vendor's file goes through as it is. A notice's name stands for a file in every language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.loader.book import NO_NAMES, Book, Use
from engine.loader.problems import Problems
from engine.loader.reader import read_text
from engine.loader.source import Spot
from engine.loader.tree import StepNode
from engine.module_api import FileName
from engine.registry import ActionInfo
from engine.registry.types import Boolean
from engine.templating import is_template
from engine.text import did_you_mean

OTHERS_BRACES = "if these braces are somebody else's: `template: false`"


def note_files(
    book: Book,
    info: ActionInfo,
    arguments: dict[str, Any],
    step: StepNode | None,
    names: frozenset[str] | None,
) -> None:
    """Note the templates in the files of a call; `names` are those that the action adds, None if
    they are not known."""
    if _renders(info, arguments):
        for _, path in info.files(arguments):
            if not is_template(path):
                _note(book, book.folder / path, step, names, OTHERS_BRACES)


def _renders(info: ActionInfo, arguments: dict[str, Any]) -> bool:
    parameter = info.parameters.get("template")
    if parameter is None or not isinstance(parameter.kind, Boolean):
        return False
    return arguments.get("template", parameter.default) is True


def _note(
    book: Book, path: Path, step: StepNode | None, names: frozenset[str] | None, hint: str
) -> None:
    source = read_text(path, Problems()) if path.is_file() else None
    if source is None or not is_template(source.text):
        return
    book.problems.register(source.name, source.line)
    extra, unknown = names or NO_NAMES, names is None
    use = Use(source.text, (1, 1), step, extra=extra, open=unknown, source=source, hint=hint)
    book.uses.append(use)


def check_file_names(
    book: Book,
    info: ActionInfo,
    arguments: dict[str, Any],
    step: StepNode | None,
    names: frozenset[str] | None,
    where: Callable[[str], Spot],
) -> None:
    """Note arguments that name a file by its stem and do not fit any; and the templates in those
    that they fit. Without an inventory, as in a part that others include, nobody knows where they
    lie: the inventory may name their folder, and else they lie beside the runbook that is run."""
    for parameter in info.parameters.values():
        mark = parameter.kind.file_name
        text = arguments.get(parameter.name)
        if mark is None or not isinstance(text, str) or not text or is_template(text):
            continue
        folders = list(_folders(book, mark))
        files = [each for folder in folders for each in sorted(folder.glob(f"*/{text}.txt"))]
        known = [each.stem for folder in folders for each in sorted(folder.glob("*/*.txt"))]
        if not files and (book.session.inventory is not None or book.session.strict):
            hint = did_you_mean(text, dict.fromkeys(known), what="there are")
            said = f"there is no {mark.word} '{text}'"
            book.problem(where(parameter.name), said, hint or f"they lie in {mark.folder}/en/")
        for file in files:
            _note(book, file, step, names, "")


def _folders(book: Book, mark: FileName) -> Iterator[Path]:
    inventory = book.session.inventory
    section, _, key = mark.setting.partition(".")
    named = inventory.section(section).get(key) if inventory is not None else None
    folder = named if isinstance(named, str) and not is_template(named) else mark.folder
    roots = dict.fromkeys((book.session.root, book.session.home, book.folder))
    yield from (root / folder for root in roots if (root / folder).is_dir())
