"""No module reads a file outside the runbook's folder, whatever its arguments say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Refused
from engine.registry import Registry
from engine.templating import TemplateFailed
from modules import docker, kubectl, notify, shell, sql, ssh
from tests.modules.conftest import MakeContext

NOWHERE: dict[str, dict[str, Any]] = {
    "kubectl": {"server": "http://127.0.0.1:9"},
    "sql": {"primary": {"host": "127.0.0.1", "port": "9"}},
    "notify": {"channels": {"log": {"console": {}}}},
    "docker": {"host": "tcp://127.0.0.1:9"},
}

Read = Callable[[TaskContext, Path], Any]

FILES: dict[str, Read] = {
    "kubectl.apply file": lambda ctx, path: kubectl.apply(ctx, file=path),
    "kubectl.delete file": lambda ctx, path: kubectl.delete(ctx, file=path),
    "sql.script file": lambda ctx, path: sql.script(ctx, file=path),
    "ssh.copy src": lambda ctx, path: ssh.copy(ctx, "/there", src=path, host="nowhere.invalid"),
}
"""Every argument of the type `File`."""

OTHERS: dict[str, Read] = {
    "kubectl.apply files": lambda ctx, path: kubectl.apply(ctx, file=[path]),
    "shell cwd": lambda ctx, path: shell.run(ctx, "ls", cwd=str(path.parent)),
    "docker.build context": lambda ctx, path: docker.build(ctx, str(path.parent), "x"),
    "docker.build dockerfile": lambda ctx, path: docker.build(ctx, ".", "x", dockerfile=str(path)),
    "notify template": lambda ctx, path: notify.send(
        ctx,
        "log",
        template=os.path.relpath(path.with_suffix(""), "files/notices/en")
        if not path.is_absolute()
        else str(path.with_suffix("")),
    ),
}
"""Arguments that name a file or a folder in another way."""


def test_all_arguments_that_name_files_are_here() -> None:
    registry = Registry()
    found = {
        f"{action.name} {parameter.name}"
        for module in map(registry.module, registry.names())
        if module is not None
        for action in module.actions.values()
        for parameter in action.parameters.values()
        if parameter.kind.holds_files
    }
    assert found == set(FILES)


@pytest.fixture
def outside(tmp_path: Path, root: Path) -> dict[str, Path]:
    """Ways to a file that is no file of the runbook."""
    secret = tmp_path / "elsewhere" / "secret.txt"
    secret.parent.mkdir()
    secret.write_text("Subject: not yours\n\nnot yours\n")
    (root / "link.txt").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    return {
        "..": Path("../elsewhere/secret.txt"),
        "absolute": secret,
        "link": Path("link.txt"),
        "folder": Path("folder/secret.txt"),
    }


@pytest.mark.parametrize("way", ["..", "absolute", "link", "folder"])
@pytest.mark.parametrize("argument", FILES | OTHERS)
def test_a_file_outside_is_refused(
    make_context: MakeContext, outside: dict[str, Path], argument: str, way: str
) -> None:
    if way == "link" and argument in ("shell cwd", "docker.build context"):
        pytest.skip("a link to a file is no folder")
    with pytest.raises(Refused, match="lies outside the runbook's folder"):
        (FILES | OTHERS)[argument](make_context(NOWHERE), outside[way])


@pytest.mark.parametrize(
    "text",
    [
        "{% include 'secret.txt' %}",
        "{% extends 'secret.txt' %}",
        "{% import 'secret.txt' as it %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ range.__self__ }}",
        "{{ ''.format.__self__.__class__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ env.__globals__ }}",
        "{{ secret.__self__ }}",
    ],
)
def test_a_template_reaches_nothing_but_its_names(make_context: MakeContext, text: str) -> None:
    ctx = make_context(NOWHERE)
    with pytest.raises(TemplateFailed):
        ctx.render(text)
