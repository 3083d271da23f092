"""The demonstration: a small cache with a pretend hypervisor host on it, time sped up, and the real engine."""

import signal

__all__ = ["main"]


def main(
    as_json: bool = False, *, keep: str | None = None, serve: str | None = None, day_seconds: float = 0.4
) -> int:
    """Show images come, go and be protected; returns the exit code: 0 when all went as told, else 1.

    Prints a line for what matters as it happens, then what became of all images; with `as_json` nothing but one JSON
    document at the end. `keep` names a folder that is not there or empty: the cache is made in it, and stays. `serve` is
    the `host:port` at which the page shows it all, also after the end, until SIGINT. `day_seconds` is how long a pretend day
    takes, in real seconds. At SIGINT it cleans up and returns 130.
    """
    try:
        from hmret.cli.demo.running import run  # noqa: PLC0415 - loaded for this command alone

        return run(as_json=as_json, keep=keep, serve=serve, day_seconds=day_seconds)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
