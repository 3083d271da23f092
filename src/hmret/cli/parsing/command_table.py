"""The commands by name, and the text of the program's help: what is known before any command is loaded."""

from collections.abc import Mapping

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": (
        "hmret.cli.service.run:run",
        """Sweep in the background until SIGTERM or SIGINT.

        On a stop signal the current image is finished first. SIGHUP reloads the settings. Serves the control
        socket, and metrics and a read-only API on hmret.metrics_listen. If retention is disabled, it says so
        and serves everything
        without sweeping.""",
    ),
    "status": (
        "hmret.cli.commands.status:status",
        """Show the status of the running engine.

        Exit code 1: no engine is running, or deletion is suspended.""",
    ),
    "sweep": (
        "hmret.cli.commands.sweep:sweep",
        """Sweep once, and show what was deleted.

        On a terminal it asks for confirmation if it would delete any image. When it returns, the disk space has been freed, except
        for images that went into quarantine. If retention is disabled, nothing is touched. Without a running
        engine, a sweep is refused if the patterns allow no image in the cache while timers are running, since
        all timers would stop. If it is interrupted, it finishes the current image and says how many are deleted.

        Exit code 1: something failed, or deletion is suspended.""",
    ),
    "plan": (
        "hmret.cli.commands.plan:plan",
        """Show what a sweep would do, now or at another time, without doing it.

        Lists the images that would be deleted and those whose timers would stop or start; the rest are only
        counted. With --config, a running engine compares those settings with its own. Works even if retention
        is disabled.

        Exit code 1: deletion is suspended. 4, with --detailed-exitcode: something would be deleted.""",
    ),
    "images": (
        "hmret.cli.commands.images:images",
        """List every image with its size, its last use, when it expires and why, and what needs it.

        Exit code 1: deletion is suspended.""",
    ),
    "du": (
        "hmret.cli.commands.du:du",
        """Show the disk usage of the images, by repository and by reason, and how full their disk is.""",
    ),
    "forecast": (
        "hmret.cli.commands.forecast:forecast",
        """Show which images expire on each of the coming days if nothing is used or pulled until then.

        With --config, the forecast is made under those settings, without asking a running engine.""",
    ),
    "explain": (
        "hmret.cli.commands.explain:explain",
        """Explain why an image is kept or deleted, and until when it is kept.

        Lists every reason that applies. Exit code 1: the image is not in the cache.""",
    ),
    "mark-used": (
        "hmret.cli.commands.mark_used:mark_used",
        """Mark an image as used: it is kept for at least its window from now.

        Works even if retention is disabled. Exit code 1: the image is not in the cache, not ready or broken.""",
    ),
    "confirm": (
        "hmret.cli.commands.confirm:confirm",
        """Confirm that the present state is correct, after lost folders or a clock jump suspended deletion.

        Accepts the guests, snapshots or image folders that are reported as lost, and the clock. If there are
        several, name those that are correct. Exit code 0 even if there is nothing to confirm.""",
    ),
    "restore": (
        "hmret.cli.commands.quarantine:restore",
        """Restore a deleted image from quarantine, with those of its tags not taken since, for a full window.

        Works even if retention is disabled. Exit code 1: the image is not in quarantine, or already in the cache.""",
    ),
    "quarantine": (
        "hmret.cli.commands.quarantine:quarantine",
        """List the deleted images that can be restored, and until when.""",
    ),
    "lease": (
        "hmret.cli.commands.leases:lease",
        """Protect an image from deletion for a while, across restarts too.

        Requires a running engine. Exit code 1: there is none, or the image is not in the cache, not ready or broken.""",
    ),
    "leases": (
        "hmret.cli.commands.leases:leases",
        """List the leases in force.

        Requires a running engine. Exit code 1: there is none.""",
    ),
    "unlease": (
        "hmret.cli.commands.leases:unlease",
        """End a lease.

        Requires a running engine. Exit code 1: there is none, or no such lease exists.""",
    ),
    "events": (
        "hmret.cli.commands.events:events",
        """Show the running engine's recent events and, with --follow, new ones.

        Exit code 1: no engine is running.""",
    ),
    "check-config": (
        "hmret.cli.commands.check_config:check_config",
        """Show every setting and where it came from, and warn about probable mistakes.""",
    ),
    "unit": (
        "hmret.cli.commands.unit:unit",
        """Print the systemd unit that runs this installation.""",
    ),
    "fleet": (
        "",
        """Work with the fleet: many hosts that agree through etcd on how many copies of each image to keep.

        Requires hmret.fleet.endpoints. Exit code 1: etcd does not answer, it has no such fleet, or the host
        or image is unknown.""",
    ),
    "demo": (
        "hmret.cli.commands.demo:demo",
        """Show images being pulled, protected and deleted, in a small cache of its own.

        With --fleet, it runs three hosts with an etcd of their own. Exit code 1: etcd is not installed.""",
    ),
    "completion": (
        "hmret.cli.commands.completion:completion",
        """Print a shell's completion script for commands, options and their values.

        bash: save it as /etc/bash_completion.d/hmret.

        fish: save it as /etc/fish/completions/hmret.fish.

        zsh: save it under the required name _cyclopts_hmret in a folder of $fpath.""",
    ),
}
"""The module of each command, imported only when called, and its help; no module: a group of commands."""

GROUPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "fleet": {
        "init": (
            "hmret.cli.commands.fleet.changing:init",
            """Create the fleet in etcd, once, before its first host joins.

            Exit code 1: the fleet exists already.""",
        ),
        "reset": (
            "hmret.cli.commands.fleet.changing:reset",
            """Start a new generation of the fleet, after etcd was restored from a backup.

            Settings, a pause and drains are carried over; hosts register their copies again. Do this before hosts
            reach the restored etcd. Exit code 1: there is no such fleet.""",
        ),
        "status": (
            "hmret.cli.commands.fleet.asking:status",
            """Show the hosts of the fleet, its settings, and the state of etcd.

            Exit code 1: this host has not joined the fleet.""",
        ),
        "holdings": (
            "hmret.cli.commands.fleet.asking:holdings",
            """Show which hosts hold a copy of an image, which of them count, and when it was last used anywhere.

            Exit code 1: no host holds it.""",
        ),
        "plan": (
            "hmret.cli.commands.fleet.asking:plan",
            """Show what the hosts would delete, the fleet's budget, and what has expired on this host.""",
        ),
        "set": (
            "hmret.cli.commands.fleet.changing:set_setting",
            """Change a setting of the whole fleet.

            KEY is min_copies (0 to 40), budget (a share such as 5%, or a number of copies), tokens (1 to 100),
            canary or forget_after (durations; 0s: off).""",
        ),
        "pause": (
            "hmret.cli.commands.fleet.changing:pause",
            """Pause deletion on all hosts of the fleet.

            When it returns, no host deletes any further image.""",
        ),
        "resume": (
            "hmret.cli.commands.fleet.changing:resume",
            """Resume deletion after a pause.""",
        ),
        "drain": (
            "hmret.cli.commands.fleet.changing:drain",
            """Stop counting the copies on a host that is to be emptied or removed.

            Lists the images of which too few copies would be left without it. HOST is a host's name or one of
            its holders, as status shows them. Exit code 1: no such host.""",
        ),
        "undrain": (
            "hmret.cli.commands.fleet.changing:undrain",
            """Count the copies on a drained host again.

            Exit code 1: no such host.""",
        ),
        "forget": (
            "hmret.cli.commands.fleet.changing:forget",
            """Remove a host that is gone for good from the fleet.

            A host that was only away joins again, and registers what it holds. Exit code 1: no such host.""",
        ),
    },
}
"""The commands of each group, in the same form."""

HELP = """Delete images that have been unused for a long time, and never one that is needed.

A command's options may also precede it. An image is named by a reference (alpine:3.20), by 12 or more digits
of its digest, or by the VM that runs from it.

If an engine is running on the data directory, sweep, plan, images, du, forecast, explain, mark-used, confirm,
restore, quarantine and fleet ask it. With --enable, --unused-for or --allow, sweep, plan, images, du, forecast and
explain do not ask it.

Exit codes: 0 done; 1 something failed or is suspended; 2 bad usage or config; 3 another engine holds the data
directory; 4 plan --detailed-exitcode, and something would be deleted; 130 or 143 interrupted, by SIGINT or SIGTERM.
"""
"""The help of the whole program."""

# Common options, by whether they take a value; duplicated here so that help does not import their types.
WITH_VALUE = (
    "--config",
    "--data-dir",
    "--unused-for",
    "--allow",
    "--backend",
    "--timeout",
    "--log-format",
    "--log-level",
)
WITHOUT_VALUE = ("--enable", "--json")
HELP_FLAGS = ("--help", "-h")
VERSION_FLAGS = ("--version", "-V")


def in_paragraphs(text: str) -> str:
    """Join each paragraph of a help text into one line, for the caller to wrap."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
