"""``ce-run lab``: starting, watching and disturbing the small production on this machine.

Each command is a thin wrapper around a function of `engine.lab.control`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import Workspace, color_option, json_option, state_option
from engine.cli.terminal import echo, echo_json
from engine.errors import LockHeld, UsageError

if TYPE_CHECKING:
    from engine.lab.layout import LabInfo
    from engine.lab.people.inbox_file import Notice
    from engine.lab.status import LabStatus
    from engine.production.faults import Fault
    from engine.production.figures import Figures
    from engine.report.words import Line


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def lab() -> None:
    """A small production on this machine to try runbooks on.

    Real PostgreSQL and HAProxy, a Kubernetes API, the application as real processes, and a
    steady load of users. Needs the lab extra:

    \b
      pip install 'ce-run[lab]'

    \b
    Examples:
      ce-run lab up
      ce-run runbooks/deploy-5.1.yml -i inventories/lab.yml --yes
      ce-run lab figures
      ce-run lab down
    """


def addresses_in(folder: Path, mask: Callable[[str], object]) -> Callable[[str], Any]:
    """The function ``lab(…)`` of templates for the lab of a folder; `mask` hides a value."""
    from engine.lab.addresses import LabAddresses

    return LabAddresses(folder, mask)


def _json(value: Any) -> None:
    import msgspec

    echo_json(msgspec.json.format(msgspec.json.encode(value), indent=2))


def _tell(value: Any, output: str, lines: Callable[[Any], Iterable[Line]], plain: bool) -> None:
    from engine.cli.terminal import Writer

    if output == "json":
        _json(value)
    else:
        Writer(no_color=plain).lines(lines(value))


def _shown(function: Callable[..., None]) -> Callable[..., None]:
    """What every lab command that tells something accepts."""
    for option in (json_option, color_option, state_option):
        function = option(function)
    return function


def _require_parts() -> None:
    """UsageError where what the lab is made of is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("aiohttp", "aiosmtpd") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the lab needs {' and '.join(missing)}, which this installation does not have",
            hint="pip install 'ce-run[lab]'",
        )


# -- up, down, reset ----------------------------------------------------------------------------
@lab.command()
@click.option("--keep", is_flag=True, help="Keep a lab that is running as it is.")
@click.option("--rate", type=click.FloatRange(0), help="Requests per second of the load.")
@click.option("--replicas", type=click.IntRange(1), help="Pods of 5.0 to begin with.")
@_shown
def up(
    keep: bool,
    rate: float | None,
    replicas: int | None,
    state: str | None,
    no_color: bool,
    output: str,
) -> None:
    """Start the lab afresh: 5.0 serves, users come in.

    A lab that is running already is replaced, unless --keep, or a run works on it.

    \b
    Examples:
      ce-run lab up
      ce-run lab up --keep
      ce-run lab up --rate 50
    """
    _require_parts()
    from engine.lab import busy, control
    from engine.lab.settings import Settings

    workspace = Workspace(state)
    if not keep and control.is_running(workspace.folder):
        _leave_to_its_run(workspace)
    elif words := busy.now(with_lab=False):
        echo(f"warning: {words}", err=True)

    given = {"request_rate": rate, "blue_replicas": replicas}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    info = control.up(workspace.folder, fresh=not keep, settings=settings)
    _tell(info, output, _info_lines, no_color)


def _leave_to_its_run(workspace: Workspace) -> None:
    """LockHeld while a living run owns a lock here: its lab is not taken from under it."""
    for lock in workspace.store.locks():
        if owner := lock.owner():
            stop = workspace.commands.spell("stop", owner.run)
            raise LockHeld(
                f"run {owner.run} works on this lab: it owns {lock.name}",
                hint=f"wait for it, or end it with `{stop}`; `--keep` leaves the lab as it is",
            )


