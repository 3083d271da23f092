"""Checks by which a plan keeps copies for the fleet, taken away one at a time."""

from mutations.mutation import NEVER, Become, Mutation, Swap, edit

__all__ = ["FLEET_PLAN_MUTATIONS"]

RULES = ("tests/model/test_fleet.py", "tests/model/plan/test_fleet_step.py")
STEP = ("tests/model/plan/test_fleet_step.py", "tests/model/plan/test_fleet_properties.py")
SWEEPS = ("tests/engine/test_fleet_sweeps.py",)

FLEET_PLAN_MUTATIONS: tuple[Mutation, ...] = (
    edit("let the last copy go", "fleet-keeps-last-copies", NEVER, RULES),
    edit("let go what is in use elsewhere", "fleet-keeps-hot-images", NEVER, RULES),
    edit(
        "delete beside another host that runs on a copy",
        "fleet-one-session-for-a-directory",
        Swap("FleetState.DUPLICATE_HOST", "FleetState.JOINING"),
        STEP,
    ),
    edit("delete without a session", "fleet-unreachable-keeps", NEVER, STEP),
    edit("delete while the fleet is paused", "fleet-pause-keeps", NEVER, STEP),
    edit(
        "let a full disk take last copies",
        "fleet-pressure-takes-copies",
        Swap("not (for_space and view.rules.yields_to_pressure)", "not for_space"),
        STEP,
    ),
    edit("delete without a token", "fleet-token-keeps", NEVER, STEP),
    edit("delete what nobody was asked about", "fleet-asks-before-deleting", Become("pass"), STEP),
    edit("let a full disk take the last of two", "fleet-last-for-space-stays", Become("return"), STEP),
    edit(
        "count a torn image as one that stays",
        "fleet-only-whole-units-stand",
        Swap("not is_whole(image) or ", ""),
        STEP,
    ),
    edit(
        "delete what was not released",
        "fleet-releases-before-deleting",
        Swap("outcome is None", "True"),
        SWEEPS,
    ),
    edit("leave what stays uncounted", "fleet-gives-back-what-stays", NEVER, SWEEPS),
    edit("delete after the fleet was paused", "fleet-stops-a-sweep", NEVER, SWEEPS),
    edit(
        "believe that another copy is still here",
        "fleet-looks-at-the-other-copy",
        Become("return True"),
        SWEEPS,
    ),
)
