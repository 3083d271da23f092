"""Checks by which answers of the fleet's store are not taken for more than they say, taken away one at a time."""

from mutations.mutation import NEVER, Become, Mutation, Swap, edit

__all__ = ["GATEWAY_MUTATIONS"]

GATEWAY = ("tests/fleet/test_gateway.py",)

GATEWAY_MUTATIONS: tuple[Mutation, ...] = (
    edit("send a write again that may have been carried out", "write-is-sent-once", NEVER, GATEWAY),
    edit(
        "take every error of the store for a refusal",
        "only-refusals-are-definite",
        Become("if True:\n    return Failure(endpoint, text, is_definite=True)"),
        GATEWAY,
    ),
    edit(
        "believe another cluster",
        "another-cluster-is-not-believed",
        Swap("answer.cluster_id != before.cluster_id", "False"),
        GATEWAY,
    ),
    edit(
        "believe a store that was restored",
        "older-revision-is-not-believed",
        Swap("answer.revision < before.revision", "False"),
        GATEWAY,
    ),
)
