"""What hypeman does in the middle of a deletion, one case at a time: when it comes, what it is told, what is left."""

from collections.abc import Callable

import pytest

from support.builders import DATA, state_of
from support.hypeman_lookup import CONTENT, DISK, IMAGES
from support.meetings import Meeting, Played, Span, play, span_of
from support.scenes import (
    APP,
    BASE,
    CI,
    DUE,
    NEW,
    OTHER,
    Host,
    older,
    promoted,
    scene_of,
    shared,
    single,
)
from support.small_hosts import OLD_TIMER, Scene, World
from support.witness import TRASH

DIGEST = f"sha256:{DUE}"
EITHER_LAYOUT = pytest.mark.parametrize("host", [single, older, promoted], ids=lambda host: host.__name__)
IN_CONTENT = pytest.mark.parametrize("host", [shared, promoted], ids=lambda host: host.__name__)


# Moments of a deletion: each is a call that hmret is about to make.


def _renames(span: Span, folder: str) -> list[int]:
    begins = f"rename {DATA}/{folder}"
    return [number for number, call in enumerate(span.calls, 1) if call.startswith(begins)]


def scanned(span: Span) -> int:
    """Right before hmret looks at the references again, under the lock of what is due."""
    looks = [number for number, call in enumerate(span.calls, 1) if call.startswith(f"open {DATA}/guests")]
    return looks[1]


def retiring(span: Span) -> int:
    """Right before hmret renames the last folder of the unit out of the cache."""
    return max(number for number in _renames(span, IMAGES) if f"/{DUE} -> {TRASH}/" in span.calls[number - 1])


def retired(span: Span) -> int:
    """Right after that: no lookup finds the image any more; its links and its timers are still there."""
    return retiring(span) + 1


def links_taken(span: Span) -> int:
    """Right after the last link has been renamed from its place."""
    return max(_renames(span, IMAGES)) + 1


def erasing(span: Span) -> int:
    """Right before the first byte is erased: hmret has looked for new links for the last time."""
    names = ("metadata.json", "manifest.json", DISK)
    return next(
        number
        for number, call in enumerate(span.calls, 1)
        if call.startswith(f"unlink {TRASH}/") and call.endswith(names)
    )


Moment = Callable[[Span], int]
AFTER_THE_RENAME = pytest.mark.parametrize(
    "moment", [retired, links_taken], ids=lambda moment: moment.__name__
)


def meet(scene: Scene, span: Span, *, at: int, after: str = "", early: int = 0) -> Played:
    """Have hypeman come between hmret's scan and its second look, or early, until it is about to do `after`.

    It goes on before hmret's call `at`.
    """
    steps = ((early or scanned(span), span.steps_before(after)),) if after else ()
    played = play(scene, Meeting(early=steps, at=at))
    assert played.faults == []
    return played


def is_whole(played: Played, repository: str, *tags: str) -> bool:
    return all(played.left.boots(repository, reference) for reference in (*tags, DIGEST))


def is_gone(played: Played) -> bool:
    folders = (f"{CONTENT}/{DUE}", f"{IMAGES}/{APP}/{DUE}")
    return not played.left.tags_to(DUE) and not any(played.world.disk.exists(folder) for folder in folders)


def deleted(played: Played) -> int:
    assert played.report is not None
    return played.report.deleted_images


# An instance is created.


@EITHER_LAYOUT
def test_an_instance_that_has_opened_the_disk_before_the_rename_keeps_the_image(host: Host) -> None:
    scene = scene_of("an instance is created by tag", host)
    span = span_of(scene)
    played = meet(scene, span, at=span.end, after="make guests")
    assert str(played.outcome) == "done"
    assert is_whole(played, APP, "1")
    assert played.report is not None
    assert (played.report.deleted_images, played.report.open_images) == (0, 1)


@EITHER_LAYOUT
def test_an_instance_that_is_asked_for_after_the_rename_finds_no_image(host: Host) -> None:
    scene = scene_of("an instance is created by tag", host)
    span = span_of(scene)
    played = meet(scene, span, at=retired(span))
    assert str(played.outcome) == "not found"
    assert is_gone(played)
    assert deleted(played) == 1


# The digest is pulled.


@IN_CONTENT
def test_a_tag_that_a_pull_sets_before_hmret_looks_again_keeps_the_image(host: Host) -> None:
    scene = scene_of("the digest is pulled with keys of the caller", host)
    span = span_of(scene)
    played = meet(scene, span, at=scanned(span))
    assert is_whole(played, APP, "1", "mine")
    assert deleted(played) == 0


