"""`run`: the engine as a service, until it is stopped."""

from hmret.cli.engines import collect_from_now_on
from hmret.cli.parsing.fewer_options import RUNNING, Running
from hmret.model.errors import HmretError
from hmret.model.unavailable import UnavailableError


def run(*, common: Running = RUNNING) -> int:
    """Sweep in the background until SIGTERM or SIGINT; SIGHUP reloads the settings."""
    try:
        return _run(common)
    except UnavailableError as error:
        # The cause may be gone a moment later, so this must not exit like a configuration error: a retry may
        # succeed.
        raise HmretError(str(error)) from None


def _run(common: Running) -> int:
    settings = common.settings()
    # Invalid settings are reported before the server is imported.
    from hmret.cli.backend import run_on  # noqa: PLC0415
    from hmret.cli.service.serving import Service  # noqa: PLC0415

    collect_from_now_on()
    with common.logging("info"):
        run_on(common.backend, settings.config.data_dir, Service(settings, common.settings).run)
    return 0
