"""A small hypervisor server with hmret inside: instances over HTTP, images pulled when they are wanted and not here.

    python examples/hypervisor_server.py --data-dir /tmp/host --listen 127.0.0.1:8080 --unused-for 60
    curl --json '{"image": "alpine:3.20"}' http://127.0.0.1:8080/instances
    curl --request DELETE http://127.0.0.1:8080/instances/<id>

Its hypervisor and its registry are pretended: an instance is a metadata file, as hypeman writes it, and a pull makes a
small disk up. Images lie as today's hypeman lays them: a folder for each digest in `images/content/`, and the tags of each
repository as links in `images/repositories/`, so that repositories share what they have in common. What is real is how the
server deals with retention:

- from the moment a reference is resolved until the metadata that names the digest is written, a lease covers the image,
  asked for by whatever spelling the client used: a tag, or a digest under any repository;
- an image that is not here, or has just gone, is pulled, and then everything begins again;
- a pull puts an image in its place whole, by one rename, and a tag by another, and may meet a deletion of the same digest
  at any moment.

It runs on asyncio: it writes its guests' metadata with aiofiles, which knows nothing else. The engine does not mind.
"""

import argparse
import asyncio
import errno
import hashlib
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict

import aiofiles
import aiofiles.os
import attrs
import msgspec
from anycorn import Config, serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import hmret
from hmret.asgi import make_app

__all__ = ["Hypervisor", "make_server"]

# A pull and the deletion of what was pulled can only chase each other where the window is far too short.
_PULLS = 20

_DISK_BYTES = 64 * 1024


class _State(TypedDict):
    """What Starlette hands to every request."""

    hypervisor: "Hypervisor"


