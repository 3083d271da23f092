"""Completes a release in dist/: a bill of materials, and the sums of all files.

    python3 packaging/release.py

hmret-VERSION.cdx.json lists hmret and each library of packaging/requirements.lock with its version and hashes, in the
format CycloneDX 1.6, without a time or a random number, so that the same lock gives the same bytes. SHA256SUMS names all
files of that version: `sha256sum --check SHA256SUMS`.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

__all__ = ["bill_of_materials", "locked", "sums"]

HERE = Path(__file__).resolve().parent.parent
LOCK = HERE / "packaging/requirements.lock"
DIST = HERE / "dist"
SUMS = "SHA256SUMS"


def locked(text: str) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Return name, version and SHA-256 hashes of each library of a lock."""
    for entry in re.sub(r"\\\n\s*", "", text).splitlines():
        if entry.strip() and not entry.startswith("#"):
            found = re.match(r"([A-Za-z0-9._-]+)==(\S+)", entry)
            if found is None:
                raise SystemExit(f"expected NAME==VERSION, got {entry!r}")
            yield found[1], found[2], re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)


def bill_of_materials(project: Mapping[str, str], lock: str) -> dict[str, object]:
    """Describe what a release is made of, as CycloneDX has it."""
    name, version = project["name"], project["version"]
    own = f"pkg:pypi/{name}@{version}"
    libraries = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{library}@{number}",
            "name": library,
            "version": number,
            "purl": f"pkg:pypi/{library}@{number}",
            # One for each file of that version: a wheel for each platform, and the source.
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"https://pypi.org/project/{library}/{number}/",
                    "hashes": [{"alg": "SHA-256", "content": one}],
                }
                for one in hashes
            ],
        }
        for library, number, hashes in locked(lock)
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, own + lock)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": name,
                "version": version,
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": own,
            }
        },
        "components": libraries,
        "dependencies": [{"ref": own, "dependsOn": [one["bom-ref"] for one in libraries]}],
    }


def sums(folder: Path) -> str:
    """Return the SHA-256 sums of the files in a folder, as sha256sum writes them."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    return "".join(f"{_sum(path)}  {path.name}\n" for path in files)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Write both files."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    document = bill_of_materials(project, LOCK.read_text(encoding="utf-8"))
    path = DIST / f"hmret-{project['version']}.cdx.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (DIST / LOCK.name).write_bytes(LOCK.read_bytes())
    (DIST / SUMS).write_text(sums(DIST), encoding="utf-8")


if __name__ == "__main__":
    main()
