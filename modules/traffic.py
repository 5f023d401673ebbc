"""Shift traffic between two versions in Istio, HAProxy and the Service together.

Inventory section; of ``service``, ``virtual_service`` and ``haproxy`` leave out what you do not
have::

    traffic:
      versions: {stable: "5.0", canary: "5.1"}
      selector: {app: claude-enhancer}      # labels of the pods, beside `version`
      pods_for_full_load: 3                 # ready pods of a version that can carry everything
      service: claude-enhancer-service      # its selector `version` is the blue/green switch
      virtual_service: claude-enhancer-traffic
      subsets: {"5.0": stable, "5.1": canary}
      haproxy:
        connection: edge                    # of the haproxy section
        backend: claude_split
        servers: {"5.0": stable, "5.1": canary}   # a server, or a list of servers

``namespace`` (default: that of the kubectl section) and ``version_label`` (default: ``version``)
may be added.

The rule: no version is given a share of traffic above its ready capacity, none is taken out
before its successor serves, and all layers agree.
"""

from __future__ import annotations

from engine.module_api import Arguments, Context, Result, action
from modules._traffic import rollback as traffic_rollback
from modules._traffic import shift as traffic_shift
from modules._traffic import telling as traffic_telling
from modules._traffic.state import Traffic


@action(effect="idempotent", simulates=True)
def shift(ctx: Context, to: str, percent: int, *, force: bool = False) -> Result:
    """Give a version a share of the traffic; the other version gets the rest.

    A share above what the version's ready pods can carry is refused, with the figures. Weights
    move first; at 100 % the Service follows once the version is known to serve. If a layer fails,
    the others are put back, and the error tells where each stands. All traffic to the *stable*
    version is a rollback: it is done at once, Service first, with a single question beforehand
    (has the stable version a ready pod?). What can be reached is moved and stays moved; what cannot
    is tried again until the step's `timeout` (20 s without one), and then the error tells where
    each layer stands and which command moves the rest.

    Result data: ``shares`` (version → percent), ``layers`` and ``before`` (``istio``,
    ``haproxy``, ``service`` → shares; a rollback does not look at the Service before, then it is
    null), ``agree`` (true), ``capacity`` (version → ``ready`` pods and ``percent`` of the traffic
    that they carry), ``overloaded`` (a version has more than it can carry). Effect idempotent: a
    resume finishes what was begun.

    Args:
        to: the version, such as ``5.1``.
        percent: its share, 0 to 100; the other version gets the rest.
        force: shift although ready pods are missing or, in a rollback, cannot be counted.
    """
    traffic = Traffic(ctx)
    shares = traffic.shares(to, percent)
    if shares[traffic.setup.stable] == 100:
        return traffic_rollback.roll_back(ctx, traffic, force)
    return traffic_shift.shift(ctx, traffic, shares, force)


@shift.check
def shift_check(ctx: Context, args: Arguments) -> Result:
    """Show how the shares would change; missing pods are told, as earlier steps may start them."""
    traffic = Traffic(ctx)
    return traffic_telling.check(ctx, traffic, traffic.shares(args.to, args.percent))


@action(effect="read", simulates=True)
def read(ctx: Context, *, partial: bool = False) -> Result:
    """Tell which share each version gets in each layer, and whether the layers agree.

    Result data: ``shares`` (version → percent, null if nobody can tell), ``layers`` (``istio``,
    ``haproxy``, ``service`` → shares, or null), ``agree``, ``differences`` (lines), ``capacity``
    (version → ``ready`` pods and ``percent`` of the traffic that they carry),
    ``within_capacity`` (no version has more than it can carry). With `partial` also ``lines``, what
    each layer says now, in words.

    Args:
        partial: what cannot be reached is told, and is no failure: for those who have to know what
            is so while something is broken.
    """
    return traffic_telling.report(ctx, Traffic(ctx), partial)
