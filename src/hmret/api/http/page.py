"""The web page: one self-contained file, and the content security policy that enforces it.

Its source is in parts, in `hmret/api/page/`; they are put together when the page is first asked for, so that
no build step can be forgotten and a browser still gets one file.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources

SCRIPTS = (
    "elements.js",
    "words.js",
    "numbers.js",
    "requests.js",
    "views.js",
    "summary.js",
    "chart.js",
    "image.js",
    "images.js",
    "disk.js",
    "history.js",
    "lists.js",
    "events.js",
    "start.js",
)
"""The parts of the page's script, in order: one may use at once only what stands above it."""

_STYLE = "<style>\n</style>"
_SCRIPT = "<script>\n</script>"


@cache
def load_page() -> tuple[bytes, Mapping[str, str]]:
    """Put the page together; returns it and the headers to send with it.

    The content security policy allows the page's own script and style, by their hashes, and requests to its
    own origin; nothing else, so that no name on a host can be executed as code.
    """
    style = "\n" + _part("style.css")
    script = '\n"use strict";\n' + "\n".join(map(_part, SCRIPTS))
    shell = _part("page.html")
    assert shell.count(_STYLE) == shell.count(_SCRIPT) == 1
    page = shell.replace(_STYLE, f"<style>{style}</style>").replace(_SCRIPT, f"<script>{script}</script>")
    policy = (
        "default-src 'none'",
        f"script-src {_hash_of(script)}",
        f"style-src {_hash_of(style)}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return page.encode(), {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "; ".join(policy),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def _part(name: str) -> str:
    return (resources.files("hmret.api") / "page" / name).read_text(encoding="utf-8")


def _hash_of(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"
