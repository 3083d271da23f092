"""Checks that a sweep's deletions rest on while they are carried out, each taken away."""

from mutations.mutation import edit

__all__ = ["DELETION_MUTATIONS"]

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
)
