"""The operator's configuration, in the form in which `plan` uses it."""

from typing import Self

import attrs

from hmret.model.origins import Origins
from hmret.model.policy.brake import Brake
from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.limits import DiskLimits
from hmret.model.policy.patterns import Patterns, compile_patterns
from hmret.model.policy.rules import Rule
from hmret.model.policy.window import DeletionWindow
from hmret.model.times import timedelta_nanoseconds
from hmret.model.values import frozen

NEVER = 1 << 64
"""Later than any time in nanoseconds, and longer than any window."""


@frozen
class EffectiveRule:
    """The rule values that apply to an image."""

    window_ns: int
    """How long the image must have been unused, in nanoseconds; `NEVER`: it stays."""
    keep_latest: int
    """How many of the newest images under this rule stay, in each repository."""
    rule: int | None = None
    """The position, from 1, of the rule that set these values; None: the general settings did."""


@frozen
class CompiledRule:
    """A rule, ready for matching."""

    match: Patterns
    tags: Patterns | None
    """None: it applies whatever the tags are."""
    window_ns: int | None
    """None: the general window applies."""
    keep_latest: int | None
    """None: the general number applies, counted among all images."""

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """Compile a configured rule."""
        window = rule.unused_for
        if window is not None:
            window_ns = NEVER if window == "never" else timedelta_nanoseconds(window)
        return cls(
            compile_patterns(rule.match),
            compile_patterns(rule.tags) if rule.tags else None,
            None if window is None else window_ns,
            rule.keep_latest,
        )


@frozen
class Policy:
    """The rules that choose among images that nothing needs."""

    unused_for_ns: int
    """How long an image must have been unused before it is deleted, in nanoseconds."""
    allowed: Patterns
    """The repositories whose images may be deleted."""
    pinned: Patterns
    """The repositories from which nothing is ever deleted."""
    max_deletes: int = 0
    """The most images deleted in one sweep; 0: no limit."""
    max_bytes: int = 0
    """The most bytes deleted in one sweep; 0: no limit. One image always goes, however large."""
    rules: tuple[CompiledRule, ...] = ()
    """The rules, in order; the first that matches counts."""
    keep_latest: int = 0
    """How many of the newest images of each repository stay; 0: none."""
    min_age_ns: int = 0
    """How old an image must be before it is due, in nanoseconds; 0: any age."""
    disk: DiskLimits | None = None
    """None: no limit."""
    window: DeletionWindow = attrs.field(factory=DeletionWindow)
    """The hours in which images may be deleted."""
    brake: Brake | None = None
    """None: no brake."""
    keeps_unpullable: bool = True
    """Whether images that cannot be pulled again are kept."""
    origins: Origins = attrs.field(factory=Origins)
    """Determines which repositories hold images that cannot be pulled again."""
    terms: EffectiveRule = attrs.field(init=False, eq=False)
    """The values that apply where no rule matches."""

    @terms.default
    def _usual_terms(self) -> EffectiveRule:
        return EffectiveRule(self.unused_for_ns, self.keep_latest)

    @property
    def keeps_latest(self) -> bool:
        """Whether any image can be kept for being among the newest."""
        return bool(self.keep_latest or any(rule.keep_latest for rule in self.rules))

    @property
    def shortest_window_ns(self) -> int:
        """The shortest time that an image stays after it was marked used, in nanoseconds."""
        windows = [self.unused_for_ns, *(rule.window_ns for rule in self.rules if rule.window_ns is not None)]
        if self.disk is not None:
            windows.append(timedelta_nanoseconds(self.disk.min_unused_for))
        return min(windows)

    @property
    def asks_tags(self) -> bool:
        """Whether an image's tags can change which rule applies to it."""
        return any(rule.tags is not None for rule in self.rules)

    @classmethod
    def of(cls, config: RetentionConfig) -> Self:
        """Compile the policy from a configuration."""
        return cls(
            unused_for_ns=timedelta_nanoseconds(config.auto_delete.unused_for),
            allowed=compile_patterns(config.auto_delete.allowed),
            pinned=compile_patterns(config.pinned),
            max_deletes=config.max_deletes_per_sweep,
            max_bytes=config.max_bytes_per_sweep,
            rules=tuple(map(CompiledRule.of, config.rules)),
            keep_latest=config.keep_latest,
            min_age_ns=timedelta_nanoseconds(config.min_age),
            disk=config.disk if config.disk.is_set else None,
            window=config.window,
            brake=Brake(config.brake, config.brake_min_images) if config.brake_for else None,
            keeps_unpullable=not config.delete_unpullable,
            origins=Origins.of(config.registry_url, config.builder_image),
        )
