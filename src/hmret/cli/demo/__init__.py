"""The demonstration: the real engine on a small cache, with a simulated hypervisor host and accelerated time."""

import signal

__all__ = ["main"]


def main(
    as_json: bool = False, *, keep: str | None = None, serve: str | None = None, day_seconds: float = 0.4
) -> int:
    """Show images come, go and be protected; returns the exit code: 0 if everything went as expected, else 1.

    Prints a line for each important event, then what became of all images; with `as_json`, only one JSON
    document at the end. `keep` is a folder, missing or empty, in which the cache is created and kept. `serve`
    is the `host:port` at which the web page is served, until SIGINT even after the end. `day_seconds` is the
    length of a simulated day, in real seconds. At SIGINT it cleans up and returns 130.
    """
    try:
        from hmret.cli.demo.running import run  # noqa: PLC0415 - only needed for this command

        return run(as_json=as_json, keep=keep, serve=serve, day_seconds=day_seconds)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
