"""Checks that keep time that nobody watched out of every window, taken away one at a time."""

from mutations.mutation import NEVER, Become, Mutation, Swap, edit

__all__ = ["WATCHING_MUTATIONS"]

LOOKS = ("tests/model/clock/test_looks.py",)
PLANS = ("tests/model/plan/test_unwatched_plans.py",)
TIME = ("tests/engine/test_time_nobody_watched.py",)

WATCHING_MUTATIONS: tuple[Mutation, ...] = (
    edit("believe a timer that is older than its image", "timer-of-this-image", NEVER, PLANS),
    edit(
        "believe a timer that is older than its image where only its window holds",
        "shortcut-only-keeps",
        Swap("(image.created_ns is None or image.created_ns <= since_ns)", "True"),
        PLANS,
    ),
    edit("count time that no engine watched", "time-without-engine", Swap("is_apart", "False"), LOOKS),
    edit("count what the clock skipped", "skipped-time-is-unwatched", Become("return 0"), LOOKS),
    edit(
        "let single sweeps count across a suspended one",
        "certain-time-between-sweeps",
        Swap("record.was_suspended or ", ""),
        LOOKS,
    ),
    edit(
        "let single sweeps count across any boot",
        "certain-time-between-sweeps",
        Swap(" or not is_certain", ""),
        LOOKS,
    ),
    edit(
        "take a host that was off for one that slept",
        "off-is-not-asleep",
        Swap(
            "_asleep_ns(last.at, now.at, passed_ns) if is_one_boot else 0",
            "passed_ns if not is_one_boot else _asleep_ns(last.at, now.at, passed_ns)",
        ),
        LOOKS,
    ),
    edit(
        "believe a clock that was set back while no engine ran",
        "set-back-clock-hides-no-time",
        Swap("max(elapsed_ns, _passed_at_least_ns(last.at, now.at))", "elapsed_ns"),
        LOOKS,
    ),
    edit("leave gaps in the future", "no-gaps-in-the-future", Swap(".until(now.at.wall_ns)", ""), LOOKS),
    edit("believe timers before the first look", "newest-timer-dates-last-sweep", NEVER, LOOKS),
    edit(
        "have a timer of the future stand for the last look",
        "future-timer-hides-none",
        Swap(" and found[4] <= until_ns", ""),
        ("tests/engine/test_time_nobody_watched.py",),
    ),
    edit(
        "believe timers before the first look where the clock on record tells of one",
        "clock-dates-last-sweep",
        NEVER,
        ("tests/model/clock/test_looks.py",),
    ),
    edit(
        "let windows count time that nobody watched",
        "window-in-watched-time",
        Swap("self.gaps.moved(since_ns)", "since_ns"),
        PLANS,
    ),
    edit(
        "let the disk's need count time that nobody watched",
        "pressure-in-watched-time",
        Swap("self.gaps.latest_moved_to", "int"),
        PLANS,
    ),
    edit(
        "keep a plan over a new gap",
        "new-gap-renews-the-plan",
        Swap(", inventory.gaps.until(now_ns)", ""),
        PLANS,
    ),
    edit(
        "let a quarantine count time that nobody watched",
        "quarantine-in-watched-time",
        Swap("self.gaps().moved(held.retired_at_ns)", "held.retired_at_ns"),
        TIME,
    ),
    edit(
        "let a lease count time that nobody watched",
        "lease-in-watched-time",
        Swap("gaps.since(record.expires_at_ns - record.ttl_ns)", "0"),
        TIME,
    ),
    edit(
        "forget a use that could not be put on record",
        "unseen-use-on-record",
        Become("is_marked &= True"),
        TIME,
    ),
    edit("pass over reads that nobody saw", "read-disk-was-in-use", Become("return since_ns"), PLANS),
    edit(
        "start a timer when the plan that was kept found it missing",
        "kept-plan-starts-no-timer",
        Swap("now_ns", "before_ns"),
        ("tests/engine/test_timer_starts.py",),
    ),
    edit(
        "take a suspended sweep for a look",
        "suspended-sweep-not-watched",
        Become(
            "if True:\n            checks_reads = self.checks_reads(moment.watched)\n            await self.looks.note(moment.reading, moment.watched, plan, checks_reads=checks_reads)"
        ),
        TIME,
    ),
)
