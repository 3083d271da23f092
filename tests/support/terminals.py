"""Terminals for the programs of tests."""

import pty

import pytest

__all__ = ["open_terminal"]


def open_terminal() -> tuple[int, int]:
    """Open a terminal; returns our side and that of the program. Skips the test where this host has none to give."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be had here: {error}")
