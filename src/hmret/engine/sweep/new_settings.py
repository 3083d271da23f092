"""Settings that are changed while a sweep runs."""

from hmret.model.policy.config import RetentionConfig
from hmret.model.values import define


@define(eq=False)
class NewSettings:
    """Settings that a running sweep has not applied yet.

    They are set on the event loop; whether any are waiting can be queried from any thread.
    """

    _config: RetentionConfig | None = None

    @property
    def are_waiting(self) -> bool:
        """Whether settings were changed since the sweep last applied any."""
        return self._config is not None

    @property
    def switch_off(self) -> bool:
        """Whether they switch sweeping off."""
        return self._config is not None and not self._config.active

    def set(self, config: RetentionConfig) -> None:
        """Store new settings; of several changes the last one counts."""
        self._config = config

    def take(self) -> RetentionConfig | None:
        """Return the new settings, once; None: there are none."""
        config, self._config = self._config, None
        return config
