"""Loading settings in tests, and what it complains of."""

from collections.abc import Callable
from typing import Any

import pytest

from hmret.model.errors import ConfigError
from hmret.settings.load import Settings

Load = Callable[..., Settings]


def complaint(load: Load, *args: Any, **keywords: Any) -> str:
    """What loading complains of, with the folder of the config file left out."""
    with pytest.raises(ConfigError) as caught:
        load(*args, **keywords)
    message = str(caught.value)
    assert message.isprintable()
    before, name, after = message.partition("config.yaml")
    return name + after if name else before


def changed(loaded: Settings) -> dict[str, tuple[object, str]]:
    """The settings that are not defaults."""
    return {
        key: (setting.value, setting.source)
        for key, setting in loaded.values.items()
        if setting.source != "default"
    }
