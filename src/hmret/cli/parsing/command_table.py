"""The commands by name, and the text of the program's help: what is known before any command is loaded."""

from collections.abc import Mapping

__all__ = ["COMMANDS", "HELP", "HELP_FLAGS", "VERSION_FLAGS", "WITHOUT_VALUE", "WITH_VALUE", "in_paragraphs"]

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": (
        "hmret.cli.service.run:run",
        """Sweep in the background until SIGTERM or SIGINT.

        The image in hand is finished first. SIGHUP reads the settings again. Serves the control socket, and what can
        only be looked at on hmret.metrics_listen. Where retention is disabled it says so, sweeps nothing, and serves all else.""",
    ),
    "status": (
        "hmret.cli.commands.status:status",
        """Show the status of the running engine.

        Exit code 1: no engine runs, or deletion is suspended.""",
    ),
    "sweep": (
        "hmret.cli.commands.sweep:sweep",
        """Sweep once, and show what was deleted.

        At a terminal it asks before anything is deleted. The bytes are free when this ends, but for what goes into
        quarantine. Where retention is disabled nothing is touched. Without a running engine, patterns that allow nothing
        that is here, while timers run, are refused: all of those would stop.

        Exit code 1: something failed, or deletion is suspended.""",
    ),
    "plan": (
        "hmret.cli.commands.plan:plan",
        """Show what a sweep would do, now or at another time; change nothing.

        Lists what would be deleted and whose timers would stop or start; the rest is counted. Given --config, a running
        engine tells what that would change of what its own settings would do. Works where retention is disabled, too.

        Exit code 1: deletion is suspended. 4, with --detailed-exitcode: something would be deleted.""",
    ),
    "images": (
        "hmret.cli.commands.images:images",
        """List every image: its size, last use, when it falls due, why, and who needs it.

        Exit code 1: deletion is suspended.""",
    ),
    "du": (
        "hmret.cli.commands.du:du",
        """Show how many bytes the images occupy, by repository and by reason, and how full their disk is.""",
    ),
    "forecast": (
        "hmret.cli.commands.forecast:forecast",
        """Show what falls due on each of the next days, if nothing is used or pulled until then; change nothing.

        Given --config, it works by itself, by those settings.""",
    ),
    "explain": (
        "hmret.cli.commands.explain:explain",
        """Explain why one image goes or stays, and until when; change nothing.

        Names every reason that holds. Exit code 1: the image is not here.""",
    ),
    "mark-used": (
        "hmret.cli.commands.mark_used:mark_used",
        """Mark an image used: it stays for at least its window from now.

        Works where retention is disabled, too. Exit code 1: the image is not here, not ready or broken.""",
    ),
    "confirm": (
        "hmret.cli.commands.confirm:confirm",
        """Confirm that what is there now is right, where a volume that is not mounted or the clock suspends deletion.

        Takes over guests, snapshots or folders of images that are told as lost, and clock. With several, name those that
        are right. Exit code 0, also where there is nothing to confirm.""",
    ),
    "restore": (
        "hmret.cli.commands.quarantine:restore",
        """Bring a deleted image back from quarantine, with those of its tags that are free, for a full window.

        Works where retention is disabled, too. Exit code 1: the image is not in quarantine, or here already.""",
    ),
    "quarantine": (
        "hmret.cli.commands.quarantine:quarantine",
        """List the deleted images that can be brought back, and until when; change nothing.""",
    ),
    "lease": (
        "hmret.cli.commands.leases:lease",
        """Keep an image from deletion for a while, over restarts too.

        Asks the running engine. Exit code 1: none runs, or the image is not here, not ready or broken.""",
    ),
    "leases": (
        "hmret.cli.commands.leases:leases",
        """List the leases that were granted.

        Asks the running engine. Exit code 1: none runs.""",
    ),
    "unlease": (
        "hmret.cli.commands.leases:unlease",
        """End a lease.

        Asks the running engine. Exit code 1: none runs, or there is no such lease.""",
    ),
    "events": (
        "hmret.cli.commands.events:events",
        """Show what the running engine has done lately and, with --follow, does.

        Exit code 1: no engine runs.""",
    ),
    "check-config": (
        "hmret.cli.commands.check_config:check_config",
        """Show every setting and where it came from, and warn of what is probably not meant.""",
    ),
    "unit": (
        "hmret.cli.commands.unit:unit",
        """Print the systemd unit that runs this very installation.""",
    ),
    "demo": (
        "hmret.cli.commands.demo:demo",
        """Show images come, go and be protected, on a small cache of its own.""",
    ),
    "completion": (
        "hmret.cli.commands.completion:completion",
        """Print the script that lets a shell complete commands, options and their values.

        bash: put it into /etc/bash_completion.d/hmret.

        fish: into /etc/fish/completions/hmret.fish.

        zsh: into _cyclopts_hmret, a name that it needs, in a folder of $fpath.""",
    ),
}
"""The module of each command, imported only when called, and its help."""

HELP = """Delete images that nothing has used for long, and never what something needs.

Options of a command may also stand before it. An image is named by a reference (alpine:3.20), by 12 digits or more of its
digest, or by the VM that runs from it.

Where an engine runs on the data directory, sweep, plan, images, du, forecast, explain, mark-used, confirm, restore and
quarantine ask it. Given --enable, --unused-for or --allow, sweep, plan, images, du, forecast and explain work by themselves.

Exit codes: 0 done; 1 something failed or is suspended; 2 bad usage or config; 3 another engine has the data directory;
4 plan --detailed-exitcode, and something would be deleted.
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
