"""What `docker` does to the images of a simulated world; results as of the real actions."""

from __future__ import annotations

import hashlib

from engine.module_api import Arguments, Context, Failed, Refused, Result

_BUILD, _PUSH = 90.0, 40.0
"""Seconds."""
_BYTES = 412_000_000


def _digest(ctx: Context, text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def build(ctx: Context, args: Arguments) -> Result:
    """`docker.build`: the Dockerfile is looked at, nothing is built."""
    folder = ctx.file(args.context)
    if not (folder / args.dockerfile).is_file():
        raise Refused(
            f"there is no {args.dockerfile} in {args.context}",
            hint="name it with `dockerfile`, if it is another",
        )
    ctx.sleep(_BUILD)
    made = _digest(ctx, f"{args.tag} {sorted((args.args or {}).items())}")
    before = ctx.world.built.get(args.tag)
    with ctx.fence():
        ctx.world.built[args.tag] = made
    data = {"image": args.tag, "id": made, "size": _BYTES}
    return Result(changed=before != made, data=data, message=f"built {args.tag} as {made[:19]}")


def push(ctx: Context, args: Arguments) -> Result:
    """`docker.push`."""
    made = ctx.world.built.get(args.image)
    if made is None:
        raise Failed(f"there is no image {args.image} to push", hint="build or tag it first")
    ctx.sleep(_PUSH)
    digest = _digest(ctx, f"manifest of {made}")
    before = ctx.world.images.get(args.image)
    with ctx.fence():
        ctx.world.images[args.image] = digest
    data = {"image": args.image, "digest": digest}
    return Result(
        changed=before != digest, data=data, message=f"pushed {args.image} as {digest[:19]}"
    )


def inspect_digest(ctx: Context, args: Arguments) -> Result:
    """`docker.inspect-digest`."""
    ctx.sleep(0.1)
    digest = ctx.world.images.get(args.image)
    if digest is None:
        raise Failed(f"the registry has no {args.image}", hint="was it pushed under this name?")
    if args.expect and digest != args.expect:
        raise Refused(
            f"{args.image} is {digest}, not {args.expect}",
            hint="somebody else pushed under this tag: find out who, and use the digest",
            data={"image": args.image, "digest": digest},
        )
    data = {"image": args.image, "digest": digest}
    return Result(data=data, message=f"{args.image} is {digest[:19]}")


def tag(ctx: Context, args: Arguments) -> Result:
    """`docker.tag`."""
    made = ctx.world.built.get(args.image)
    if made is None:
        raise Failed(f"there is no image {args.image}")
    same = ctx.world.built.get(args.new) == made
    with ctx.fence():
        ctx.world.built[args.new] = made
    return Result(changed=not same, data={"image": args.new, "id": made, "size": _BYTES})