@lab.command()
@state_option
def down(state: str | None) -> None:
    """Stop the lab; nothing of it runs afterwards.

    Its logs and its inbox stay to be read.

    \b
    Examples:
      ce-run lab down
    """
    from engine.lab import control

    stopped = control.down(Workspace(state).folder)
    echo("the lab has stopped" if stopped else "no lab was running")


@lab.command()
@_shown
def reset(state: str | None, no_color: bool, output: str) -> None:
    """Back to 5.0: no faults, nothing counted.

    The inbox is empty afterwards, too.

    \b
    Examples:
      ce-run lab reset
    """
    from engine.lab import control

    _tell(control.reset(Workspace(state).folder), output, _info_lines, no_color)


def _info_lines(info: LabInfo) -> list[Line]:
    rows = [
        ("application", info.app_url),
        ("mesh", info.mesh_url),
        ("kubernetes", f"{info.kubernetes_url}  (KUBECONFIG={info.kubeconfig})"),
        ("postgres", f"{info.postgres_host}:{info.postgres_port} {info.postgres_database}"),
        ("haproxy", f"{info.haproxy_address}  (statistics {info.stats_url})"),
        ("metrics", info.metrics_url),
        ("load", f"{info.request_rate:g} requests/s"),
        ("folder", info.folder),
    ]
    return _pairs(rows)


def _pairs(rows: Sequence[tuple[str, str]]) -> list[Line]:
    from engine.report.words import Span, line

    column = max(len(name) for name, _ in rows) + 2
    return [line(Span(f"{name:<{column}}", "dim"), text) for name, text in rows]


# -- looking ------------------------------------------------------------------------------------
@lab.command()
@_shown
def status(state: str | None, no_color: bool, output: str) -> None:
    """How the lab is: pods, weights, faults, load.

    \b
    Examples:
      ce-run lab status
      ce-run lab status --output json
    """
    from engine.lab import control

    _tell(control.status(Workspace(state).folder), output, _status_lines, no_color)


def _status_lines(found: LabStatus) -> list[Line]:
    from engine.report.words import line, table
    from engine.units import took

    rate = found.requests_per_second
    errors = found.error_rate
    rows = [
        ("up", f"{took(found.uptime)}, {found.info.app_url}"),
        ("load", "-" if rate is None else f"{rate:.0f} requests/s"),
        ("errors", "-" if errors is None else f"{errors:.2f} %"),
    ]
    for entrance, weights in found.weights.items():
        rows.append((f"{entrance}", ", ".join(f"{name} {w}" for name, w in weights.items())))
    for backend, servers in found.serving.items():
        rows.append((backend, ", ".join(servers) or "nobody"))
    lines = _pairs(rows)
    pods = [("POD", "VERSION", "ADDRESS", "READY")]
    pods += [(p.name, p.version, p.address, "yes" if p.ready else "no") for p in found.pods]
    lines += [(), *(line(text) for text in table(pods))]
    if found.faults:
        lines += [(), *_fault_lines(found.faults)]
    return lines


@lab.command()
@click.option("--verify-writes", is_flag=True, help="Look for every acknowledged write.")
@_shown
def figures(verify_writes: bool, state: str | None, no_color: bool, output: str) -> None:
    """What the load has counted since it began.

    Requests, failures, latencies, lost sessions, in all and by version.

    \b
    Examples:
      ce-run lab figures
      ce-run lab figures --verify-writes --output json
    """
    from engine.lab import control

    found = control.figures(Workspace(state).folder, verify_writes=verify_writes)
    _tell(found, output, _figures_lines, no_color)


