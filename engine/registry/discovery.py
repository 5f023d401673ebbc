"""Where modules come from: folders and entry points.

Order of precedence: folders given on the command line, ``modules/`` beside the runbook, the
built-in folder, entry points of the group ``ce_run.modules``. Folders are only listed; a
module is imported when a runbook names it, and entry points are looked at only when a name is
found nowhere else, because that search reads the metadata of every installed distribution.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.errors import InvalidRunbook, Problem
from engine.module_api import Action
from engine.registry.actions import ActionInfo, action_name
from engine.registry.reading import read_module
from engine.text import did_you_mean, display_name, fold

ENTRY_POINTS = "ce_run.modules"


class ModuleInfo:
    """An imported module: its name, its file, its actions by their own names."""

    def __init__(self, name: str, file: str, doc: str, actions: dict[str, ActionInfo]) -> None:
        self.name = name
        self.file = file
        self.doc = doc
        self.actions = actions

    def __repr__(self) -> str:
        return f"ModuleInfo({self.name!r}, {list(self.actions)})"


class Registry:
    """Finds modules and actions by name; `-` and `_` are the same."""

    def __init__(
        self,
        folders: Iterable[Path | str] = (),
        *,
        builtin: bool = True,
        imports: bool = True,
    ) -> None:
        """`folders` are searched before the built-in modules. Without `imports` nothing in them is
        executed: their modules are read, and can be checked against but not carried out."""
        self._imports = imports
        self._folders: list[Path] = []
        self._files: dict[str, Path] = {}
        self._twins: dict[str, Path] = {}
        self._modules: dict[str, ModuleInfo] = {}
        self._actions: dict[str, ActionInfo | None] = {}
        self._entry_points: dict[str, object] | None = None
        self._builtin = _builtin_folder() if builtin else None
        if self._builtin is not None:
            self._list(self._builtin)
        for folder in folders:
            self.add_folder(folder)

    def add_folder(self, folder: Path | str) -> None:
        """Search `folder` too, after the folders added before and before the built-in one."""
        path = Path(folder).resolve()
        if path in self._folders or path == self._builtin or not path.is_dir():
            return
        taken = {name for name, file in self._files.items() if _home(file) in self._folders}
        self._folders.append(path)
        self._list(path, skip=taken)
        self._actions.clear()

    def action(self, name: str) -> ActionInfo | None:
        """The action of that name, or None if there is no such.

        Raises InvalidRunbook when the module's file cannot be imported.
        """
        if name not in self._actions:
            info = self._find(fold(name))
            if info is not None:
                with _blaming(info.module, Path(info.file)):
                    _ = info.parameters  # annotations that cannot be used are told now
            self._actions[name] = info
        return self._actions[name]

    def names(self) -> list[str]:
        """The names of all modules in folders, sorted; nothing is imported."""
        return sorted({*self._files, *(self._entry_points or ())})

    def has_module(self, name: str) -> bool:
        """Whether there is a module of that name; it is not imported."""
        key = fold(name)
        return key in self._files or key in self._installed()

    def module(self, name: str) -> ModuleInfo | None:
        """The module of that name, imported; None if there is none."""
        key = fold(name)
        if key not in self._modules:
            info = self._import(key)
            if info is None:
                return None
            self._modules[key] = info
        return self._modules[key]

    def modules(self) -> list[ModuleInfo]:
        """Every module, imported, sorted by name."""
        names = sorted({*self._files, *self._installed()})
        return [info for name in names if (info := self.module(name)) is not None]

    def suggest(self, name: str) -> str:
        """``did you mean 'kubectl.apply'?`` for a name that is no action; "" if nothing is near."""
        try:
            return self._suggest(fold(name))
        except InvalidRunbook:  # the nearest module cannot be imported; that is another problem
            return ""

    def _suggest(self, name: str) -> str:
        module, _, action = name.partition(".")
        if self.has_module(module):
            owner = self.module(module)
            assert owner is not None
            actions = {info.name for info in owner.actions.values()}
            if not action:
                return f"its actions are: {', '.join(sorted(actions))}"
            return did_you_mean(name, sorted(actions), what="its actions are")
        hint = did_you_mean(module, self.names())
        if hint.startswith("did you mean") and action:
            near = hint.split("'")[1]
            return f"did you mean '{near}.{action}'?" if self._find(f"{near}.{action}") else hint
        return hint if hint.startswith("did you mean") else ""

    def _find(self, name: str) -> ActionInfo | None:
        module, _, action = name.partition(".")
        info = self.module(module)
        if info is None:
            return None
        if action:
            return info.actions.get(action)
        if len(info.actions) == 1:
            return next(iter(info.actions.values()))
        return info.actions.get(module)

    def _list(self, folder: Path, skip: Iterable[str] = ()) -> None:
        packages = list(folder.glob("*/__init__.py"))
        for file in sorted([*folder.glob("*.py"), *packages]):
            stem = _stem(file)
            name = fold(stem.rstrip("_"))  # assert_.py: a name that Python keeps for itself
            if stem.startswith("_") or name in skip:
                continue
            other = self._files.get(name)
            if other is not None and _home(other) == folder:
                self._twins[name] = other
            self._files[name] = file
            self._modules.pop(name, None)

    def _installed(self) -> dict[str, object]:
        if self._entry_points is None:
            from importlib.metadata import entry_points

            points = entry_points(group=ENTRY_POINTS)
            self._entry_points = {fold(each.name): each for each in points}
        return self._entry_points

    def _import(self, name: str) -> ModuleInfo | None:
        file = self._files.get(name)
        if file is not None:
            self._refuse_twins(name, file)
            with _blaming(name, file):
                builtin = _home(file) == self._builtin
                if not (self._imports or builtin):
                    return _described(name, str(file), *read_module(file))
                return _describe(name, _load_file(file, builtin=builtin))
        if name in self._installed():
            point = self._installed()[name]
            with _blaming(name, Path(str(getattr(point, "value", name)))):
                return _describe(name, point.load())  # type: ignore[attr-defined]
        return None

    def _refuse_twins(self, name: str, file: Path) -> None:
        """Which of two files of one folder is meant cannot be told: neither is taken."""
        twin = self._twins.get(name)
        if twin is not None and _home(twin) == _home(file):
            message = f"the module {name} is there twice: {_below(twin)} and {_below(file)}"
            only = "keep one of them"
            raise InvalidRunbook([Problem(display_name(file), 0, 0, message, suggestion=only)])


def _builtin_folder() -> Path | None:
    """The folder beside the engine's own; not what `import modules` would find, because any
    folder of that name in the working directory can come before it."""
    folder = Path(__file__).resolve().parents[2] / "modules"
    return folder if folder.is_dir() else None


def _load_file(file: Path, *, builtin: bool) -> types.ModuleType:
    if builtin:
        _make_package("modules", _home(file))
        return importlib.import_module(f"modules.{_stem(file)}")
    is_package = file.name == "__init__.py"
    name = f"{_package_of(_home(file))}.{_stem(file)}"
    if name in sys.modules:
        return sys.modules[name]
    below = [str(file.parent)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=below)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # typing.get_type_hints looks modules up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _below(file: Path) -> str:
    """A module's file as its folder of modules lists it."""
    return str(file.relative_to(_home(file)))


