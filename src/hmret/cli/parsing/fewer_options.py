"""The common options of commands to which some of them do not apply."""

from typing import Annotated

from cyclopts import Parameter

from hmret.cli.display.logs import LogLevel
from hmret.cli.parsing.options import FLAG, TIMEOUT, Backend, Common
from hmret.model.values import frozen

# An option that a command does not support is rejected: the user must have expected an effect.
_NoFlag = Annotated[bool | None, Parameter(parse=False)]
_NoText = Annotated[str | None, Parameter(parse=False)]
_NoTexts = Annotated[list[str] | None, Parameter(parse=False)]
_NoBackend = Annotated[Backend, Parameter(parse=False)]
_NoLogLevel = Annotated[LogLevel | None, Parameter(parse=False)]
_NoTimeout = Annotated[str, Parameter(parse=False)]


@Parameter(name="*", negative=())
@frozen(kw_only=True)
class WithoutPolicy(Common):
    """The options of a command that does not depend on the deletion policy."""

    enable: _NoFlag = None
    unused_for: _NoText = None
    allow: _NoTexts = None


@Parameter(name="*", negative=())
@frozen(kw_only=True)
class Asking(WithoutPolicy):
    """The options of a command that only queries the running engine."""

    backend: _NoBackend = "asyncio"
    log_level: _NoLogLevel = None


@Parameter(name="*", negative=())
@frozen(kw_only=True)
class Checking(Common):
    """The options of a command that only reads the settings."""

    backend: _NoBackend = "asyncio"
    timeout: _NoTimeout = TIMEOUT
    log_level: _NoLogLevel = None


@Parameter(name="*", negative=())
@frozen(kw_only=True)
class Running(Common):
    """The options of a command that is an engine."""

    json: Annotated[bool, FLAG, Parameter(help="Print a fatal error as one JSON document.")] = False
    timeout: _NoTimeout = TIMEOUT


WITHOUT_POLICY = WithoutPolicy()
"""No options given."""
ASKING = Asking()
CHECKING = Checking()
RUNNING = Running()
