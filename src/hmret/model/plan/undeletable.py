"""An inventory that takes into account which images cannot be deleted."""

from collections.abc import Mapping

import attrs
import msgspec

from hmret.model.images import Image, Inventory, Key
from hmret.model.obstacles import Obstacle
from hmret.model.plan.selection import Choice

__all__ = ["with_obstacles"]


def with_obstacles(inventory: Inventory, obstacles: Mapping[Choice, Obstacle]) -> Inventory:
    """Return an inventory with obstacles to the deletion of images that are due.

    Images that hold something else count as broken, those at which hypeman is at work as not ready; all
    others are not tried.
    """
    repositories = dict(inventory.repositories)
    refused: dict[Key, Obstacle] = dict(inventory.obstacles)
    for choice, obstacle in obstacles.items():
        for name, digest in choice.keys:
            if not (obstacle.is_broken or obstacle.will_pass):
                refused[name, digest] = obstacle
                continue
            repository = repositories[name]
            images = {**repository.images, digest: _marked(repository.images[digest], obstacle)}
            repositories[name] = msgspec.structs.replace(repository, images=images)
    return attrs.evolve(
        inventory,
        repositories=repositories,
        obstacles=refused,
        backing_off=inventory.backing_off | refused.keys(),
    )


def _marked(image: Image, obstacle: Obstacle) -> Image:
    if obstacle.will_pass:
        return image.kept_for(making=obstacle.detail)
    return image.kept_for(foreign=obstacle.detail)
