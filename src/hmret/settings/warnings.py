"""Warnings about settings that are valid but probably not intended."""

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from hmret.model.policy.config import RetentionConfig
from hmret.model.policy.pattern_doubts import covers, show_pattern, why_never, why_never_tag
from hmret.model.policy.rules import Rule
from hmret.settings.effective import EffectiveSetting
from hmret.settings.hypeman_settings import HYPEMAN_DEFAULTS, doubt_neighbours

AUTO_DELETE = "images.auto_delete"
_ENDPOINTS = "hmret.fleet.endpoints"
_MOST_RULES = 300  # the number of rules that are compared with each other
_MAX_SOCKET_BYTES = 107  # sun_path of a Linux socket address, without its NUL


def warnings_about(
    config: RetentionConfig,
    values: Mapping[str, EffectiveSetting],
    neighbours: Mapping[str, str] = HYPEMAN_DEFAULTS,
    disk_bytes: int | None = None,
) -> tuple[str, ...]:
    """Return warnings about settings that are valid but probably not intended; the disk is not consulted.

    Args:
        config: what the settings give.
        values: the settings by dotted key.
        neighbours: the settings of hypeman that can conflict with ours.
        disk_bytes: the size of the images' file system; None: unknown.
    """
    auto_delete = config.auto_delete
    warnings = [
        f"{key}: {reason}"
        for key, patterns in (
            (f"{AUTO_DELETE}.allowed", auto_delete.allowed),
            ("hmret.pinned", config.pinned),
        )
        for reason in map(why_never, patterns)
        if reason is not None
    ]
    if config.active and not auto_delete.allowed:
        warnings.append(f"{AUTO_DELETE}.allowed: empty, so nothing is eligible for deletion")
    if any(not pattern.strip("*") for pattern in config.pinned):
        warnings.append("hmret.pinned: covers every repository, so nothing is eligible for deletion")
    both = [values[key] for key in (f"{AUTO_DELETE}.enabled", "hmret.enabled")]
    if all(setting.value is True and setting.source in ("file", "environment") for setting in both):
        warnings.append(
            f"{AUTO_DELETE}.enabled and hmret.enabled: both true, so beside a hypeman server two controllers "
            f"delete; {AUTO_DELETE}.enabled should be false there"
        )
    if config.unreadable_references == "ignore":
        warnings.append(
            "hmret.unreadable_references: ignore is less safe, "
            "an image whose only reference cannot be read may be deleted"
        )
    if config.control_socket and not config.control_socket.startswith("/"):
        warnings.append(
            f"hmret.control_socket: {config.control_socket!r} depends on the folder in which hmret is started"
        )
    if len(os.fsencode(config.control_socket)) > _MAX_SOCKET_BYTES:
        warnings.append(
            f"hmret.control_socket: longer than the {_MAX_SOCKET_BYTES} bytes that a socket's path may have"
        )
    if config.metrics_listen.startswith(("0.0.0.0:", "[::]:")):
        warnings.append(
            f"hmret.metrics_listen: {config.metrics_listen} is open to every network of this host"
        )
    return (
        *warnings,
        *doubt_rules(config.rules),
        *_doubt_limits(config),
        *_doubt_brake(values),
        *_doubt_fleet(config, values),
        *doubt_neighbours(config, neighbours, disk_bytes),
    )


def _doubt_limits(config: RetentionConfig) -> Iterator[str]:
    windows = [config.auto_delete.unused_for, *(rule.unused_for for rule in config.rules)]
    longest = max(window for window in windows if isinstance(window, timedelta))
    if config.disk.is_set and config.disk.min_unused_for > longest:
        yield (
            f"hmret.disk.min_unused_for: longer than {AUTO_DELETE}.unused_for and every rule's window, "
            "so no image goes before its window ends, however full the disk is"
        )
    if config.disk.high_watermark and config.disk.low_watermark == 0:
        yield (
            "hmret.disk.low_watermark: 0, so once the disk is too full, every image that may go early goes, not just "
            "enough of them; left out, it is five points below hmret.disk.high_watermark"
        )
    if config.disk.is_set and config.window.hours and not config.window.yields_to_pressure:
        yield (
            "hmret.window.yields_to_pressure: false, so a disk that is too full stays so until the hours "
            f"of hmret.window.hours ({', '.join(config.window.hours)})"
        )
    if config.delete_unpullable:
        yield "hmret.delete_unpullable: images that cannot be pulled again may be deleted for good"


