"""What is read from hypeman's files, whatever stands in them, and what is written as Go writes it."""

import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from hmret.disk.hypeman.documents import (
    UnreadableError,
    encode_state,
    read_guest,
    read_image_metadata,
    read_snapshot,
    read_state,
)
from hmret.model.references import Reference
from hmret.model.times import SECOND, parse_time

FIXTURE = Path(__file__).parents[2] / "fixtures" / "hypeman-data.tar.gz"
ALPINE = "docker.io/library/alpine"
DIGEST = f"sha256:{'a' * 64}"
PINNED = f"{ALPINE}@{DIGEST}"
BUSYBOX = f"docker.io/library/busybox@{DIGEST}"
BOM = b"\xef\xbb\xbf"


def guest(text: str) -> tuple[Reference, ...]:
    return read_guest(text.encode(), "instance/vm")


def images(text: str) -> list[str]:
    return [reference.image for reference in guest(text)]


def resolved(text: str) -> list[str]:
    return [reference.resolved_image for reference in guest(text)]


# Guests.


def test_a_guest_has_what_its_metadata_states() -> None:
    text = json.dumps(
        {
            "Id": "vm",
            "Image": "alpine",
            "ResolvedImage": PINNED,
            "CreatedAt": "2026-03-26T12:00:00.123456789Z",
        }
    )
    created_at = datetime(2026, 3, 26, 12, 0, 0, 123456, tzinfo=UTC)
    assert guest(text) == (Reference("instance/vm", "alpine", PINNED, created_at),)


@pytest.mark.parametrize("key", ["Image", "image", "IMAGE", "iMaGe", "\\u0049mage", "Im\\u0061ge"])
def test_a_key_counts_in_any_case_and_with_any_escapes(key: str) -> None:
    assert images(f'{{"{key}": "alpine"}}') == ["alpine"]


@pytest.mark.parametrize(
    "key", ["Re\u017folvedImage", "re\\u017folvedimage", "RESOLVEDIMAGE", "resolvedImage"]
)
def test_a_long_s_is_an_s_in_a_key_as_it_is_for_go(key: str) -> None:
    assert resolved(f'{{"{key}": "{PINNED}"}}') == [PINNED]


@pytest.mark.parametrize(
    "key", ["Images", "Imag", " Image", "Image ", "\u212amage", "\u0130mage", "", "Im\\u0000age"]
)
def test_a_key_that_go_would_not_match_is_somebody_elses(key: str) -> None:
    assert guest(f'{{"{key}": 5, "x\\u212a": []}}') == ()


def test_both_spellings_of_a_key_protect() -> None:
    assert images(f'{{"Image": "alpine", "image": "{BUSYBOX}"}}') == ["alpine", BUSYBOX]


@pytest.mark.parametrize("second", ["null", '""'])
def test_a_key_that_stands_twice_protects_with_each_value(second: str) -> None:
    assert images(f'{{"Image": "alpine", "Image": {second}}}') == ["alpine"]
    assert images('{"Image": "alpine", "Image": "busybox"}') == ["alpine", "busybox"]


def test_each_image_goes_with_each_resolved_one() -> None:
    found = guest(
        f'{{"Image": "alpine", "image": "busybox", "ResolvedImage": "{PINNED}", "resolvedimage": "{BUSYBOX}"}}'
    )
    assert [(one.image, one.resolved_image) for one in found] == [
        ("alpine", PINNED),
        ("alpine", BUSYBOX),
        ("busybox", PINNED),
        ("busybox", BUSYBOX),
    ]


def test_several_resolved_images_without_an_image_all_protect() -> None:
    assert resolved(f'{{"ResolvedImage": "{PINNED}", "resolvedimage": "{BUSYBOX}"}}') == [PINNED, BUSYBOX]


def test_a_resolved_image_protects_alone() -> None:
    assert guest(f'{{"ResolvedImage": "{PINNED}"}}') == (Reference("instance/vm", "", PINNED),)


@pytest.mark.parametrize(
    "text", ["{}", '{"Image": null}', '{"Image": ""}', '{"Image": "", "ResolvedImage": null}']
)
def test_a_guest_that_names_no_image_has_no_reference(text: str) -> None:
    assert guest(text) == ()


@pytest.mark.parametrize("value", ["5", "true", "[]", "{}", '["alpine"]', "1e400"])
@pytest.mark.parametrize("key", ["Image", "resolvedimage"])
def test_an_image_that_is_no_text_is_unreadable(key: str, value: str) -> None:
    with pytest.raises(UnreadableError, match=rf"^{key} is not a string$"):
        guest(f'{{"{key}": {value}}}')


