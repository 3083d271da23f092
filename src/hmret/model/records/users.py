"""What is remembered of those who needed an image last."""

from collections.abc import Mapping

import msgspec

__all__ = ["UsersRecord"]


class UsersRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Those who referred to an image when last anyone did; of very many, some."""

    repository: str
    digest: str
    referenced_by: tuple[str, ...]
    """`instance/ID`, `snapshot/ID` or an embedder's own names."""
    vm_names: Mapping[str, str]
    """The names of those that have one."""

    @property
    def facts(self) -> Mapping[str, object]:
        """The same as it is logged."""
        named = {"vm_names": dict(self.vm_names)} if self.vm_names else {}
        return {"last_referenced_by": list(self.referenced_by), **named}