@IN_CONTENT
@AFTER_THE_RENAME
def test_a_pull_that_found_the_image_and_sets_its_tag_after_the_rename_brings_it_back(
    host: Host, moment: Moment
) -> None:
    scene = scene_of("the digest is pulled under another repository", host)
    span = span_of(scene)
    played = meet(scene, span, at=moment(span), after="make images/repositories")
    assert str(played.outcome) == "done"
    assert is_whole(played, CI, "mine")
    assert is_whole(played, APP, "1")
    # Its timers begin anew: the sweeps after it have started them.
    assert state_of(played.world.filesystem, (APP, DIGEST)) not in (None, OLD_TIMER)


@EITHER_LAYOUT
def test_a_tag_that_a_pull_sets_after_the_last_look_leads_nowhere_until_the_next_pull(host: Host) -> None:
    scene = scene_of("the digest is pulled under its own tag", host)
    span = span_of(scene)
    played = meet(scene, span, at=erasing(span), after="/.tag-stage")
    assert played.left.hex_of_tag(APP, "1") == DUE
    assert not played.left.boots(APP, "1")
    played.world.do(played.world.hypeman.pull(APP, "1", DUE))
    assert played.world.reading().boots(APP, "1")


@EITHER_LAYOUT
@AFTER_THE_RENAME
def test_a_pull_that_is_asked_for_after_the_rename_is_not_disturbed_and_inherits_no_timer(
    host: Host, moment: Moment
) -> None:
    scene = scene_of("the digest is pulled under its own tag", host)
    span = span_of(scene)
    played = meet(scene, span, at=moment(span))
    assert str(played.outcome) == "done"
    assert is_whole(played, APP, "1")
    assert state_of(played.world.filesystem, (APP, DIGEST)) not in (None, OLD_TIMER)


def test_a_fresh_pull_makes_the_tags_lead_somewhere_again_that_hmret_has_not_taken_yet() -> None:
    scene = scene_of("the digest is pulled under its own tag", shared)
    span = span_of(scene)
    played = meet(scene, span, at=retired(span))
    assert is_whole(played, BASE, "prod")


# A tag is set by the tag call, which writes the metadata last.


@EITHER_LAYOUT
@AFTER_THE_RENAME
def test_a_tag_call_that_read_before_the_rename_and_writes_after_it_gets_the_disk_back(
    host: Host, moment: Moment
) -> None:
    scene = scene_of("another tag is set in the repository", host)
    span = span_of(scene)
    played = meet(scene, span, at=moment(span), after="make images")
    assert str(played.outcome) == "done"
    assert is_whole(played, APP, "1", "mine")
    assert played.left.ghosts() == []


def test_a_tag_call_that_has_chosen_the_older_folder_gets_the_disk_back_there() -> None:
    scene = scene_of("another tag is set in the repository", older)
    span = span_of(scene)
    played = meet(scene, span, at=retired(span), after=f"make {IMAGES}/{APP}/{DUE}")
    assert is_whole(played, APP, "1", "mine")


@EITHER_LAYOUT
def test_a_tag_call_that_writes_after_the_last_look_leaves_half_an_image_for_a_minute(host: Host) -> None:
    scene = scene_of("another tag is set in the repository", host)
    span = span_of(scene)
    played = meet(scene, span, at=erasing(span), after="make images")
    assert played.left.ghosts() == [DUE]
    assert not played.world.disk.exists(f"{CONTENT}/{DUE}")
    played.world.do(played.world.hypeman.pull(APP, "mine", DUE))
    assert played.world.reading().boots(APP, "mine")


@IN_CONTENT
def test_a_tag_call_into_another_repository_fails_where_the_disk_has_gone(host: Host) -> None:
    scene = scene_of("a tag is set in another repository", host)
    span = span_of(scene)
    played = meet(scene, span, at=retired(span), after="act on what is in")
    assert str(played.outcome) == "failed: no such file"
    assert is_gone(played)


# A promotion.


PROMOTIONS = pytest.mark.parametrize("asked_for", ["the image is promoted", "a server of August promotes"])


@PROMOTIONS
def test_a_promotion_that_is_about_to_link_the_disk_when_it_goes_fails_and_the_older_image_comes_back(
    asked_for: str,
) -> None:
    scene = scene_of(asked_for, older)
    span = span_of(scene)
    read, linking = span.steps_before(f"promote {IMAGES}"), span.steps_before(f"link {CONTENT}/{DUE}/{DISK}")
    early = (scanned(span), read), (retiring(span), linking)
    played = play(scene, Meeting(early=early, at=retired(span)))
    assert played.faults == []
    assert played.outcome is not None
    assert played.outcome.kind == "failed"
    assert is_whole(played, APP, "1")
    metadata = played.left.metadata(f"{CONTENT}/{DUE}")
    assert metadata is not None
    assert metadata["status"] == "converting"