@pytest.mark.parametrize("value", ["NOT A REFERENCE", "a" * 64, "-", "alpine@sha256:short"])
def test_an_image_that_is_no_reference_is_unreadable(value: str) -> None:
    with pytest.raises(UnreadableError, match=r"^Image: "):
        guest(json.dumps({"Image": value}))


@pytest.mark.parametrize(
    "text", ["", " ", "null", "[]", "5", '"x"', "{", '{"Image"}', "{}{}", "{},", "nul", "{'a': 1}"]
)
def test_what_is_no_object_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableError):
        guest(text)


@pytest.mark.parametrize(
    "content",
    [
        BOM + b'{"Image": "alpine"}',
        '{"Image": "alpine"}'.encode("utf-16"),
        b'{"Image": "\xff"}',
        b'{"\xff": 1}',
    ],
)
def test_what_is_no_plain_utf8_is_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_guest(content, "instance/vm")


def test_whatever_else_is_in_the_file_does_not_matter() -> None:
    deep = "[" * 500 + "]" * 500
    assert images(f'{{"x": {deep}, "Image": "alpine", "y": {{"Image": 5}}, "z": 1e999, "Name": null}}') == [
        "alpine"
    ]


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_nesting_that_is_too_deep_is_unreadable_and_nothing_worse(depth: int) -> None:
    # What is too deep the interpreter says: since 3.14 what its stack does not hold, which ten thousand may be or not.
    try:
        found = images(f'{{"x": {"[" * depth}{"]" * depth}, "Image": "alpine"}}')
    except UnreadableError:
        return
    assert (found, depth) == (["alpine"], 10_000)


def test_a_huge_file_is_read() -> None:
    assert images(f'{{"x": "{"y" * 5_000_000}", "Image": "alpine"}}') == ["alpine"]


def test_a_file_cut_off_at_any_byte_is_unreadable() -> None:
    content = json.dumps(
        {
            "Id": "vm",
            "Image": "alpine",
            "ResolvedImage": PINNED,
            "CreatedAt": "2026-03-26T12:00:00Z",
            "x": [1, {}],
        },
        indent=2,
    ).encode()
    for length in range(len(content)):
        with pytest.raises(UnreadableError):
            read_guest(content[:length], "instance/vm")


def test_the_rest_of_a_longer_version_behind_a_shorter_one_is_unreadable() -> None:
    with pytest.raises(UnreadableError):
        guest('{"Image": "alpine"}, "Name": "long"}')


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_content_is_worse_than_unreadable(content: bytes) -> None:
    for read in (read_guest, read_snapshot):
        try:
            read(content, "x")
        except UnreadableError:
            continue
    for text in (content, b'{"created_at": ' + content + b"}"):
        try:
            assert read_image_metadata(text).created_ns is None or text
            read_state(text, ALPINE, DIGEST)
        except UnreadableError:
            continue


# When a guest was made.


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-26T12:00:00Z", datetime(2026, 3, 26, 12, tzinfo=UTC)),
        ("2026-03-26T14:00:00+02:00", datetime(2026, 3, 26, 12, tzinfo=UTC)),
        ("2026-03-26T12:00:00.5Z", datetime(2026, 3, 26, 12, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_the_time_of_a_guest_is_read_in_any_zone(text: str, moment: datetime) -> None:
    (reference,) = guest(json.dumps({"Image": "alpine", "createdAt": text}))
    assert reference.created_at == moment
    assert reference.created_at is not None
    assert reference.created_at.utcoffset() is not None


@pytest.mark.parametrize(
    "value", [None, "", "0001-01-01T00:00:00Z", "2026-03-26T12:00:00", "soon", 5, [], {}, True]
)
def test_a_time_that_is_not_set_or_unreadable_is_absent(value: object) -> None:
    assert guest(json.dumps({"Image": "alpine", "CreatedAt": value})) == (Reference("instance/vm", "alpine"),)


# Snapshots.


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"Name": "web-1", "Image": "alpine"}', "web-1"),
        ('{"Image": "alpine"}', ""),
        ('{"Name": null, "Image": "alpine"}', ""),
        ('{"Name": 7, "Image": "alpine"}', ""),
        ('{"Name": ["x"], "Image": "alpine", "Env": {"Name": "other"}}', ""),
        ('{"NAME": "web-1", "IMAGE": "alpine"}', "web-1"),
        ('{"Name": "\\u00e9", "Image": "alpine"}', "\u00e9"),
        (f'{{"Name": "{"x" * 300}", "Image": "alpine"}}', "x" * 255),
    ],
)
def test_a_guest_has_its_name_and_whatever_is_wrong_with_it_does_not_matter(text: str, name: str) -> None:
    (reference,) = guest(text)
    assert (reference.image, reference.name) == ("alpine", name)
    (reference,) = read_snapshot(f'{{"stored_metadata": {text}}}'.encode(), "snapshot/s")
    assert (reference.image, reference.name) == ("alpine", name)