def _doubt_brake(values: Mapping[str, EffectiveSetting]) -> Iterator[str]:
    given = [key for key in ("hmret.brake", "hmret.brake_min_images") if values[key].source != "default"]
    if given and values["hmret.brake_for"].value == 0:
        yield f"{given[0]}: has no effect while hmret.brake_for is 0, which switches the brake off"


def _doubt_fleet(config: RetentionConfig, values: Mapping[str, EffectiveSetting]) -> Iterator[str]:
    fleet = config.fleet
    if not fleet.is_set:
        given = [
            key
            for key, value in values.items()
            if key.startswith("hmret.fleet.") and value.source != "default" and key != _ENDPOINTS
        ]
        if given:
            yield f"{given[0]}: has no effect while {_ENDPOINTS} is empty, which means no fleet"
        return
    if fleet.user and any(url.startswith("http://") for url in fleet.endpoints):
        yield "hmret.fleet.password_file: the password goes over the network as plain text to an endpoint with http://"
    if not fleet.hot_for and values["hmret.fleet.hot_copies"].source != "default":
        yield "hmret.fleet.hot_copies: has no effect while hmret.fleet.hot_for is 0, with which no image is hot"


def doubt_rules(rules: Sequence[Rule]) -> Iterator[str]:
    """Yield warnings about rules that are valid but without effect; of very many only the first are examined.

    Their patterns match nothing, or an earlier rule matches everything that they match.
    """
    for number, rule in enumerate(rules[:_MOST_RULES], start=1):
        told = f"hmret.rules, rule {number}"
        yield from (f"{told}: {reason}" for reason in map(why_never, rule.match) if reason is not None)
        # guard(impossible-tag-is-reported): A pattern that no tag can match protects nothing; the operator learns of
        # it before images go.
        yield from (f"{told}: {reason}" for reason in map(why_never_tag, rule.tags) if reason is not None)
        yield from (f"{told}: {reason}" for reason in _shadows(rules[: number - 1], rule))
    if rules and _covers_all(rules[0]) and rules[0].unused_for == "never":
        yield "hmret.rules, rule 1: keeps every image, so nothing is eligible for deletion"


def _shadows(before: Sequence[Rule], rule: Rule) -> Iterator[str]:
    """Yield which patterns of a rule have no effect, since earlier rules match everything that they match."""
    match = {pattern: _first_over(before, (pattern,), rule.tags) for pattern in rule.match}
    tags = {tag: _first_over(before, rule.match, (tag,)) for tag in rule.tags}
    if all(found is not None for found in match.values()):
        numbers = sorted({found for found in match.values() if found is not None})
        yield f"never applies, since {_named(numbers)} whatever it does"
        return
    if tags and all(found is not None for found in tags.values()):
        numbers = sorted({found for found in tags.values() if found is not None})
        yield f"never applies, since {_named(numbers)} whatever it does"
        return
    for pattern, found in (match | tags).items():
        if found is not None:
            yield f"pattern {show_pattern(pattern)} never applies, since {_named([found])} whatever it does"


def _first_over(before: Sequence[Rule], match: Sequence[str], tags: Sequence[str]) -> int | None:
    """Return the number of the first rule that matches everything with one of these repositories and tags."""
    for number, other in enumerate(before, start=1):
        has_tags = not other.tags or (bool(tags) and _all_covered(other.tags, tags, of="tag"))
        # guard(shadowed-rule-is-reported): A rule in the shadow of a wider one has no effect; the operator learns of
        # it before images go.
        if has_tags and _all_covered(other.match, match, of="repository"):
            return number
    return None


def _all_covered(wide: Sequence[str], narrow: Sequence[str], *, of: str) -> bool:
    return all(any(covers(other, pattern, of=of) for other in wide) for pattern in narrow)


def _named(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"rule {numbers[0]} matches"
    return f"rules {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} match"


def _covers_all(rule: Rule) -> bool:
    return not rule.tags and any(covers(pattern, "*") for pattern in rule.match)
