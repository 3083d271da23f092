"""Whether an image can be pulled again."""

import pytest

from hmret.model.origins import is_local
from hmret.model.plan.decide import plan
from hmret.model.verdicts import Action, Reason
from model.inventories import (
    ALPINE,
    NOW,
    NOW_NS,
    A,
    B,
    make_image,
    make_inventory,
    make_policy,
    make_repository,
)

LOCAL = [
    "localhost/dev",
    "localhost:5000/team/app",
    "LOCALHOST:5000/app",
    "registry.localhost/app",
    "127.0.0.1:5000/app",
    "127.1.2.3/app",
    "0.0.0.0:5000/app",
    "[::1]:5000/app",
    "[::]/app",
    "[0:0:0:0:0:0:0:1]/app",
    "localhost.localdomain:5000/app",
    "ip6-localhost/app",
    "[::ffff:127.0.0.1]:5000/app",
    "[::ffff:7f00:1]/app",
    "0:5000/app",
]
ELSEWHERE = [
    "docker.io/library/alpine",
    "docker.io/localhost/app",
    "ghcr.io/kernel/x",
    "registry.local:5000/ci/build",
    "notlocalhost.example/app",
    "localhost.example/app",
    "10.0.0.1:5000/app",
    "1127.0.0.1/app",
    "[fd00::1]:5000/app",
    "[::ffff:10.0.0.1]/app",
    "0.example/app",
    "localhost.localdomain.example/app",
]


@pytest.mark.parametrize("repository", LOCAL)
def test_a_registry_on_this_host_is_local(repository: str) -> None:
    assert is_local(repository)


@pytest.mark.parametrize("repository", ELSEWHERE)
def test_every_other_registry_is_elsewhere(repository: str) -> None:
    assert not is_local(repository)


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("pullable", [True, False, None])
@pytest.mark.parametrize("name", ["localhost/dev", "ghcr.io/kernel/x"])
def test_the_metadata_counts_before_the_registry(name: str, pullable: bool | None, keeps: bool) -> None:
    inventory = make_inventory(make_repository(make_image(pullable=pullable), name=name))
    verdict = plan(inventory, make_policy(keeps_unpullable=keeps), NOW).verdict(name, A)
    assert verdict is not None
    stays = keeps and (name == "localhost/dev" if pullable is None else not pullable)
    assert (verdict.action, verdict.reason) == (
        (Action.CLEAR, Reason.NOT_PULLABLE) if stays else (Action.DELETE, Reason.EXPIRED)
    )


def test_what_cannot_be_pulled_again_says_so_in_its_window_too() -> None:
    images = make_image(A, pullable=False), make_image(B)
    states = {(ALPINE, image.digest): NOW_NS for image in images}
    found = plan(make_inventory(make_repository(*images), states=states), make_policy(), NOW)
    assert found.clears == (((ALPINE, A), Reason.NOT_PULLABLE),)
    assert found.reasons[Reason.NOT_PULLABLE] == found.reasons[Reason.RETENTION_WINDOW] == 1