class CreateInstance(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /instances`."""

    image: str


class NoImageError(Exception):
    """An image that was pulled did not stay for long enough to be used."""


@attrs.frozen
class Instance:
    """An instance (VM)."""

    id: str
    image: str
    """As it was asked for."""
    resolved_image: str
    """The digest-pinned reference that it really runs from."""


@attrs.define(eq=False)
class Registry:
    """A pretend registry and the pulls from it.

    It has every image that one asks for. Repositories whose names end alike hold the same images, as mirrors do.
    """

    data_dir: Path
    pulls: int = 0
    """Images that were written; those that were here and only got a tag do not count."""
    _pulling: defaultdict[str, asyncio.Lock] = attrs.field(factory=lambda: defaultdict(asyncio.Lock))

    async def pull(self, image: str) -> None:
        """Pull an image and point its tag to it; whoever asks for one that is being pulled waits for that."""
        named = hmret.parse_reference(image)
        waits = self._pulling[str(named)].locked()
        async with self._pulling[str(named)]:
            if not waits:
                self.pulls += await asyncio.to_thread(self._pull, named)

    def _pull(self, named: hmret.ImageReference) -> bool:
        """Pull an image; returns whether it was not here already."""
        if named.digest is not None:
            return self._install(f"{named.repository}@{named.digest}", named.digest)
        name, tag = named.repository.rpartition("/")[2], named.tag or "latest"
        digest = f"sha256:{hashlib.sha256(f'{name}:{tag}'.encode()).hexdigest()}"
        is_new = self._install(f"{named.repository}:{tag}", digest)
        self._set_tag(named.repository, tag, digest)
        return is_new

    def _install(self, name: str, digest: str) -> bool:
        """Make an image where no scan looks, and rename it to its place, whole; returns whether it was not here already."""
        content = self.data_dir / "images" / "content"
        place = content / digest.removeprefix("sha256:")
        if place.exists():
            return False
        staging = self.data_dir / "system" / "pulls" / os.urandom(8).hex()
        staging.mkdir(parents=True)
        metadata = {
            "name": name,
            "digest": digest,
            "status": "ready",
            "size_bytes": _DISK_BYTES,
            "created_at": datetime.now(UTC).isoformat(),
        }
        (staging / "rootfs.erofs").write_bytes(os.urandom(_DISK_BYTES))
        (staging / "metadata.json").write_text(json.dumps(metadata))
        content.mkdir(parents=True, exist_ok=True)
        try:
            staging.rename(place)
        except OSError as error:
            # What is there by now is this very image, pulled by another name.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            shutil.rmtree(staging)
            return False
        return True

    def _set_tag(self, repository: str, tag: str, digest: str) -> None:
        """Point a tag to an image, by a link that is made beside its place and renamed there."""
        folder = self.data_dir / "images" / "repositories" / repository
        up = "../" * (repository.count("/") + 2)
        while True:
            # Folders that have long been empty are removed, and this may be one, right under our hands.
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                stage = folder / f".tag-stage-{os.urandom(8).hex()}"
                stage.mkdir()
                (stage / tag).symlink_to(f"{up}content/{digest.removeprefix('sha256:')}")
                (stage / tag).rename(folder / tag)
                stage.rmdir()
                return


@attrs.define(eq=False)
class Hypervisor:
    """Creates and deletes instances."""

    data_dir: Path
    retention: hmret.Retention
    registry: Registry
    instances: dict[str, Instance] = attrs.field(factory=dict)

    async def create(self, image: str) -> Instance:
        """Create an instance.

        Raises:
            hmret.InvalidReferenceError: the text is no reference.
            NoImageError: the image does not stay, however often it is pulled.
        """
        identity = os.urandom(6).hex()
        for _ in range(_PULLS):
            try:
                async with self.retention.lease(image, reason=f"create {identity}") as leased:
                    resolved = f"{leased.repository}@{leased.digest}"
                    instance = Instance(identity, image, resolved)
                    await self._write_metadata(instance)
            except hmret.ImageNotFoundError:
                await self.registry.pull(image)
            else:
                # From here on the metadata protects the image; the lease is over.
                self.instances[identity] = instance
                return instance
        raise NoImageError(f"{image}: pulled {_PULLS} times, and gone each time")

    async def delete(self, identity: str) -> None:
        """Delete an instance.

        Raises:
            KeyError: there is none of that name.
        """
        del self.instances[identity]
        folder = self.data_dir / "guests" / identity
        await aiofiles.os.remove(folder / "metadata.json")
        await aiofiles.os.rmdir(folder)

    async def _write_metadata(self, instance: Instance) -> None:
        """Write an instance's metadata in place, as hypeman does: who reads it meanwhile can meet it torn."""
        metadata = {
            "Id": instance.id,
            "Name": f"vm-{instance.id}",
            "Image": instance.image,
            "ResolvedImage": instance.resolved_image,
            "CreatedAt": datetime.now(UTC).isoformat(),
            "Vcpus": 2,
        }
        folder = self.data_dir / "guests" / instance.id
        await aiofiles.os.makedirs(folder)
        async with aiofiles.open(folder / "metadata.json", "wb", buffering=0) as file:
            await file.write(msgspec.json.encode(metadata))


# HTTP.


async def create_instance(request: Request) -> Response:
    """`POST /instances`: create an instance of an image, by tag or by digest."""
    try:
        wanted = msgspec.json.decode(await request.body(), type=CreateInstance)
        instance = await _hypervisor(request).create(wanted.image)
    except (msgspec.MsgspecError, hmret.InvalidReferenceError) as error:
        return JSONResponse({"error": str(error)}, 422)
    except NoImageError as error:
        return JSONResponse({"error": str(error)}, 503)
    return JSONResponse(attrs.asdict(instance), 201)


async def list_instances(request: Request) -> Response:
    """`GET /instances`."""
    return JSONResponse([attrs.asdict(one) for one in _hypervisor(request).instances.values()])


async def delete_instance(request: Request) -> Response:
    """`DELETE /instances/{id}`."""
    identity: str = request.path_params["id"]
    try:
        await _hypervisor(request).delete(identity)
    except KeyError:
        return JSONResponse({"error": f"no instance {identity}"}, 404)
    return Response(status_code=204)


def _hypervisor(request: Request) -> Hypervisor:
    hypervisor: Hypervisor = request.state.hypervisor
    return hypervisor


def make_server(config: hmret.RetentionConfig) -> Starlette:
    """Make the server; the engine is open, and sweeps, for as long as the application's lifespan lasts.

    hmret's own page, metrics and control API, as far as they only look, are below `/retention/`.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[_State]:
        async with hmret.open_retention(config) as retention:
            app.mount("/retention", make_app(retention, read_only=True))
            data_dir = Path(config.data_dir)
            yield {"hypervisor": Hypervisor(data_dir, retention, Registry(data_dir))}

    routes = [
        Route("/instances", create_instance, methods=["POST"]),
        Route("/instances", list_instances),
        Route("/instances/{id}", delete_instance, methods=["DELETE"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A small hypervisor server with hmret inside.")
    parser.add_argument("--data-dir", type=Path, required=True, help="is made where it is missing")
    parser.add_argument("--listen", default="127.0.0.1:8080", help="host:port (default: %(default)s)")
    parser.add_argument("--unused-for", type=float, default=3600, help="seconds (default: %(default)s)")
    parser.add_argument("--sweep-interval", type=float, default=60, help="seconds (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.data_dir.mkdir(parents=True, exist_ok=True)
    config = hmret.RetentionConfig(
        data_dir=arguments.data_dir,
        auto_delete=hmret.AutoDelete(
            enabled=True, unused_for=timedelta(seconds=arguments.unused_for), allowed=("*",)
        ),
        sweep_interval=timedelta(seconds=arguments.sweep_interval),
    )
    serving = Config()
    serving.bind = [arguments.listen]
    sys.stderr.write(f"serving http://{arguments.listen}/instances\n")
    asyncio.run(serve(make_server(config), serving))  # type: ignore[arg-type]  # two descriptions of the same protocol


if __name__ == "__main__":
    main()
