"""Build images, push them, and see that a registry has the digest it should.

Inventory section ``docker``, all optional::

    docker:
      host: unix:///var/run/docker.sock   # default: DOCKER_HOST, else that socket; or tcp://…
      tls: {ca: ca.pem, cert: cert.pem, key: key.pem, verify: true}
      registries:                         # default: the user's docker configuration
        registry.example.com: {username: ce, password: "{{ secret('registry') }}"}
                                          # `docker.io` stands for names without a registry

Works with whatever speaks the Docker Engine API.
"""

from __future__ import annotations

from typing import Any

from engine.module_api import Arguments, Context, Failed, Refused, Result, action
from modules._docker import engine as docker_engine
from modules._docker import section as docker_section
from modules._docker import simulated as docker_simulated
from modules._docker import stream as docker_stream
from modules._docker.names import split


@action(effect="idempotent", local=True)
def build(
    ctx: Context,
    context: str,
    tag: str,
    *,
    dockerfile: str = "Dockerfile",
    args: dict[str, Any] | None = None,
    labels: dict[str, Any] | None = None,
    target: str = "",
    platform: str = "",
    pull: bool = False,
    cache: bool = True,
) -> Result:
    """Build an image from a folder and give it a name.

    Result data: ``image`` (the tag), ``id`` (``sha256:…`` of its configuration), ``size`` in
    bytes. ``changed`` if the tag stood for another image before. The output goes to the step's
    log. Effect idempotent.

    Args:
        context: a folder below the runbook's; its ``.dockerignore`` is honoured.
        tag: name of the image, such as ``registry.example.com/claude-enhancer:5.1``.
        dockerfile: the Dockerfile within the context.
        args: build arguments.
        labels: labels of the image.
        target: stage to build.
        platform: such as ``linux/amd64``.
        pull: whether to look for newer base images.
        cache: whether layers of earlier builds may be used.
    """
    folder = _folder(ctx, context, dockerfile)
    options = {
        "path": str(folder),
        "dockerfile": dockerfile,
        "tag": tag,
        "buildargs": {name: str(value) for name, value in (args or {}).items()},
        "labels": {name: str(value) for name, value in (labels or {}).items()},
        "pull": pull,
        "nocache": not cache,
        **({"target": target} if target else {}),
        **({"platform": platform} if platform else {}),
    }
    return _build(ctx, tag, options)


def _build(ctx: Context, tag: str, options: dict[str, Any]) -> Result:
    """Build with the library's options; the image is the one that the engine has built, not one
    that had the name before."""
    what = f"the build of {tag}"
    with docker_engine.client(ctx) as engine:
        before = docker_engine.find(engine, tag)
        with ctx.fence():
            stream = engine.build(
                timeout=docker_engine.seconds(ctx), rm=True, decode=True, **options
            )
        end = docker_stream.follow(ctx, stream, what)
        if not end.image and not end.is_success:
            raise Failed(f"{what} ended without a word of success", hint="see the step's log")
        after = docker_engine.find(engine, tag)
    if after is None:
        raise Failed(f"{what} ended without an image", hint="see the step's log")
    if end.image and not str(after["Id"]).startswith(end.image):
        raise Failed(
            f"{what} made {end.image[:19]}, but {tag} is {after['Id'][:19]}",
            hint="does somebody else build under this name?",
        )
    data = _image_data(tag, after)
    changed = before is None or before["Id"] != after["Id"]
    return Result(changed=changed, data=data, message=f"built {tag} as {data['id'][:19]}")


@build.check
def build_check(ctx: Context, args: Arguments) -> Result:
    """See that the context and the engine are there."""
    _folder(ctx, args.context, args.dockerfile)
    tag = args.tag
    with docker_engine.client(ctx) as engine:
        there = docker_engine.find(engine, tag)
    data = {"image": tag, "id": "", "size": 0} if there is None else _image_data(tag, there)
    return Result(changed=True, data=data, diff=f"+ image {tag}\n", message=f"would build {tag}")


def _folder(ctx: Context, context: str, dockerfile: str) -> Any:
    folder = ctx.file(context)
    if not ctx.file(folder / dockerfile).is_file():
        raise Refused(
            f"there is no {dockerfile} in {context}",
            hint="name it with `dockerfile`, if it is another",
        )
    return folder


def _image_data(tag: str, image: dict[str, Any]) -> dict[str, Any]:
    return {"image": tag, "id": image["Id"], "size": image.get("Size", 0)}