def test_a_snapshot_refers_to_what_the_guest_it_stores_refers_to() -> None:
    content = json.dumps({"snapshot": {"id": "s"}, "stored_metadata": {"Image": "alpine"}}).encode()
    assert read_snapshot(content, "snapshot/s") == (Reference("snapshot/s", "alpine"),)


@pytest.mark.parametrize(
    "text",
    ["{}", '{"stored_metadata": null}', '{"stored_metadata":\n null }', '{"snapshot": {"Image": "alpine"}}'],
)
def test_a_snapshot_may_store_no_guest(text: str) -> None:
    assert read_snapshot(text.encode(), "snapshot/s") == ()


def test_each_spelling_of_the_guest_that_a_snapshot_stores_protects() -> None:
    text = '{"STORED_METADATA": {"Image": "alpine"}, "\u017ftored_metadata": {"image": "busybox"}, "stored_metadata": null}'
    assert [one.image for one in read_snapshot(text.encode(), "s")] == ["alpine", "busybox"]


@pytest.mark.parametrize("value", ["5", "[]", '"alpine"', '{"Image": 5}', "{"])
def test_a_snapshot_whose_guest_is_unreadable_is_unreadable(value: str) -> None:
    with pytest.raises(UnreadableError):
        read_snapshot(f'{{"stored_metadata": {value}}}'.encode(), "s")


# Images.


def test_an_image_has_what_its_metadata_states() -> None:
    found = read_image_metadata(
        b'{"name": "n", "digest": "d", "status": "ready", "size_bytes": 12, "created_at": "1970-01-01T00:00:01Z", "x": []}'
    )
    assert (found.name, found.digest, found.status, found.size_bytes, found.created_ns) == (
        "n",
        "d",
        "ready",
        12,
        SECOND,
    )


def test_metadata_without_anything_states_nothing() -> None:
    found = read_image_metadata(b"{}")
    assert (found.name, found.digest, found.status, found.size_bytes, found.created_ns) == (
        "",
        "",
        "",
        0,
        None,
    )


@pytest.mark.parametrize("value", ["null", "[]", "{}", "true", "1.5"])
def test_a_field_of_another_type_counts_as_absent(value: str) -> None:
    keys = ("name", "digest", "status", "size_bytes", "created_at")
    found = read_image_metadata(("{" + ", ".join(f'"{key}": {value}' for key in keys) + "}").encode())
    assert (found.name, found.digest, found.status, found.size_bytes, found.created_ns) == (
        "",
        "",
        "",
        0,
        None,
    )
    assert found.size_bytes is not True


def test_a_field_of_another_type_does_not_cost_the_others_theirs() -> None:
    found = read_image_metadata(b'{"name": "n", "digest": 5, "size_bytes": "7"}')
    assert (found.name, found.digest, found.status, found.size_bytes, found.created_ns) == (
        "n",
        "",
        "",
        0,
        None,
    )


@pytest.mark.parametrize("text", ["", "null", "[]", "{", '{"name": "\\ud800"}', f'{{"x": {"[" * 100_000}'])
def test_metadata_that_is_no_object_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableError):
        read_image_metadata(text.encode())


# States.


def state(since: object, **fields: object) -> bytes:
    return json.dumps({"repository": ALPINE, "digest": DIGEST, "unused_since": since, **fields}).encode()


