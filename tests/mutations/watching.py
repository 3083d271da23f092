"""Checks that keep time that nobody watched out of every window, taken away one at a time."""

from mutations.mutation import Mutation, edit

__all__ = ["WATCHING_MUTATIONS"]

LOOKS = ("tests/model/test_looks.py",)
PLANS = ("tests/model/test_unwatched_plans.py",)
TIME = ("tests/engine/test_time_nobody_watched.py",)

WATCHING_MUTATIONS: tuple[Mutation, ...] = (
    edit(
        "believe a timer that is older than its image",
        "model/timetable.py",
        "if created_ns is not None and since_ns < created_ns <= self.now_ns:",
        "if False:",
        PLANS,
    ),
    edit(
        "believe a timer that is older than its image where only its window holds",
        "model/repository_plan.py",
        "and (image.created_ns is None or image.created_ns <= since_ns)",
        "and True",
        PLANS,
    ),
    edit(
        "count time that no engine watched",
        "model/looks.py",
        "is_unwatched = is_apart",
        "is_unwatched = False",
        LOOKS,
    ),
    edit(
        "count what the clock skipped",
        "model/looks.py",
        "return skipped_ns if skipped_ns > CLOCK_TOLERANCE_NS else 0",
        "return 0",
        LOOKS,
    ),
    edit(
        "let single sweeps count across a suspended one",
        "model/looks.py",
        "is_unwatched = record.was_suspended or not is_certain",
        "is_unwatched = not is_certain",
        LOOKS,
    ),
    edit(
        "let single sweeps count across any boot",
        "model/looks.py",
        "is_unwatched = record.was_suspended or not is_certain",
        "is_unwatched = record.was_suspended",
        LOOKS,
    ),
    edit(
        "take a host that was off for one that slept",
        "model/looks.py",
        "_asleep_ns(last.at, now.at, elapsed_ns) if is_one_boot else 0",
        "elapsed_ns if not is_one_boot else _asleep_ns(last.at, now.at, elapsed_ns)",
        LOOKS,
    ),
    edit(
        "leave gaps in the future",
        "model/looks.py",
        "gaps = record.gaps.until(now.at.wall_ns)",
        "gaps = record.gaps",
        LOOKS,
    ),
    edit(
        "believe timers before the first look",
        "model/looks.py",
        "if older is None and newest_timer_ns is not None and newest_timer_ns <= now_ns:",
        "if False:",
        LOOKS,
    ),
    edit(
        "let windows count time that nobody watched",
        "model/timetable.py",
        "return self.gaps.moved(since_ns) + self.terms.of(image.digest).window_ns",
        "return since_ns + self.terms.of(image.digest).window_ns",
        PLANS,
    ),
    edit(
        "let the disk's need count time that nobody watched",
        "model/pressure.py",
        "since_ns = self.gaps.latest_moved_to(",
        "since_ns = int(",
        PLANS,
    ),
    edit(
        "keep a plan over a new gap",
        "model/judging.py",
        "not causes.isdisjoint(_HOLD_MARKS), inventory.gaps.until(now_ns))",
        "not causes.isdisjoint(_HOLD_MARKS))",
        PLANS,
    ),
    edit(
        "let a quarantine count time that nobody watched",
        "engine/quarantine.py",
        "return self.gaps().moved(held.retired_at_ns) + self.period_ns",
        "return held.retired_at_ns + self.period_ns",
        TIME,
    ),
    edit(
        "let a lease count time that nobody watched",
        "engine/lease_book.py",
        "unwatched_ns = gaps.since(record.expires_at_ns - record.ttl_ns)",
        "unwatched_ns = 0",
        TIME,
    ),
    edit(
        "forget a use that could not be put on record",
        "engine/sweeping.py",
        "is_marked &= not any(fault.key in plan.mark_times for fault in faults)",
        "is_marked &= True",
        TIME,
    ),
    edit(
        "pass over reads that nobody saw",
        "model/timetable.py",
        "return None if since_ns < self.accessed.get(image.digest, since_ns) else since_ns",
        "return since_ns",
        PLANS,
    ),
    edit(
        "take a suspended sweep for a look",
        "engine/sweeping.py",
        "if plan.suspended:\n            await self.looks.note_suspended()\n        else:",
        "if True:",
        TIME,
    ),
)
