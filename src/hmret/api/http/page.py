"""The web page: one self-contained file, and the content security policy that enforces it."""

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

__all__ = ["load_page"]

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def load_page() -> tuple[bytes, Mapping[str, str]]:
    """Read the page; returns it and the headers to send with it.

    The content security policy allows the page's own script and style, by their hashes, and requests to its
    own origin; nothing else, so that no name on a host can be executed as code.
    """
    page = (resources.files("hmret.api") / "page.html").read_bytes()
    hashes: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, content in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    policy = (
        "default-src 'none'",
        f"script-src {' '.join(hashes[b'script'])}",
        f"style-src {' '.join(hashes[b'style'])}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return page, {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "; ".join(policy),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
