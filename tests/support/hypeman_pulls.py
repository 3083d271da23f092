"""Pulls: today's hypeman's, those that it takes up again when it starts, and those of older servers."""

import json
from collections.abc import Collection
from typing import Any

from support.hypeman_lookup import CONTENT, DISK, IMAGES, IN_PROGRESS, METADATA, Found, Reading, link_of
from support.hypeman_steps import Call, Outcome, Parts, Server

__all__ = ["DISK_BYTES", "Puller"]

DISK_BYTES = 1 << 20
_MANIFEST = "manifest.json"


class Puller(Server):
    """A server that pulls."""

    def pull(self, repository: str, tag: str | None, hexadecimal: str, tags: Collection[str] = ()) -> Call:
        """Pull a digest; what is here and ready only gets its tag.

        Args:
            repository: where it is pulled from.
            tag: the tag that it is pulled by; None: by digest.
            hexadecimal: what the registry says that the tag is.
            tags: keys that the caller gives the image, for which hypeman writes the metadata again.
        """
        return self.attempt(self._pull(repository, tag, hexadecimal, tags))

    def _pull(self, repository: str, tag: str | None, hexadecimal: str, tags: Collection[str]) -> Call:
        here = yield from self._look(repository, hexadecimal)
        yield f"act on what is here of {repository}@{hexadecimal[:4]}"
        if here is not None and here[0].status == "ready":
            found, metadata = here
            if tags:
                metadata["tags"] = dict.fromkeys(tags, "")
                yield from self._write_back(repository, found, metadata)
            if tag is not None:
                yield from self._set_tag(repository, tag, hexadecimal, in_content=found.is_content)
            return Outcome("done")
        if here is not None and here[0].status in IN_PROGRESS:
            return Outcome("being pulled")
        folder = f"{CONTENT}/{hexadecimal}" if here is None else here[0].folder
        metadata = self._new_metadata(repository, tag, hexadecimal)
        metadata |= {"build_id": f"build-{self._number()}", "requested_tag": tag, "tag_generation": 1}
        yield from self._install_metadata(folder, metadata, "pending")
        yield from self._convert_and_tag(folder, metadata)
        return Outcome("done")

    def _write_back(self, repository: str, found: Found, metadata: dict[str, Any]) -> Parts:
        """Write metadata that was read before to where the image is by now; a folder that has gone is made again."""
        now = self.reading().find(repository, found.hexadecimal)
        folder = f"{CONTENT}/{found.hexadecimal}" if now is None else now.folder
        yield f"write the metadata back, to {folder}"
        yield from self._install_metadata(folder, metadata, str(metadata["status"]))

    def _convert_and_tag(self, folder: str, metadata: dict[str, Any]) -> Parts:
        """Do what a pull has to do: a tag that is new is set at once, one that moves only when all is there."""
        repository, tag, hexadecimal = self._names(metadata)
        in_content = folder.startswith(f"{CONTENT}/")
        is_set = tag is None or self.reading().hex_of_tag(repository, tag) is not None
        if tag is not None and not is_set:
            yield from self._set_tag(repository, tag, hexadecimal, in_content=in_content)
        yield from self._convert(folder, metadata)
        if tag is not None and is_set:
            yield from self._set_tag(repository, tag, hexadecimal, in_content=in_content)

    def _convert(self, folder: str, metadata: dict[str, Any]) -> Parts:
        yield from self._install_metadata(folder, metadata, "pulling")
        yield from self._install_metadata(folder, metadata, "converting")
        unfinished = f"{folder}/{DISK}.tmp-{metadata['build_id']}"
        yield f"write {unfinished}"
        self.disk.write(unfinished, b"disk", size_bytes=DISK_BYTES)
        yield f"rename {unfinished}"
        self.disk.rename(unfinished, f"{folder}/{DISK}")
        manifest = {"schema_version": 1, "digest": metadata["digest"], "rootfs_type": "erofs", "layers": []}
        yield from self._install(folder, _MANIFEST, json.dumps(manifest).encode())
        metadata["size_bytes"] = DISK_BYTES
        yield from self._install_metadata(folder, metadata, "ready")

    # When a server starts.

    def unfinished(self) -> list[str]:
        """List the folders of the pulls that a server takes up again when it starts; a promotion is none."""
        reading = self.reading()
        folders = {path.rpartition("/")[0] for path in self.disk.tree() if path.endswith(f"/{METADATA}")}
        return [
            folder
            for folder in sorted(folders)
            if "/." not in folder
            and (metadata := reading.metadata(folder)) is not None
            and metadata.get("status") in IN_PROGRESS
            and "build_id" in metadata
            and not self._is_promotion(reading, folder, metadata)
        ]

    def resume(self, folder: str) -> Call:
        """Go on with a pull that a stop of the server has cut off."""
        return self.attempt(self._resume(folder))

    def _resume(self, folder: str) -> Call:
        yield from self._read(f"{folder}/{METADATA}")
        metadata = self.reading().metadata(folder)
        if metadata is None or metadata.get("status") not in IN_PROGRESS:
            return Outcome("not found")
        yield f"go on with the pull in {folder}"
        yield from self._convert_and_tag(folder, metadata)
        return Outcome("done")

    def _is_promotion(self, reading: Reading, folder: str, metadata: dict[str, Any]) -> bool:
        repository, _, hexadecimal = self._names(metadata)
        own = reading.metadata(f"{IMAGES}/{repository}/{hexadecimal}")
        return folder.startswith(f"{CONTENT}/") and own == metadata | {"status": "ready"}

    # Servers of before August 2026, which know nothing of content.

    def pull_as_older_server(self, repository: str, tag: str, hexadecimal: str) -> Call:
        """Pull a digest as a server does that the host was rolled back to."""
        return self.attempt(self._pull_as_older_server(repository, tag, hexadecimal))

    def _pull_as_older_server(self, repository: str, tag: str, hexadecimal: str) -> Call:
        folder = f"{IMAGES}/{repository}/{hexadecimal}"
        metadata = self.reading().metadata(folder)
        yield f"act on what is in {folder}"
        if metadata is None or metadata.get("status") != "ready" or not self._has_disk(folder):
            metadata = self._new_metadata(repository, tag, hexadecimal)
            for status in ("pending", "pulling", "converting"):
                yield from self._replace_metadata(folder, metadata, status)
            yield f"write {folder}/{DISK}"
            self.disk.write(f"{folder}/{DISK}", b"disk", size_bytes=DISK_BYTES)
            metadata["size_bytes"] = DISK_BYTES
            yield from self._replace_metadata(folder, metadata, "ready")
        link = link_of(repository, tag, in_content=False)
        if self.disk.exists(link):
            yield f"unlink {link}"
            self.remove(link)
        yield f"link {link}"
        self.disk.symlink(hexadecimal, link)
        return Outcome("done")

    def _replace_metadata(self, folder: str, metadata: dict[str, Any], status: str) -> Parts:
        content = json.dumps(metadata | {"status": status}, indent=2)
        yield f"make {folder}"
        self.disk.make_folders(folder)
        yield f"write {folder}/{METADATA}.tmp"
        self.disk.write(f"{folder}/{METADATA}.tmp", content.encode())
        yield f"rename {folder}/{METADATA}.tmp"
        self.disk.rename(f"{folder}/{METADATA}.tmp", f"{folder}/{METADATA}")

    # Metadata.

    def _new_metadata(self, repository: str, tag: str | None, hexadecimal: str) -> dict[str, Any]:
        name = f"{repository}@sha256:{hexadecimal}" if tag is None else f"{repository}:{tag}"
        return {
            "name": name,
            "digest": f"sha256:{hexadecimal}",
            "platform": "linux/amd64",
            "status": "pending",
            "request": {"Name": name, "Tags": None, "Platform": ""},
            "size_bytes": 0,
            "created_at": self._stamp(),
        }

    @staticmethod
    def _names(metadata: dict[str, Any]) -> tuple[str, str | None, str]:
        """Read repository, tag and digest out of metadata."""
        name, hexadecimal = str(metadata["name"]), str(metadata["digest"]).removeprefix("sha256:")
        if "@" in name:
            return name.partition("@")[0], None, hexadecimal
        repository, _, tag = name.rpartition(":")
        return repository, tag, hexadecimal
