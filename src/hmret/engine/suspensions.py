"""Why deletion is suspended: each cause with its path and its remedy."""

from collections.abc import Iterable, Sequence

from hmret.actors.reference_collector import Collected
from hmret.actors.scanner import ScanResult
from hmret.disk.layout import CONTENT, IMAGES, OWN, REPOSITORIES, path_below
from hmret.engine.leases import REMEDY
from hmret.model.images import Cause, Suspension
from hmret.model.policy.config import RetentionConfig
from hmret.model.records.folders import LostFolder
from hmret.model.values import define

_BIND_MOUNT = "to keep it on another disk, replace the link with a bind mount"
LEASES_BROKEN = (
    "a rename breaks the kernel's file leases on this file system (such as sshfs), so open disks cannot be "
    "detected; move the data directory to another one, or set hmret.leases: when-offered to rely on references alone"
)
"""Why deletion is suspended on such a file system, and how to remedy it."""

_CLOCK_REMEDY = (
    "check the time; deletion resumes by itself one hour after the clock is stable; or, if it is right, run: "
    "hmret confirm clock"
)
_FOLDERS = frozenset((IMAGES, "guests", "snapshots"))


@define(eq=False)
class Suspensions:
    """Finds the causes under the settings in force."""

    config: RetentionConfig

    def of_references(self, unreadable: Sequence[tuple[str, str]]) -> list[Suspension]:
        """Return why unreadable references suspend deletion.

        Unreadable files are omitted if they are to be ignored. A failing source of the embedder's is never
        ignored: it might have named any image.
        """
        ignoring = self.config.unreadable_references == "ignore"
        # guard(failing-source-suspends): An embedder's source that fails might have named any image, so it
        # suspends deletion even if unreadable files are ignored.
        return [
            Suspension(
                Cause.UNREADABLE_REFERENCE, self._absolute(path), f"{problem}; {_reference_remedy(path)}"
            )
            for path, problem in unreadable
            if not ignoring or is_source(path)
        ]

    def of_lost(self, lost: Iterable[LostFolder]) -> list[Suspension]:
        """Return why lost folders suspend deletion."""
        return [Suspension(one.cause, self._absolute(one.name), one.detail) for one in lost]

    def of_survey(
        self,
        scan: ScanResult,
        collected: Collected,
        lost: Sequence[LostFolder],
        lease_fault: tuple[str, str] | None,
        clock_fault: str | None,
        *,
        file_leases_break: bool,
    ) -> list[Suspension]:
        """List what suspends deletion according to a survey."""
        causes = [*self.of_references(collected.unreadable), *self.of_lost(lost)]
        if lease_fault is not None:
            path, problem = lease_fault
            where = self._absolute(path)
            causes.append(Suspension(Cause.UNREADABLE_REFERENCE, where, f"{problem}; {REMEDY}"))
        if file_leases_break and self.config.leases == "suspend":
            causes.append(Suspension(Cause.LEASES_BROKEN, self._absolute(OWN), LEASES_BROKEN))
        if clock_fault is not None:
            causes.append(Suspension(Cause.CLOCK_JUMP, "", f"{clock_fault}; {_CLOCK_REMEDY}"))
        for link in scan.hidden:
            if link.problem:
                where = self._absolute(f"{IMAGES}/{link.path}")
                causes.append(Suspension(Cause.UNREADABLE_CACHE, where, f"{link.problem}; {_BIND_MOUNT}"))
        # guard(unlisted-part-suspends): A part of the cache that cannot be listed may contain tags, and
        # images that depend on others, so all deletion is suspended.
        for path, problem in scan.unlisted:
            where = self._absolute(f"{IMAGES}/{path}".rstrip("/"))
            remedy = _remedy(path)
            causes.append(Suspension(Cause.UNREADABLE_CACHE, where, f"{problem}; {remedy}"))
        return causes

    def _absolute(self, path: str) -> str:
        is_path = "/" in path or path in _FOLDERS
        return path_below(self.config.data_dir, path) if is_path else path


def is_source(path: str) -> bool:
    """Return whether an unreadable reference belongs to an embedder's source, which has no path."""
    return "/" not in path and path not in _FOLDERS


def _reference_remedy(path: str) -> str:
    """Return a remedy for an unreadable reference that gives up nothing that it may protect."""
    if is_source(path):
        return "deletion resumes by itself once this source of references answers"
    if path in _FOLDERS:
        return "allow hmret to list it, or repair the file system"
    return (
        "repair it, or remove its folder if the guest or snapshot is gone, "
        "or set hmret.unreadable_references: ignore"
    )


def _remedy(path: str) -> str:
    if path in (CONTENT, REPOSITORIES):
        return f"it must be a folder that hmret may list; {_BIND_MOUNT}"
    return "allow hmret to list it, or repair the file system"
