"""What was built or pushed on this host: by where hypeman keeps it, and by the records of its builds."""

import random

import attrs
import pytest

from hmret.model.origins import Builds, Origins
from hmret.model.plan.decide import plan
from hmret.model.plan.repository_inputs import built_in
from hmret.model.policy.compiled import Policy
from hmret.model.policy.config import RetentionConfig
from hmret.model.verdicts import Action, Reason
from model.inventories import (
    ALPINE,
    NOW,
    NOW_NS,
    A,
    B,
    C,
    D,
    guest,
    make_image,
    make_inventory,
    make_policy,
    make_repository,
)
from support.builders import digest

REGISTRY = "reg.example:5000"
OTHER = "ghcr.io/kernel/x"

# By its repository.


@pytest.mark.parametrize(
    "repository",
    [
        "docker.io/builds/x1",
        "10.102.0.1:8083/builds/x1",
        "ghcr.io/builds/anything",
        "docker.io/internal/builder",
        "10.102.0.1:8083/internal/builder",
        "reg.example/some/internal/builder",
        "localhost:8080/tool",
        "127.0.0.1/tool",
    ],
)
def test_what_hypeman_keeps_of_its_own_was_made_here_whatever_the_settings_say(repository: str) -> None:
    assert Origins().are_here(repository)
    assert Origins.of(REGISTRY, "ghcr.io/team/builder:1").are_here(repository)


@pytest.mark.parametrize(
    "repository",
    [
        "docker.io/library/builds",
        "docker.io/builds/x1/deeper",
        "docker.io/my/builds/x1",
        "docker.io/mybuilds/x1",
        "docker.io/internal/builder2",
        "docker.io/internal/builder/x",
        "docker.io/myinternal/builder",
        "10.102.0.1:8083/tool",
    ],
)
def test_what_only_resembles_that_was_not(repository: str) -> None:
    assert not Origins.of("localhost:8080", "").are_here(repository)


@pytest.mark.parametrize(
    "url",
    [
        REGISTRY,
        f"http://{REGISTRY}",
        f"https://{REGISTRY}/",
        f"HTTPS://{REGISTRY}/v2/",
        f"docker+http://{REGISTRY}",
        f"{REGISTRY}/prefix",
    ],
)
def test_what_was_pushed_into_hypemans_own_registry_was_made_here(url: str) -> None:
    origins = Origins.of(url, "")
    assert origins.registry == REGISTRY
    assert origins.are_here(f"{REGISTRY}/tool")
    assert origins.are_here(f"{REGISTRY}/team/deeper/tool")


@pytest.mark.parametrize(
    "repository", ["reg.example/tool", "reg.example:5001/tool", f"x{REGISTRY}/tool", f"docker.io/{REGISTRY}"]
)
def test_another_host_or_port_is_another_registry(repository: str) -> None:
    assert not Origins.of(REGISTRY, "").are_here(repository)


@pytest.mark.parametrize("repository", ["reg.example:5000/tool", "reg.example.com/tool", "reg.exampl/tool"])
def test_a_host_that_only_begins_alike_is_another_registry(repository: str) -> None:
    assert not Origins.of("reg.example", "").are_here(repository)


def test_without_a_registry_no_repository_is_of_it() -> None:
    assert not Origins.of("", "").are_here(ALPINE)


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("ghcr.io/team/builder:1", "ghcr.io/team/builder"),
        (f"ghcr.io/team/builder@{A}", "ghcr.io/team/builder"),
        ("builder", "docker.io/library/builder"),
        ("team/builder", "docker.io/team/builder"),
    ],
)
def test_the_image_in_which_hypeman_builds_was_made_here(image: str, repository: str) -> None:
    origins = Origins.of(REGISTRY, image)
    assert origins.are_here(repository)
    assert not origins.are_here(f"{repository}2")


def test_an_image_in_which_to_build_that_is_no_reference_names_no_repository() -> None:
    assert not Origins.of(REGISTRY, "No Reference").are_here(ALPINE)


# By the records of builds.


def test_what_a_record_names_by_its_digest_was_built_here_in_every_repository() -> None:
    builds = Builds.of([A], [])
    for name in (ALPINE, OTHER):
        assert built_in(make_repository(make_image(A), make_image(B), name=name), builds) == {A}
    assert built_in(make_repository(make_image(B)), builds) == set()


@pytest.mark.parametrize(
    "text", ["alpine", "alpine:latest", f"{ALPINE}:latest", "index.docker.io/library/alpine"]
)
def test_what_a_record_names_by_a_tag_was_built_here_where_the_tag_leads_to_it(text: str) -> None:
    builds = Builds.of([], [text])
    images = make_image(A), make_image(B)
    assert built_in(make_repository(*images, tags={"latest": A, "v1": B}), builds) == {A}
    assert built_in(make_repository(*images, tags={"latest": B}), builds) == {B}
    assert built_in(make_repository(*images, tags={"v1": A}), builds) == set()
    assert built_in(make_repository(*images, name=OTHER, tags={"latest": A}), builds) == set()


def test_a_tag_that_leads_to_nothing_makes_nothing_of_it() -> None:
    builds = Builds.of([], ["alpine"])
    assert built_in(make_repository(make_image(A), tags={"latest": B}), builds) == set()


def test_what_a_record_names_by_a_reference_with_a_digest_was_built_here_in_that_repository() -> None:
    builds = Builds.of([], [f"alpine:v1@{A}", f"{OTHER}@{B}"])
    images = make_image(A), make_image(B)
    assert built_in(make_repository(*images, tags={"v1": B}), builds) == {A}
    assert built_in(make_repository(*images, name=OTHER), builds) == {B}


