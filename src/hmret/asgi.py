"""The control API for embedders: an ASGI application over an open engine, to be mounted in a server of their own."""

from hmret.api.app import make_app

__all__ = ["make_app"]
