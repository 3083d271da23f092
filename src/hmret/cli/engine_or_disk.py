"""Runs an operation in the running engine if there is one, otherwise in this process."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from hmret.api.wire.convert import document_of
from hmret.api.wire.structs import Document
from hmret.cli.backend import run_on, until_interrupted
from hmret.cli.client import Engine, find_engine, say_who_answers
from hmret.cli.parsing.options import Common
from hmret.model.policy.config import RetentionConfig
from hmret.model.values import frozen

D = TypeVar("D", bound=Document)
T = TypeVar("T")


@frozen
class Asked:
    """A request to a running engine."""

    method: str
    path: str
    body: Mapping[str, object] | None = None
    parameters: Mapping[str, str] | None = None


def ask_or_do(
    common: Common,
    asked: Asked,
    kind: type[D],
    work: Callable[[RetentionConfig], Awaitable[object]],
    config: RetentionConfig | None = None,
) -> D:
    """Run an operation in the running engine and say so, otherwise in this process; returns the document.

    `config`: the settings; None: those that the options name are loaded.

    Raises:
        HmretError: the engine or the work failed.
    """
    if config is None:
        config = common.settings().config
    engine = answering_engine(common, config)
    if engine is not None:
        document = engine.ask(asked.method, asked.path, body=asked.body, parameters=asked.parameters)
        return engine.read_as(kind, document)
    return document_of(kind, do_here(common, config, partial(work, config)))


def answering_engine(common: Common, config: RetentionConfig) -> Engine | None:
    """Find the engine of a data directory, and say that it answers; None: there is none.

    Raises:
        HmretError: it cannot be reached.
    """
    engine = find_engine(config, common.timeout_seconds)
    if engine is not None:
        say_who_answers(engine, common)
    return engine


def do_here(common: Common, config: RetentionConfig, work: Callable[[], Awaitable[T]]) -> T:
    """Run an operation in this process, until SIGINT or SIGTERM.

    Raises:
        HmretError: the work failed.
        Interrupted: it was interrupted.
    """
    with common.logging():
        return run_on(common.backend, config.data_dir, partial(until_interrupted, work))
