"""The top of a runbook file: its own keys, then its steps."""

from __future__ import annotations

from engine.loader.book import Book, LoadState
from engine.loader.fields import COMMON, Fields
from engine.loader.inputs import read_inputs
from engine.loader.parts import read_guards
from engine.loader.source import Map, Source
from engine.loader.steps import read_block, read_vars
from engine.loader.tree import BlockNode, ListKind
from engine.model import Block, Runbook
from engine.registry import describe
from engine.templating import is_template

KEYS = (
    *("name", "inventory", "inputs", "vars", "locks", "budget", "preempts"),
    *("guards", "steps", "rescue", "always"),
)
"""Keys of a runbook."""


def read_runbook(session: LoadState, source: Source) -> Book:
    """A runbook file as a Book; whatever is wrong is noted. `Book.runbook` is None when it is
    no runbook at all."""
    book = Book(session, source)
    if not isinstance(source.root, Map):
        what = "it is empty" if source.root is None else f"this is {describe(source.root)}"
        said = f"a runbook is a mapping with `name` and `steps`, but {what}"
        hint = ""
        if isinstance(source.root, list) and any(_is_play(each) for each in source.root):
            said = "this is a playbook of Ansible, and a runbook is wanted"
            hint = (
                "what is written how is in the guide, docs/writing-runbooks.md, "
                "«Coming from Ansible»: plays become steps with `hosts`, tasks become steps"
            )
        book.problem((1, 1), said, hint)
        return book
    fields = Fields(source.root, source, session.problems)
    _unknown_keys(fields)
    book.inputs = read_inputs(book, fields)
    book.vars = read_vars(book, fields, None) if "vars" in fields.map else {}
    book.runbook = _read(book, fields)
    return book


def _is_play(value: object) -> bool:
    keys = ("hosts", "tasks", "roles", "import_playbook", "ansible.builtin.import_playbook")
    return isinstance(value, Map) and any(key in value for key in keys)


def _unknown_keys(fields: Fields) -> None:
    for key in fields.map:
        if key in KEYS:
            continue
        if key in COMMON:
            said = f"'{key}' is a key of steps, not of a runbook"
            fields.problem(fields.map.key_at(key), said)
        else:
            fields.unknown_key(key, KEYS, "a runbook")


def _read(book: Book, fields: Fields) -> Runbook:
    map, source = fields.map, book.source
    block = Block((), source.place(map.at))
    if "steps" in map:
        block = read_block(book, map["steps"], map.value_at("steps"), book.top, "`steps`")
    else:
        book.problem(map.at, "a runbook needs `steps`")
    budget = fields.duration("budget")
    if "budget" in map:
        book.note(map["budget"], map.value_at("budget"), None)
    return Runbook(
        file=source.name,
        name=(fields.fixed_text("name") if "name" in map else None) or source.path.stem,
        block=block,
        inventory=fields.fixed_text("inventory") if "inventory" in map else None,
        inputs=book.inputs,
        vars=book.vars,
        locks=_locks(book, fields),
        budget=budget,
        preempts=fields.boolean("preempts"),
        guards=read_guards(book, fields, None) if "guards" in map else (),
        rescue=_branch(book, fields, "rescue"),
        always=_branch(book, fields, "always"),
        root=str(book.session.root),
    )


def _branch(book: Book, fields: Fields, key: str) -> Block | None:
    if key not in fields.map:
        return None
    kind: ListKind = "rescue" if key == "rescue" else "always"
    node = BlockNode(None, kind)
    book.branches[kind] = node
    return read_block(book, fields.map[key], fields.map.value_at(key), node, f"`{key}`")


def _locks(book: Book, fields: Fields) -> tuple[str, ...]:
    names = fields.words("locks")
    for name, at in names:
        if is_template(name):
            fields.problem(at, "the name of a lock cannot be a template")
    return tuple(dict.fromkeys(name for name, _ in names))
