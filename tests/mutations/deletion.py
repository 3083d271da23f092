"""Checks that a sweep's deletions rest on while they are carried out, each taken away."""

from mutations.mutation import edit

__all__ = ["DELETION_MUTATIONS"]

INSTEAD = ("tests/engine/test_in_place_of_what_fails.py",)
IN_ONE_CALL = ("tests/disk/test_in_one_call.py",)
FULL = ("tests/engine/test_full_disk.py",)
RELOAD = ("tests/engine/test_reload_in_a_sweep.py",)

DELETION_MUTATIONS = (
    edit(
        "delete on by the settings of before a reload",
        "engine/removal.py",
        "is_interrupted=lambda: self.new_settings.are_waiting,",
        "is_interrupted=lambda: False,",
        RELOAD,
    ),
    edit(
        "go on after a reload with what it forbids",
        "engine/removal.py",
        "return self._allowed is None or all(key in self._allowed for key in choice.keys)",
        "return True",
        RELOAD,
    ),
    edit(
        "empty the quarantine by the settings of before a reload",
        "engine/removal.py",
        "return not self.new_settings.are_waiting",
        "return True",
        RELOAD,
    ),
    edit(
        "go on after a reload that switches off",
        "engine/removal.py",
        'self._end("switched off")\n                break',
        "pass",
        RELOAD,
    ),
    edit(
        "let nothing go in place of what cannot be deleted",
        "engine/removal.py",
        "        await self._delete_substitutes()\n        while",
        "        while",
        INSTEAD,
    ),
    edit(
        "delete in place of what failed beyond the limits of a sweep",
        "engine/removal.py",
        "choices = choices[: max(self._policy.max_deletes - gone, 0)]",
        "pass",
        INSTEAD,
        RELOAD,
    ),
    edit(
        "forget at the end of a process what failed",
        "engine/backoff.py",
        "self._failures = {(one.repository, one.digest): one for one in failures}",
        "self._failures = {}",
        INSTEAD,
    ),
    edit(
        "write an intent on a full disk without the reserve",
        "disk/trash.py",
        "if not write_into_reserve(filesystem, data_fd, fd, token + _SUFFIX, content):\n                raise",
        "raise",
        FULL,
    ),
    *(
        edit(f"{what}, of an image that is carried out in one call", f"disk/{path}", old, new, IN_ONE_CALL)
        for what, path, old, new in (
            (
                "forget that its leases were taken",
                "deletion/held_ahead.py",
                "if asks_leases and step >= Step.LEASED:",
                "if False:",
            ),
            (
                "hold a disk that has another name",
                "deletion/held_ahead.py",
                "and all(found.st_nlink == 1 for found in folder.found.values())",
                "",
            ),
            (
                "look for arrivals below its own repository alone",
                "deletion/held_ahead.py",
                "for name in (CONTENT, *repositories_of(intent))]",
                "for name in repositories_of(intent)]",
            ),
            (
                "go on with its tags as if none had been set aside",
                "retirement.py",
                "timers = None if step is Step.LOOKED else states",
                "timers = states",
            ),
            (
                "tell of no tag that is gone",
                "retirement.py",
                "gone = () if held is None else held.gone",
                "gone = ()",
            ),
        )
    ),
)
