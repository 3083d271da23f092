"""Checks of the fleet keeper, taken away one at a time."""

from mutations.mutation import ALWAYS, DROP, NEVER, Become, Mutation, Swap, edit

__all__ = ["KEEPER_MUTATIONS"]

JOINING = ("tests/actors/fleet/test_joining.py",)
RELEASING = ("tests/actors/fleet/test_releasing.py",)
SWEEPS = ("tests/engine/test_fleet_sweeps.py",)
TOKENS = ("tests/actors/fleet/test_tokens.py",)
USES = ("tests/actors/fleet/test_use_reports.py",)

_NOT_ON_RECORD = Become('mark = "0123456789abcdef"')

KEEPER_MUTATIONS: tuple[Mutation, ...] = (
    edit("count as two holders for a while", "former-holder-ends-first", ALWAYS, JOINING),
    edit("join with a mark that is on no record", "mark-is-on-record-first", _NOT_ON_RECORD, JOINING),
    edit("believe a store whose revisions went back", "revision-below-seen-is-a-restore", NEVER, JOINING),
    edit("believe that a host was forgotten as a whole", "forgotten-copies-are-doubted", DROP, JOINING),
    edit("forget that an answer has shown a restore", "restore-once-shown-is-remembered", DROP, JOINING),
    edit("go on with a store whose revisions went back", "went-back-ends-session", NEVER, JOINING),
    edit("go on without a lease", "lease-over-ends-session", DROP, JOINING),
    edit("count before it is known what is here", "live-after-reconciling", DROP, JOINING),
    edit("say joined without any answer", "no-contact-is-unreachable", NEVER, JOINING),
    edit("count after a stop", "stop-ends-session", DROP, JOINING),
    edit("go on after an unknown outcome", "unknown-outcome-ends-session", NEVER, JOINING),
    edit("register what is on no record", "record-before-registering", Swap(", copies)", ")"), JOINING),
    edit(
        "register what was released since the survey",
        "register-only-what-is-here",
        Become("copies = dict.fromkeys(digests, 4096)"),
        RELEASING,
    ),
    edit("release before a host counts", "release-in-live-session", Swap("joined", "session"), RELEASING),
    edit(
        "release what is not put on record", "release-is-on-record-first", Swap(", before)", ")"), RELEASING
    ),
    edit("go on after a release of which nothing is known", "unknown-release-is-none", DROP, RELEASING),
    edit("release without a token", "no-token-no-release", NEVER, TOKENS),
    edit("release more than a token is good for", "token-is-used-up", Become("part = chosen"), TOKENS),
    edit("use a token that is no more", "no-more-tokens-than-set", NEVER, TOKENS),
    edit(
        "use a token as it was good when it was taken",
        "smaller-budget-counts-at-once",
        Swap("min(self.allowance, settings.releases_per_token(self.copies))", "self.allowance"),
        TOKENS,
    ),
    edit(
        "use the token of an earlier policy",
        "token-of-present-policy",
        Swap(" or token.policy != self.policy", ""),
        TOKENS,
    ),
    edit("release under a policy that is not told", "fleet-knows-the-policy-first", DROP, SWEEPS),
    edit(
        "tell uses of the future",
        "no-use-in-the-future",
        Swap("min(self._waiting[digest], now)", "self._waiting[digest]"),
        USES,
    ),
)
