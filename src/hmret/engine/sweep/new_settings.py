"""Settings that are changed while a sweep runs."""

from hmret.model.policy.config import RetentionConfig
from hmret.model.values import define

__all__ = ["NewSettings"]


@define(eq=False)
class NewSettings:
    """Settings that a running sweep has not taken note of yet.

    They are set on the event loop; whether any wait may be asked from any thread.
    """

    _config: RetentionConfig | None = None

    @property
    def are_waiting(self) -> bool:
        """Whether settings were changed since the sweep last took note of them."""
        return self._config is not None

    @property
    def switch_off(self) -> bool:
        """Whether they say that nothing is swept."""
        return self._config is not None and not self._config.active

    def set(self, config: RetentionConfig) -> None:
        """Change the settings; of several changes the last one counts."""
        self._config = config

    def take(self) -> RetentionConfig | None:
        """Hand over the settings that were changed; None: none were."""
        config, self._config = self._config, None
        return config
