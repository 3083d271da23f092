"""The record of what last needed an image."""

from collections.abc import Mapping

import msgspec


class UsersRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The sources that referred to an image when it was last referenced; of very many, some."""

    repository: str
    digest: str
    referenced_by: tuple[str, ...]
    """`instance/ID`, `snapshot/ID` or an embedder's own names."""
    vm_names: Mapping[str, str] = {}
    """The display names of those that have one."""

    @property
    def facts(self) -> Mapping[str, object]:
        """The same, as the fields of a log line."""
        named = {"vm_names": dict(self.vm_names)} if self.vm_names else {}
        return {"last_referenced_by": list(self.referenced_by), **named}
