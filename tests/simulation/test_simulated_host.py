"""What the simulated host itself must do for its seeds to mean anything."""

import errno
import random

import pytest

from hmret.disk.layout import METADATA, hex_of
from hmret.model.policy.config import RetentionConfig
from hmret.model.references import Key
from simulation.chronicle import Breach, Chronicle
from simulation.clocks import VirtualClock
from simulation.guests import Guests
from simulation.landmarks import ASIDE, DATA, DISK, Pulled, Tag, Work, content_of, path_of, repository_of
from simulation.mishaps import Mishaps
from simulation.today import TodayHypeman
from simulation.truth import Truth
from simulation.volumes import Absence
from support.memory_filesystem import Call, MemoryFilesystem

TAG = ("repositories/docker.io/library/alpine", "latest")


class StandingClock:
    """The time of a loop that does not run."""

    @staticmethod
    def current_time() -> float:
        return 0.0


@pytest.fixture
def truth() -> Truth:
    clock = VirtualClock(StandingClock())  # type: ignore[arg-type] # of a clock only its time is asked
    truth = Truth(RetentionConfig(data_dir=DATA), clock, Chronicle(0, clock.true_ns))
    truth.filesystem = MemoryFilesystem(clock.now_ns, order=random.Random(0))
    for folder in ("images", "guests", "snapshots", "system/image-retention"):
        truth.filesystem.make_folder(f"{DATA}/{folder}")
    return truth


def finish(work: Work) -> None:
    for _ in work:
        pass


def with_guest(truth: Truth) -> Guests:
    rng = random.Random(0)
    server = TodayHypeman(truth, rng, 1.0, is_mixed=False)
    finish(server.pull(("docker.io/library/alpine", f"sha256:{'a' * 64}"), "latest"))
    guests = Guests(truth, rng, is_today=True)
    finish(guests.create(TAG))
    assert len(truth.needs) == 1
    return guests


def names(truth: Truth) -> list[str]:
    return [path for path in truth.filesystem.tree(f"{DATA}/guests") if path != f"{DATA}/guests"]


def test_a_guest_whose_deletion_was_cut_off_is_gone_in_the_end(truth: Truth) -> None:
    guests = with_guest(truth)
    next(guests.delete())
    assert names(truth) == [f"{DATA}/guests/vm-1"]
    guests.leave(everything=False)
    assert names(truth) == []


def test_guests_that_are_there_in_the_end_stay_as_they_are(truth: Truth) -> None:
    guests = with_guest(truth)
    before = names(truth)
    guests.leave(everything=False)
    assert names(truth) == before == [f"{DATA}/guests/vm-1", f"{DATA}/guests/vm-1/metadata.json"]


def test_what_goes_away_is_chosen_without_a_call_of_the_engine(truth: Truth) -> None:
    def fail(call: Call) -> None:
        raise OSError(errno.EIO, call.name)

    truth.filesystem.before = fail
    chosen = [Absence.choose(random.Random(seed), truth.filesystem) for seed in range(20)]
    # Nothing is on record, so nothing but the data directory could be missed.
    assert {one.folder for one in chosen if one is not None} == {""}
    assert None in chosen


@pytest.mark.parametrize("is_replaced", [True, False])
@pytest.mark.parametrize("folder", ["", "images"])
def test_what_was_away_is_in_its_place_after_every_loss_of_power(
    truth: Truth, folder: str, is_replaced: bool
) -> None:
    disk = truth.filesystem
    disk.mkdir(f"{DATA}/images/before")
    absence = Absence(disk, folder, is_replaced)
    absence.begin()
    gone = disk.after_power_loss(random.Random(0))
    assert gone.exists(f"{ASIDE}/{'' if folder else 'images'}".rstrip("/"))
    if is_replaced:
        # What an engine makes in the empty folder goes with it.
        disk.mkdir(f"{DATA}/{folder}/in-vain".replace("//", "/"))
    absence.end()
    disk.mkdir(f"{DATA}/images/after")
    left = [disk.after_power_loss(random.Random(seed)).tree("/") for seed in range(20)]
    assert all(f"{DATA}/images" in tree and ASIDE not in tree for tree in left)
    # What an engine has not made durable is at risk as before.
    for name in ("before", "after"):
        assert {f"{DATA}/images/{name}" in tree for tree in left} == {True, False}