@pytest.mark.parametrize(
    ("text", "pullable"),
    [
        ("{}", None),
        ('{"labels": null}', None),
        ('{"build_id": "e2df7169-6791-47c2-b70d-d9aea17cbc2e"}', None),
        ('{"labels": {"io.hmret.pullable": "false"}}', False),
        ('{"labels": {"io.hmret.pullable": "true"}, "build_id": "b-7"}', True),
        ('{"labels": {"io.hmret.pullable": "True"}}', True),
        ('{"labels": {"io.hmret.pullable": "no idea"}}', False),
        ('{"labels": {"io.hmret.pullable": null, "maintainer": "x"}}', None),
        ('{"labels": {"io.hmret.pullable": 7}, "build_id": "b-7"}', None),
        ('{"labels": ["io.hmret.pullable"]}', None),
    ],
)
def test_an_image_says_whether_it_can_be_pulled_again(text: str, pullable: bool | None) -> None:
    assert read_image_metadata(text.encode()).pullable is pullable


def test_a_state_is_read_to_the_nanosecond() -> None:
    assert read_state(state("1970-01-01T00:00:00.000000001Z"), ALPINE, DIGEST) == 1


@pytest.mark.parametrize("since", [None, "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z"])
def test_a_state_that_is_not_set_is_none(since: str | None) -> None:
    assert read_state(state(since), ALPINE, DIGEST) is None


def test_a_state_without_a_time_is_not_set() -> None:
    content = json.dumps({"repository": ALPINE, "digest": DIGEST, "more": 1}).encode()
    assert read_state(content, ALPINE, DIGEST) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        BOM + state(None),
        state(5),
        state("yesterday"),
        state(None)[:-1],
        state(None, repository="docker.io/library/busybox"),
        state(None, digest=f"sha256:{'b' * 64}"),
        state(None, repository=None),
    ],
)
def test_a_state_that_does_not_parse_or_names_another_image_is_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_state(content, ALPINE, DIGEST)


@pytest.mark.parametrize(
    ("since", "rest"),
    [
        ('2026-03-26T12:00:00Z", "digest": "sha256:other', ""),
        ('2026-03-26T12:00:00Z",\n  "repository": "docker.io/library/busybox', ""),
        ("2026-03-26T12:00:00Z", "}"),
        ("2026-03-26T25:00:00Z", ""),
        ("2026-03-26T12:60:00Z", ""),
        ("2026-03-26T12:00:00.Z", ""),
        ("2026-03-26T12:00:00.12\u0663Z", ""),
        ("2026-03-26 12:00:00Z", ""),
    ],
)
def test_a_state_that_only_begins_as_it_is_written_is_unreadable(since: str, rest: str) -> None:
    usual = encode_state(ALPINE, DIGEST, parse_time("2026-03-26T12:00:00Z")).decode()
    content = usual.replace("2026-03-26T12:00:00Z", since) + rest
    with pytest.raises(UnreadableError):
        read_state(content.encode(), ALPINE, DIGEST)


def test_a_state_whose_time_is_written_otherwise_is_read_all_the_same() -> None:
    usual = encode_state(ALPINE, DIGEST, parse_time("2026-03-26T12:00:00Z")).decode()
    for since in ("2026-03-26T13:00:00+01:00", "2026-03-26T12:00:00.000Z", r"2026-03-26T12:00:00\u005a"):
        content = usual.replace("2026-03-26T12:00:00Z", since).encode()
        assert read_state(content, ALPINE, DIGEST) == parse_time("2026-03-26T12:00:00Z")


def test_a_state_is_written_as_go_writes_it() -> None:
    """Bytes from a file that hypeman wrote, whose time has no digits to drop."""
    seen = 0
    with tarfile.open(FIXTURE) as archive:
        for member in archive:
            if "after" not in member.name or "image-retention" not in member.name or not member.isfile():
                continue
            file = archive.extractfile(member)
            assert file is not None
            content = file.read()
            document = json.loads(content)
            key = document["repository"], document["digest"]
            since_ns = read_state(content, *key)
            assert since_ns is not None
            if encode_state(*key, since_ns) == content:
                seen += 1
            else:
                assert (
                    encode_state(*key, since_ns).split(b'"unused_since')[0]
                    == content.split(b'"unused_since')[0]
                )
    assert seen > 0


def test_a_state_that_is_written_is_read_again() -> None:
    since_ns = parse_time("2026-03-26T12:00:00.123456789Z")
    content = encode_state(ALPINE, DIGEST, since_ns)
    assert read_state(content, ALPINE, DIGEST) == since_ns
    assert content == (
        b'{\n  "repository": "docker.io/library/alpine",\n  "digest": "' + DIGEST.encode() + b'",\n'
        b'  "unused_since": "2026-03-26T12:00:00.123456789Z"\n}'
    )
