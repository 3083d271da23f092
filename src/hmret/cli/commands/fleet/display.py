"""How a fleet is shown to people."""

from collections import Counter
from collections.abc import Iterator, Sequence

from hmret.api.wire import structs_fleet as structs
from hmret.api.wire.structs import ImageDocument
from hmret.cli.display.columns import REPOSITORY, Column, format_columns, shorten_end
from hmret.cli.display.output import printable
from hmret.cli.display.tables import cut_to_minute, format_size, format_table, shorten_digest, terminal_digest
from hmret.cli.display.words import put_count
from hmret.model.verdicts import Action

_LIVE, _DEAD, _DRAINED = "live", "dead", "drained"
_STYLES = {_DEAD: "red", _DRAINED: "yellow", "delete": "red"}
_POLICY = 8  # digits of a fingerprint: enough to see which hosts have the same

_HOSTS = (
    Column(title="holder", worth=9, least=16, shorten=shorten_end),
    Column(title="state", worth=8),
    Column(title="copies", worth=7, is_right=True),
    Column(title="on disk", worth=6, is_right=True),
    Column(title="due", worth=6, is_right=True),
    Column(title="due 24h", worth=4, is_right=True),
    Column(title="last sweep", worth=5),
    Column(title="policy", worth=3),
    Column(title="version", worth=2),
)
_COPIES = (
    Column(title="holder", worth=9, least=16, shorten=shorten_end),
    Column(title="counted", worth=8),
    Column(title="since", worth=5),
    Column(title="on disk", worth=6, is_right=True),
)
_IMAGES = (
    Column(title="action", worth=7),
    REPOSITORY,
    Column(title="digest", worth=8),
    Column(title="reason", worth=6),
    Column(title="on disk", worth=5, is_right=True),
    Column(title="elsewhere", worth=4, is_right=True),
)


def tell_status(fleet: structs.FleetDocument) -> Iterator[str]:
    """Show a fleet: what all hosts share, then each host."""
    yield format_table([name, printable(text)] for name, text in _facts(fleet))
    if fleet.hosts:
        yield ""
        yield _hosts_table(fleet.hosts)


def tell_holdings(held: structs.FleetHoldingsDocument) -> Iterator[str]:
    """Show who holds an image."""
    used = "not known" if held.last_used is None else cut_to_minute(held.last_used)
    facts = [
        ["digest", held.digest],
        ["counted", f"{put_count(held.counted, 'copy', 'copies')}, {held.spare} to spare"],
        ["min_copies", str(held.min_copies)],
        ["last used", used],
    ]
    yield format_table(facts)
    if not held.holders:
        yield "no host holds it"
        return
    rows = [
        [
            f"{copy.holder} (here)" if copy.here else copy.holder,
            "yes" if copy.counted else f"no: {copy.not_counted}",
            cut_to_minute(copy.since),
            _size(copy.bytes),
        ]
        for copy in held.holders
    ]
    yield ""
    yield format_columns(_COPIES, rows)


def tell_plan(plan: structs.FleetPlanDocument) -> Iterator[str]:
    """Show what would go where."""
    yield f"budget: {plan.budget.taken} of {plan.budget.releases} releases are taken in this token period"
    if plan.braked:
        yield "no deletion token is free for this host: nothing goes here until one is"
    if plan.hosts:
        yield ""
        yield _hosts_table(plan.hosts)
    yield ""
    going = Counter(image.action for image in plan.images)[Action.DELETE]
    yield f"this host: {len(plan.images)} expired, {going} would be deleted"
    if plan.images:
        rows = list(map(_image_row, sorted(plan.images, key=lambda image: image.action is not Action.DELETE)))
        yield format_columns(_IMAGES, rows, styles=_STYLES)


def tell_drained(drained: structs.DrainDocument) -> Iterator[str]:
    """Show what is drained, and of which images too few copies would be left."""
    yield f"drained: {', '.join(drained.holders)}"
    if not drained.last_copies:
        yield "no last copy is there: it may be emptied"
        return
    rows = [[one.holder, terminal_digest(one.digest), _size(one.bytes)] for one in drained.last_copies]
    total = sum(one.bytes or 0 for one in drained.last_copies)
    counted = put_count(len(rows), "last copy", "last copies")
    yield f"{counted}, {format_size(total)}: pull these elsewhere before it is emptied"
    yield format_table(rows, titles=("holder", "digest", "on disk"), right=(2,))


def put_paused(settings: structs.FleetSettingsDocument) -> str:
    """Say whether deletions are paused, and by whom."""
    paused = settings.paused
    if paused is None:
        return "not paused"
    reason = f": {paused.reason}" if paused.reason else ""
    return printable(f"paused by {paused.by or 'somebody'} at {cut_to_minute(paused.at)}{reason}")


def _facts(fleet: structs.FleetDocument) -> Iterator[tuple[str, str]]:
    yield (
        "fleet",
        fleet.fleet if fleet.generation is None else f"{fleet.fleet}, generation {fleet.generation}",
    )
    yield "this host", f"{fleet.holder or fleet.host}: {fleet.state.value}"
    if fleet.detail is not None:
        yield "detail", fleet.detail
    if fleet.last_contact is not None:
        yield "last contact", cut_to_minute(fleet.last_contact)
    etcd = fleet.etcd
    if etcd.version is not None:
        quota = "" if etcd.quota_bytes is None else f" of {format_size(etcd.quota_bytes)}"
        yield "etcd", f"{etcd.version}, {_size(etcd.size_bytes)}{quota}"
    for alarm in etcd.alarms:
        yield "alarm", alarm
    for warning in etcd.warnings:
        yield "warning", warning
    settings = fleet.settings
    if settings is not None:
        shown = ("min_copies", "budget", "tokens", "canary", "forget_after")
        yield "settings", ", ".join(f"{name} {getattr(settings, name)}" for name in shown)
        yield "deletion", put_paused(settings)
        # If etcd did not answer, the settings are as last read; who has a token is known to etcd alone.
        is_known = fleet.generation is not None
        taken = f"{len(fleet.tokens_taken)} of {settings.tokens} taken"
        yield "tokens", taken if is_known else f"{settings.tokens}; how many are taken is not known"
    if fleet.hosts:
        states = Counter(map(_state, fleet.hosts))
        counts = ", ".join(f"{states[state]} {state}" for state in (_LIVE, _DEAD, _DRAINED) if states[state])
        yield "hosts", f"{len(fleet.hosts)}: {counts}"


def _hosts_table(hosts: Sequence[structs.FleetHostDocument]) -> str:
    rows = [
        [
            host.holder,
            _state(host),
            _count(host.copies),
            _size(host.bytes),
            _count(host.due),
            _count(host.due_24h),
            cut_to_minute(host.last_sweep),
            (host.policy or "-")[:_POLICY],
            host.version or "-",
        ]
        for host in hosts
    ]
    return format_columns(_HOSTS, rows, styles=_STYLES)


def _state(host: structs.FleetHostDocument) -> str:
    return _DEAD if not host.live else _LIVE if host.drained is None else _DRAINED


def _image_row(image: ImageDocument) -> list[str]:
    return [
        "delete" if image.action is Action.DELETE else "keep",
        image.repository,
        shorten_digest(image.digest),
        image.reason.value,
        format_size(image.disk_bytes),
        _count(image.copies_elsewhere),
    ]


def _count(count: int | None) -> str:
    return "-" if count is None else str(count)


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else format_size(size_bytes)
