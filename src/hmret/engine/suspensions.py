"""Why deletion is suspended: each cause with its path and what remedies it."""

from collections.abc import Iterable, Sequence

from hmret.actors.reference_collector import Collected
from hmret.actors.scanner import ScanResult
from hmret.disk.layout import CONTENT, IMAGES, OWN, REPOSITORIES
from hmret.engine.leases import REMEDY
from hmret.model.images import Cause, Suspension
from hmret.model.policy.config import RetentionConfig
from hmret.model.records.folders import LostFolder
from hmret.model.values import define

__all__ = ["LEASES_BROKEN", "Suspensions", "is_source"]

_BIND_MOUNT = "to have it on another disk, use a bind mount in the place of the link"
LEASES_BROKEN = (
    "a rename breaks the kernel's leases on this file system (sshfs, say), so nobody can tell whether a disk is open; "
    "have the data directory on another one, or set hmret.leases: when-offered to go by references alone"
)
"""Why deletion is suspended there, and what remedies it."""

_FOLDERS = frozenset((IMAGES, "guests", "snapshots"))


@define(eq=False)
class Suspensions:
    """Finds the causes by the settings in force."""

    config: RetentionConfig
    leases_break: bool = False
    """Whether a rename breaks the kernel's leases here."""

    def of_references(self, unreadable: Sequence[tuple[str, str]]) -> list[Suspension]:
        """Say why unreadable references suspend deletion.

        Those of files are left out where they are to be ignored. A source of the embedder's is never ignored: what it
        would name is anybody's guess, and may be everything.
        """
        ignoring = self.config.unreadable_references == "ignore"
        # guard(failing-source-suspends): A source of the embedder's that fails may have named any image: it suspends
        # deletion even where unreadable files are ignored.
        return [
            Suspension(
                Cause.UNREADABLE_REFERENCE, self._absolute(path), f"{problem}; {_reference_remedy(path)}"
            )
            for path, problem in unreadable
            if not ignoring or is_source(path)
        ]

    def of_lost(self, lost: Iterable[LostFolder]) -> list[Suspension]:
        """Say why lost folders suspend deletion."""
        return [Suspension(one.cause, self._absolute(one.name), one.detail) for one in lost]

    def of_survey(
        self,
        scan: ScanResult,
        collected: Collected,
        lost: Sequence[LostFolder],
        lease_fault: tuple[str, str] | None,
        clock_fault: str | None,
    ) -> list[Suspension]:
        """List what suspends deletion by what a survey has found."""
        causes = [*self.of_references(collected.unreadable), *self.of_lost(lost)]
        if lease_fault is not None:
            path, problem = lease_fault
            where = self._absolute(path)
            causes.append(Suspension(Cause.UNREADABLE_REFERENCE, where, f"{problem}; {REMEDY}"))
        if self.leases_break and self.config.leases == "suspend":
            causes.append(Suspension(Cause.LEASES_BROKEN, self._absolute(OWN), LEASES_BROKEN))
        if clock_fault is not None:
            remedy = "check the time; deletion resumes by itself one hour after the clock has settled"
            causes.append(Suspension(Cause.CLOCK_JUMP, "", f"{clock_fault}; {remedy}"))
        for link in scan.hidden:
            if link.problem:
                where = self._absolute(f"{IMAGES}/{link.path}")
                causes.append(Suspension(Cause.UNREADABLE_CACHE, where, f"{link.problem}; {_BIND_MOUNT}"))
        # guard(unlisted-part-suspends): A part of the cache that cannot be listed may hold tags and images that
        # depend on others, so all deletion waits.
        for path, problem in scan.unlisted:
            where = self._absolute(f"{IMAGES}/{path}".rstrip("/"))
            remedy = _remedy(path)
            causes.append(Suspension(Cause.UNREADABLE_CACHE, where, f"{problem}; {remedy}"))
        return causes

    def _absolute(self, path: str) -> str:
        return f"{self.config.data_dir.rstrip('/')}/{path}" if "/" in path or path in _FOLDERS else path


def is_source(path: str) -> bool:
    """Return whether a reference that could not be had is that of a source of the embedder's, which has no path."""
    return "/" not in path and path not in _FOLDERS


def _reference_remedy(path: str) -> str:
    """Say what helps where a reference cannot be read, and gives up nothing that it may protect."""
    if is_source(path):
        return "deletion resumes by itself once this source of references answers"
    if path in _FOLDERS:
        return "give hmret the right to list it, or repair the file system"
    return (
        "repair it, or remove its folder where the guest or snapshot is gone, "
        "or set hmret.unreadable_references: ignore"
    )


def _remedy(path: str) -> str:
    if path in (CONTENT, REPOSITORIES):
        return f"it must be a folder that hmret may list; {_BIND_MOUNT}"
    return "give hmret the right to list it, or repair the file system"