@pytest.mark.parametrize("text", ["", "No Reference", "x.y/Upper", "x" * 300, "a:b:c"])
def test_what_is_no_reference_names_nothing_and_costs_the_others_nothing(text: str) -> None:
    assert Builds.of([], [text, "alpine"]) == Builds.of([], ["alpine"])


def test_all_that_records_name_adds_up() -> None:
    builds = Builds.of([A, A], ["alpine:v1", "alpine:v2", f"alpine@{D}", f"alpine@{D}"])
    images = make_repository(*map(make_image, (A, B, C, D)), tags={"v1": B, "v2": B, "v3": C})
    assert built_in(images, builds) == {A, B, D}


# What a plan makes of it.


NO_BUILDS, NO_ORIGINS = Builds(), Origins()


def decide(
    name: str, builds: Builds = NO_BUILDS, origins: Origins = NO_ORIGINS, pullable: bool | None = None
) -> Reason:
    image = make_image(A, pullable=pullable)
    inventory = make_inventory(make_repository(image, name=name, tags={"v1": A}), builds=builds)
    verdict = plan(inventory, make_policy(origins=origins), NOW).verdict(name, A)
    assert verdict is not None
    return verdict.reason


@pytest.mark.parametrize(
    "builds", [Builds.of([A], []), Builds.of([], ["alpine:v1"]), Builds.of([], [f"alpine@{A}"])]
)
def test_what_was_built_here_stays_unless_its_label_says_otherwise(builds: Builds) -> None:
    assert decide(ALPINE) is Reason.EXPIRED
    assert decide(ALPINE, builds) is Reason.NOT_PULLABLE
    assert decide(ALPINE, builds, pullable=True) is Reason.EXPIRED
    assert decide(ALPINE, pullable=False) is Reason.NOT_PULLABLE


def test_what_was_pushed_here_stays_unless_its_label_says_otherwise() -> None:
    origins = Origins.of(REGISTRY, "ghcr.io/team/builder")
    for name in (f"{REGISTRY}/tool", "ghcr.io/team/builder", "docker.io/builds/x1"):
        assert decide(name, origins=origins) is Reason.NOT_PULLABLE
        assert decide(name, origins=origins, pullable=True) is Reason.EXPIRED
    assert decide(f"{REGISTRY}/tool", origins=Origins.of("localhost:8080", "")) is Reason.EXPIRED


def test_what_was_built_here_may_go_where_the_operator_says_so() -> None:
    inventory = make_inventory(make_repository(make_image(A)), builds=Builds.of([A], []))
    found = plan(inventory, make_policy(keeps_unpullable=False), NOW)
    assert [one.action for one in found.verdicts] == [Action.DELETE]


def test_it_is_told_so_within_its_window_too() -> None:
    states = {(ALPINE, A): NOW_NS, (ALPINE, B): NOW_NS}
    repository = make_repository(make_image(A), make_image(B))
    found = plan(make_inventory(repository, states=states, builds=Builds.of([A], [])), make_policy(), NOW)
    assert found.clears == (((ALPINE, A), Reason.NOT_PULLABLE),)


def test_a_record_is_no_reference() -> None:
    inventory = make_inventory(
        make_repository(make_image(A)),
        builds=Builds.of([A, B], ["alpine:gone", f"alpine@{A}"]),
        references=[guest(f"alpine@{A}")],
    )
    found = plan(inventory, make_policy(keeps_unpullable=False), NOW)
    assert (found.protected_images, found.stale_references) == (1, ())
    assert found.verdicts[0].referenced_by == ("instance/vm",)


def test_a_record_that_comes_or_goes_is_told_by_a_plan_that_builds_upon_another() -> None:
    inventory = make_inventory(make_repository(make_image(A)))
    built = attrs.evolve(inventory, builds=Builds.of([A], []))
    first = plan(inventory, make_policy(), NOW)
    second = plan(built, make_policy(), NOW, first)
    third = plan(inventory, make_policy(), NOW, second)
    assert [one.verdicts[0].reason for one in (first, second, third)] == [
        Reason.EXPIRED,
        Reason.NOT_PULLABLE,
        Reason.EXPIRED,
    ]


@pytest.mark.parametrize("seed", range(20))
def test_few_records_and_many_come_to_what_they_name_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    some = [digest(letter) for letter in "0123456789abcdef"]
    images = map(make_image, rng.sample(some, rng.randrange(len(some))))
    repository = make_repository(*images, tags={tag: rng.choice(some) for tag in "xyz"})
    digests = rng.sample(some, rng.randrange(len(some)))
    tags = [rng.choice("wxyz") for _ in range(rng.randrange(3))]
    pinned = rng.sample(some, rng.randrange(5))
    builds = Builds.of(digests, [*(f"alpine:{tag}" for tag in tags), *(f"alpine@{one}" for one in pinned)])
    assert built_in(repository, builds) == {
        one
        for one in repository.images
        if one in digests or one in pinned or any(repository.tags.get(tag) == one for tag in tags)
    }


def test_a_policy_takes_registry_and_builder_from_its_settings() -> None:
    config = RetentionConfig(registry_url=f"http://{REGISTRY}", builder_image=f"{OTHER}:v3")
    assert Policy.of(config).origins == Origins(REGISTRY, OTHER)