def made_tag(truth: Truth, tag: Tag, digest: str) -> None:
    """Have hypeman link a tag in its layout."""
    truth.filesystem.make_link(f"{DATA}/images/{tag[0]}/{tag[1]}", f"../{hex_of(digest)}")
    truth.chronicle.tick()
    truth.link(tag, digest)


def made_image(truth: Truth, key: Key) -> Pulled:
    """Have hypeman make an image that is whole."""
    for name in (METADATA, DISK):
        truth.filesystem.write_file(f"{path_of(key)}/{name}", b"{}")
    image = truth.begin_pull(key)
    image.files |= {METADATA, DISK}
    image.status = "ready"
    image.ready_at = truth.chronicle.tick()
    return image


def moved(truth: Truth, image: Pulled, target: str) -> None:
    """Have hmret rename an image, and the truth see it."""
    call = Call("rename", f"{image.path} -> {target}", 0)
    truth.judge(call)
    truth.filesystem.move(image.path, target)
    truth.settle()


@pytest.mark.parametrize("has_moved_on", [True, False])
@pytest.mark.parametrize("comes_back", ["not", "set aside", "made again"])
def test_a_tag_that_an_older_server_has_set_while_its_content_was_away_need_not_come_back(
    truth: Truth, comes_back: str, has_moved_on: bool
) -> None:
    first, second = (f"sha256:{letter * 64}" for letter in "ab")
    content = made_image(truth, content_of(first))
    made_tag(truth, TAG, first)
    older = repository_of(TAG), TAG[1]
    path, trash = f"{DATA}/images/{TAG[0]}/{TAG[1]}", f"{DATA}/system/hmret/trash"
    truth.filesystem.make_folder(trash)
    moved(truth, content, f"{trash}/1.0.0")
    truth.filesystem.move(path, f"{trash}/1.0.tag0")
    now = second if has_moved_on else first
    made_image(truth, (older[0], now))
    made_tag(truth, older, now)
    if comes_back == "not":
        truth.filesystem.remove(f"{trash}/1.0.tag0")
    elif comes_back == "made again":
        truth.filesystem.move(f"{trash}/1.0.tag0", path)
    moved(truth, content, path_of(content.key))
    is_older = comes_back == "not"
    assert truth.resolve(*older) == ((now, truth.tags[older][1]) if is_older else truth.tags[TAG])
    assert (TAG in truth.tags, older in truth.tags) == (not is_older, is_older)
    truth.check_images()


def test_a_tag_whose_name_nobody_has_used_must_come_back_with_its_content(truth: Truth) -> None:
    digest = f"sha256:{'a' * 64}"
    content = made_image(truth, content_of(digest))
    made_tag(truth, TAG, digest)
    truth.filesystem.make_folder(f"{DATA}/system/hmret/trash")
    moved(truth, content, f"{DATA}/system/hmret/trash/1.0.0")
    truth.filesystem.remove(f"{DATA}/images/{TAG[0]}/{TAG[1]}")
    moved(truth, content, path_of(content.key))
    with pytest.raises(Breach, match="lost the tag"):
        truth.check_images()


def test_what_one_life_was_asked_to_do_with_images_that_go_ends_with_it(truth: Truth) -> None:
    gone: list[Key] = []
    truth.on_gone = gone.append
    truth.begin_life()
    truth.on_gone(("docker.io/library/alpine", f"sha256:{'a' * 64}"))
    assert gone == []


@pytest.mark.parametrize("is_timer", [True, False])
def test_a_timer_that_was_spoilt_is_known(truth: Truth, is_timer: bool) -> None:
    record = "image-retention/docker.io/x.json" if is_timer else "hmret/clock.json"
    truth.filesystem.write_file(f"{DATA}/system/{record}", b"{}")
    finish(Mishaps(truth, random.Random(0), {}, 1.0).corrupt())
    assert truth.has_spoilt_timers is is_timer
