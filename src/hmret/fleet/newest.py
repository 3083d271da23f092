"""Notices that a store's revisions went back, which they do when it was restored from a backup."""

from hmret.fleet.store import Answer, RevisionWentBackError
from hmret.model.records.fleet import Seen


class Newest:
    """The newest of a store's answers so far."""

    def __init__(self, seen: Seen | None = None) -> None:
        self.seen = seen
        """None: no answer yet."""

    def believe(self, answer: Answer, before: Seen | None, endpoint: str) -> None:
        """Take an answer for the newest, if it is.

        Args:
            answer: what a member said.
            before: `seen` as it was when the request was sent. Answers to requests that ran at the same time
                overtake each other, so what was seen since says nothing.
            endpoint: who said it, for the message.

        Raises:
            RevisionWentBackError: the answer is older than that, or another cluster's.
        """
        # guard(another-cluster-is-not-believed): It counts copies that nobody has registered there since.
        if before is not None and answer.cluster_id != before.cluster_id:
            raise RevisionWentBackError(
                f"{endpoint}: this is etcd cluster {answer.cluster_id}, and it was {before.cluster_id}; if it was "
                "restored from a backup, run hmret fleet reset, else correct hmret.fleet.endpoints",
                is_another_cluster=True,
            )
        # guard(older-revision-is-not-believed): It counts copies again that were released since the backup.
        if before is not None and answer.revision < before.revision:
            raise RevisionWentBackError(
                f"{endpoint}: etcd's revision went back from {before.revision} to {answer.revision}, so it was "
                "restored from a backup; run hmret fleet reset",
                is_another_cluster=False,
            )
        seen = self.seen
        if seen is None or (answer.cluster_id == seen.cluster_id and answer.revision > seen.revision):
            self.seen = Seen(cluster_id=answer.cluster_id, revision=answer.revision)
