"""Runs an operation in the running engine if there is one, else in the command itself."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from hmret.api.wire.convert import document_of
from hmret.api.wire.structs import Document
from hmret.cli.backend import run_on, until_interrupted
from hmret.cli.client import find_engine, say_who_answers
from hmret.cli.parsing.options import Common
from hmret.model.policy.config import RetentionConfig
from hmret.model.values import frozen

__all__ = ["Asked", "ask_or_do"]

D = TypeVar("D", bound=Document)


@frozen
class Asked:
    """A request to a running engine."""

    method: str
    path: str
    body: Mapping[str, object] | None = None


def ask_or_do(
    common: Common,
    asked: Asked,
    kind: type[D],
    work: Callable[[RetentionConfig], Awaitable[object]],
) -> D:
    """Run an operation in the running engine and say so, else here; returns the resulting document.

    Raises:
        HmretError: the engine or the work failed.
    """
    config = common.settings().config
    engine = find_engine(config, common.timeout_seconds)
    if engine is not None:
        say_who_answers(engine, common)
        return engine.read_as(kind, engine.ask(asked.method, asked.path, body=asked.body))
    with common.logging():
        done = run_on(common.backend, config.data_dir, partial(until_interrupted, partial(work, config)))
    return document_of(kind, done)