@PROMOTIONS
def test_a_promotion_that_has_linked_the_disk_before_the_rename_loses_nothing(asked_for: str) -> None:
    scene = scene_of(asked_for, older)
    span = span_of(scene)
    read, linked = (
        span.steps_before(f"promote {IMAGES}"),
        span.steps_before(f"link {CONTENT}/{DUE}/{DISK}") + 1,
    )
    played = play(scene, Meeting(early=((scanned(span), read), (retiring(span), linked)), at=retired(span)))
    assert played.faults == []
    assert str(played.outcome) == "done"
    assert is_whole(played, APP, "1")


@PROMOTIONS
def test_a_promotion_that_has_begun_before_hmret_looks_again_keeps_the_older_image(asked_for: str) -> None:
    scene = scene_of(asked_for, older)
    span = span_of(scene)
    played = meet(scene, span, at=span.end, after=f"link {CONTENT}/{DUE}/{DISK}")
    assert deleted(played) == 0
    assert str(played.outcome) == "done"
    assert is_whole(played, APP, "1")


# The tag moves.


@EITHER_LAYOUT
@AFTER_THE_RENAME
def test_a_tag_that_a_pull_has_moved_since_the_rename_is_not_touched(host: Host, moment: Moment) -> None:
    scene = scene_of("a pull moves the tag to a new image", host)
    span = span_of(scene)
    played = meet(scene, span, at=moment(span))
    assert played.left.hex_of_tag(APP, "1") == NEW
    assert played.left.boots(APP, "1")
    assert not played.left.boots(APP, DIGEST)


def test_a_tag_call_that_moves_the_tag_before_the_rename_deletes_the_image_by_itself() -> None:
    scene = scene_of("the tag is moved to another image", single)
    span = span_of(scene)
    played = meet(scene, span, at=scanned(span))
    assert str(played.outcome) == "done"
    assert deleted(played) == 0
    assert played.left.hex_of_tag(APP, "1") == OTHER
    assert is_gone(played)


@AFTER_THE_RENAME
def test_a_tag_call_that_moves_the_tag_after_the_rename_finds_nothing_more_to_delete(moment: Moment) -> None:
    scene = scene_of("the tag is moved to another image", single)
    span = span_of(scene)
    played = meet(scene, span, at=moment(span))
    assert str(played.outcome) == "done"
    assert played.left.hex_of_tag(APP, "1") == OTHER
    assert is_gone(played)


# hypeman deletes.


@EITHER_LAYOUT
def test_an_image_that_hypeman_has_deleted_by_half_is_left_to_it(host: Host) -> None:
    scene = scene_of("hypeman deletes the digest", host)
    span = span_of(scene)
    half = next(step for step in span.steps if step.startswith("unlink") and step.endswith(f"{DUE}/{DISK}"))
    played = meet(scene, span, at=span.end, after=half)
    assert str(played.outcome) == "done"
    assert deleted(played) == 0
    assert is_gone(played)


@EITHER_LAYOUT
@AFTER_THE_RENAME
def test_a_deletion_of_hypemans_within_that_of_hmret_leaves_nothing(host: Host, moment: Moment) -> None:
    scene = scene_of("hypeman deletes the digest", host)
    span = span_of(scene)
    played = meet(scene, span, at=moment(span), after="unlink")
    assert str(played.outcome) == "done"
    assert is_gone(played)


def test_another_repository_keeps_the_image_that_hypeman_has_untied_from_the_first() -> None:
    scene = scene_of("hypeman deletes the digest", shared)
    span = span_of(scene)
    played = meet(scene, span, at=scanned(span))
    assert deleted(played) == 0
    assert played.left.boots(BASE, "prod")
    assert played.left.hex_of_tag(APP, "1") is None


# hypeman starts.


def half_pulled(world: World) -> None:
    """An older image that is due, and its digest in content, where a stop of the server has cut off a pull."""
    hypeman = world.hypeman
    world.do(hypeman.pull_as_older_server(APP, "1", DUE))
    world.age([(APP, DUE)])
    for step in hypeman.pull(BASE, "prod", DUE):
        if step.endswith("rootfs.erofs.tmp-build-1"):
            return


def test_nothing_goes_while_hypeman_goes_on_with_a_pull_of_the_digest() -> None:
    scene = Scene(
        name="a pull is taken up again",
        build=half_pulled,
        call=lambda hypeman: hypeman.resume(f"{CONTENT}/{DUE}"),
        due=DUE,
        units=((APP,),),
        touches=frozenset({(BASE, "prod")}),
        must_succeed=True,
    )
    world = World()
    scene.build(world)
    steps = list(scene.call(world.hypeman))
    last_of_metadata = max(number for number, step in enumerate(steps, 1) if step.endswith("/metadata.json"))
    for first in range(len(steps) + 1):
        played = play(scene, Meeting(early=((1, first),)))
        assert played.faults == []
        assert is_whole(played, APP, "1")
        assert is_whole(played, BASE, "prod")
        # When the content is ready the older folder may go: its tag leads to the content.
        assert deleted(played) == (first > last_of_metadata)