@action(effect="idempotent", local=True)
def push(ctx: Context, image: str) -> Result:
    """Push an image to its registry.

    Result data: ``image``, ``digest`` (``sha256:…`` of what the registry has now). ``changed``
    if the registry had another digest, or none, under that tag. Effect idempotent.

    Args:
        image: its name with the registry, such as ``registry.example.com/claude-enhancer:5.1``.
    """
    name, tag = split(image)
    if "@" in image:
        raise Refused(f"{image} names a digest", hint="push it under a tag")
    what = f"the push of {image}"
    with docker_engine.client(ctx) as engine:
        if docker_engine.find(engine, image) is None:
            raise Failed(f"there is no image {image} to push", hint="build or tag it first")
        before = docker_engine.registry_digest(ctx, engine, image)
        docker_engine.patient(ctx, engine)  # a large layer may go without a word for long
        login = docker_section.login(ctx, name)
        with ctx.fence():
            stream = engine.push(name, tag, stream=True, decode=True, auth_config=login)
        end = docker_stream.follow(ctx, stream, what)
        if not end.digest:
            raise Failed(f"{what} ended without a digest", hint="see the step's log")
        there = docker_engine.registry_digest(ctx, engine, image)
    if there != end.digest:
        raise Failed(
            f"{what} sent {end.digest[:19]}, but the registry has {there[:19] or 'nothing'} there",
            hint="does somebody else push under this tag? Use the digest",
            data={"image": image, "digest": there},
        )
    data = {"image": image, "digest": there}
    return Result(changed=before != there, data=data, message=f"pushed {image} as {there[:19]}")


@push.check
def push_check(ctx: Context, args: Arguments) -> Result:
    """Compare what is here with what the registry has."""
    image = args.image
    with docker_engine.client(ctx) as engine:
        local = docker_engine.find(engine, image)
        there = docker_engine.registry_digest(ctx, engine, image)
    known = [] if local is None else local.get("RepoDigests") or []
    same = bool(there) and any(one.endswith(f"@{there}") for one in known)
    return Result(
        changed=not same,
        data={"image": image, "digest": there},
        diff="" if same else f"+ {image} in the registry\n",
        message=f"the registry has {there or 'nothing'} under {image}",
    )


@action(effect="read", local=True)
def inspect_digest(ctx: Context, image: str, *, expect: str = "", local: bool = False) -> Result:
    """Read the digest that the registry has under a tag; refuse another than the expected one.

    Result data: ``image``, ``digest``. Effect read.

    Args:
        image: name and tag.
        expect: the digest that it must be, ``sha256:…``.
        local: ask the engine what it pulled or pushed under that name, not the registry.
    """
    with docker_engine.client(ctx) as engine:
        if local:
            digest = docker_engine.local_digest(engine, image)
        else:
            digest = docker_engine.registry_digest(ctx, engine, image)
    if not digest:
        where = "engine" if local else "registry"
        raise Failed(f"the {where} has no {image}", hint="was it pushed under this name?")
    if expect and digest != expect:
        raise Refused(
            f"{image} is {digest}, not {expect}",
            hint="somebody else pushed under this tag: find out who, and use the digest",
            data={"image": image, "digest": digest},
        )
    return Result(data={"image": image, "digest": digest}, message=f"{image} is {digest[:19]}")


@action(effect="idempotent", local=True)
def tag(ctx: Context, image: str, new: str) -> Result:
    """Give an image another name.

    Result data: ``image`` (the new name), ``id``, ``size``. ``changed`` if the name stood for
    another image, or none. Effect idempotent.

    Args:
        image: the image: a name or an id.
        new: the name to add.
    """
    name, label = split(new)
    with docker_engine.client(ctx) as engine:
        source, before = docker_engine.find(engine, image), docker_engine.find(engine, new)
        if source is None:
            raise Failed(f"there is no image {image}")
        same = before is not None and before["Id"] == source["Id"]
        if not same:
            with ctx.fence():
                engine.tag(image, name, label)
            after = docker_engine.find(engine, new)
            if after is None or after["Id"] != source["Id"]:
                has = "nothing" if after is None else after["Id"][:19]
                raise Failed(f"{new} was to name {source['Id'][:19]}, but names {has}")
    return Result(changed=not same, data=_image_data(new, source))


@tag.check
def tag_check(ctx: Context, args: Arguments) -> Result:
    """Say whether the name would change."""
    new = args.new
    with docker_engine.client(ctx) as engine:
        source, before = docker_engine.find(engine, args.image), docker_engine.find(engine, new)
    if source is None:
        return Result(changed=True, data={"image": new, "id": "", "size": 0}, diff=f"+ {new}\n")
    same = before is not None and before["Id"] == source["Id"]
    diff = "" if same else f"+ {new}\n"
    return Result(changed=not same, data=_image_data(new, source), diff=diff)


# -- in a simulated world -----------------------------------------------------------------------
build.simulate(docker_simulated.build)
push.simulate(docker_simulated.push)
inspect_digest.simulate(docker_simulated.inspect_digest)
tag.simulate(docker_simulated.tag)
