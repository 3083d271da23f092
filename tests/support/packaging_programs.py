"""The programs of packaging/, which are no package, as modules."""

import importlib.util
import sys
import types
from pathlib import Path

__all__ = ["PACKAGING", "load"]

PACKAGING = Path(__file__).parents[2] / "packaging"


def load(name: str) -> types.ModuleType:
    """Load a program by its name; what it imports beside itself is found."""
    spec = importlib.util.spec_from_file_location(name, PACKAGING / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(PACKAGING))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(PACKAGING))
    return module