def _figures_lines(found: Figures) -> list[Line]:
    import msgspec

    from engine.report.summary import figure_lines
    from engine.report.words import line, table

    lines = figure_lines(msgspec.structs.asdict(found))
    if found.reasons:
        why = ", ".join(f"{name} {number}" for name, number in found.reasons.items())
        lines.append(line(f"  failed because of: {why}"))
    if found.writes_lost is not None:
        said = f"{found.writes_acknowledged:,} writes acknowledged, {found.writes_lost:,} lost"
        lines.append(line(f"  {said}"))
    rows = [("VERSION", "REQUESTS", "FAILED", "P50", "P95", "P99")]
    for version, each in found.versions.items():
        latencies = [each.p50_ms, each.p95_ms, each.p99_ms]
        texts = ["-" if ms is None else f"{ms:.1f} ms" for ms in latencies]
        rows.append((version, f"{each.requests:,}", f"{each.failures:,}", *texts))  # type: ignore[arg-type]
    return [*lines, (), *(line(f"  {text}") for text in table(rows))]


@lab.command()
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many of the latest notices.",
)
@_shown
def inbox(number: int, state: str | None, no_color: bool, output: str) -> None:
    """The notices that runs have sent.

    The latest last; also those of a lab that has ended.

    \b
    Examples:
      ce-run lab inbox
      ce-run lab inbox -n 100 --output json
    """
    from engine.lab import control

    found = control.inbox(Workspace(state).folder)[-number:]
    _tell(found, output, _inbox_lines, no_color)


def _inbox_lines(found: list[Notice]) -> list[Line]:
    from engine.report.words import cut, line, table

    if not found:
        return [line("the inbox is empty")]
    rows = [("AT", "CHANNEL", "FOR", "NOTICE")]
    for each in found:
        mark = "" if each.accepted else f"(refused, {each.answer}) "
        mark += "(duplicate) " if each.duplicate else ""
        rows.append((each.at[:19], each.channel, each.target, cut(mark + each.summary, 100)))
    return [line(text) for text in table(rows)]


# -- faults -------------------------------------------------------------------------------------
@lab.command()
@click.option("--version", default="all", show_default=True, help="The version that suffers.")
@click.option("--error-rate", type=click.FloatRange(0, 1), help="Share of requests answered 500.")
@click.option("--latency", type=click.FloatRange(0), help="Seconds added to every request.")
@click.option("--crash/--no-crash", default=None, help="Processes exit, again and again.")
@click.option("--never-ready/--ready", default=None, help="Readiness fails.")
@click.option("--bad-image/--good-image", default=None, help="The image cannot be pulled.")
@click.option("--memory-growth", type=click.FloatRange(0), help="MiB a second, never given back.")
@click.option("--agents-down", type=click.IntRange(0), help="Agents that do not answer.")
@click.option(
    "--workflow-error-rate",
    type=click.FloatRange(0, 1),
    help="Share of workflow transitions that fail.",
)
@click.option("--clear", is_flag=True, help="End the faults, of --version or of all.")
@_shown
def fault(
    version: str, clear: bool, state: str | None, no_color: bool, output: str, **changes: Any
) -> None:
    """Make something wrong with a version, or right.

    What is not named stays as it is. Without any option it tells which faults there are.

    \b
    Examples:
      ce-run lab fault --version 5.1 --error-rate 0.3
      ce-run lab fault --version 5.1 --latency 1.5 --no-crash
      ce-run lab fault --clear
    """
    from engine.lab import control

    folder = Workspace(state).folder
    wanted = {name: value for name, value in changes.items() if value is not None}
    if clear and wanted:
        raise click.UsageError("--clear ends faults; it goes with no option but --version")
    if clear:
        faults = control.clear_faults(folder, version=None if version == "all" else version)
    elif wanted:
        faults = control.fault(folder, version=version, **wanted)
    else:
        faults = control.status(folder).faults
    _tell(faults, output, _fault_lines, no_color)


def _fault_lines(faults: dict[str, Fault]) -> list[Line]:
    import msgspec

    from engine.report.words import Span, line

    if not faults:
        return [line("no faults")]
    lines = []
    for version, each in faults.items():
        on = [
            f"{name.replace('_', ' ')} {value}" if value is not True else name.replace("_", " ")
            for name, value in msgspec.structs.asdict(each).items()
            if value
        ]
        lines.append(line(Span(f"fault of {version}: ", "warn"), ", ".join(on)))
    return lines