def _home(file: Path) -> Path:
    """The folder of modules that a module's file, or its package, lies in."""
    return file.parent.parent if file.name == "__init__.py" else file.parent


def _stem(file: Path) -> str:
    """A module's name in Python: of its file, or of its package's folder."""
    return file.parent.name if file.name == "__init__.py" else file.stem


def _package_of(folder: Path) -> str:
    """A package that stands for a folder of modules, so that they can import `._shared`."""
    from hashlib import sha256

    name = f"ce_run_modules_{sha256(str(folder).encode()).hexdigest()[:12]}"
    _make_package(name, folder)
    return name


def _make_package(name: str, folder: Path) -> None:
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def _describe(name: str, module: types.ModuleType) -> ModuleInfo:
    own = {
        attribute: value
        for attribute, value in vars(module).items()
        if isinstance(value, Action)
        and f"{value.function.__module__}.".startswith(f"{module.__name__}.")
    }
    return _described(name, str(module.__file__ or name), module.__doc__ or "", own)


def _described(name: str, file: str, doc: str, own: dict[str, Action[...]]) -> ModuleInfo:
    named = {action_name(attribute): value for attribute, value in own.items()}
    actions = {}
    for each, value in named.items():
        alone = len(named) == 1 or each == name
        actions[each] = ActionInfo(name if alone else f"{name}.{each}", name, value, file)
    return ModuleInfo(name, file, doc.strip(), actions)


@contextlib.contextmanager
def _blaming(name: str, file: Path) -> Iterator[None]:
    """Turn whatever goes wrong in a module's own code into a problem at its line."""
    try:
        yield
    except (InvalidRunbook, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        line, column = error.lineno or 0, error.offset or 0
        where = display_name(Path(error.filename or file))
        message = f"the module {name} cannot be imported: {error.msg}"
        source = (error.text or "").rstrip("\n")
        raise InvalidRunbook([Problem(where, line, column, message, source=source)]) from error
    except BaseException as error:
        line = _line_in(file, error)
        message = f"the module {name} cannot be imported: {type(error).__name__}: {error}"
        where = display_name(file)
        raise InvalidRunbook([Problem(where, line, 1 if line else 0, message)]) from error


def _line_in(file: Path, error: BaseException) -> int:
    lines = [
        frame.lineno or 0
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    return lines[-1] if lines else 0
