"""Whether a site of documents is whole: links and anchors hold, nothing is loaded from elsewhere.

    python3 packaging/document_checks.py SITE          # prints what is wrong; exit code 1 then
    python3 packaging/document_checks.py --ask SITE    # asks for each link that leads elsewhere; needs a network

Nothing but the standard library is needed.
"""

import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

__all__ = ["Page", "ask", "links_elsewhere", "problems_of", "read_site"]

_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_INLINE = ("data:", "#")
# Elements whose address the browser loads by itself, by the attribute that has it.
_LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}
_LOADED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "manifest", "shortcut icon"}
_IN_STYLES = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")
_NO_NETWORK = ("Name or service not known", "Temporary failure in name resolution", "Network is unreachable")
_SECONDS = 20


class Page(HTMLParser):
    """What a page has: its anchors, where it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down an element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in _LOADED_LINKS:
            self.loaded.append(values["href"])
        if values.get(_LOADED.get(tag, "")):
            self.loaded.append(values[_LOADED[tag]])
        if "srcset" in values:
            self.loaded += [part.split()[0] for part in values["srcset"].split(",")]
        self.loaded += _loaded_by_style(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Take down what a style within the page loads."""
        if self.get_starttag_text() == "<style>":
            self.loaded += _loaded_by_style(data)


def read_site(site: Path) -> Mapping[Path, Page]:
    """Read all pages of a site."""
    paths = sorted(site.resolve().rglob("*.html"))
    return {path: Page(path.read_text(encoding="utf-8")) for path in paths}


def problems_of(site: Path) -> list[str]:
    """Return a line for each link that leads nowhere and for each thing that is loaded from elsewhere."""
    pages = read_site(site)
    if not pages:
        return [f"{site}: no pages"]
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: loads {one} from elsewhere" for one in page.loaded if _is_elsewhere(one)]
        found += [
            f"{name}: {problem}"
            for link in {*page.links, *page.loaded}
            for problem in _problems_of_link(link, path, pages)
        ]
    for path in sorted(site.rglob("*.css")):
        loaded = _loaded_by_style(path.read_text(encoding="utf-8"))
        found += [
            f"{path.relative_to(site)}: loads {one} from elsewhere" for one in loaded if _is_elsewhere(one)
        ]
    return sorted(set(found))


def _problems_of_link(link: str, path: Path, pages: Mapping[Path, Page]) -> Iterator[str]:
    address, anchor = urldefrag(link)
    if _ELSEWHERE.match(address):
        return
    target = path
    if address:
        target = Path(os.path.normpath(path.parent / unquote(address.partition("?")[0])))
    if target in pages:
        if anchor and unquote(anchor) not in pages[target].anchors:
            yield f"{link} leads to no section"
    elif not target.is_file():
        yield f"{link} leads nowhere"


def links_elsewhere(site: Path) -> Mapping[str, list[str]]:
    """Return each link that leads elsewhere with the pages that have it."""
    found: dict[str, set[str]] = {}
    for path, page in read_site(site).items():
        for link in page.links:
            if link.startswith(("http:", "https:")):
                found.setdefault(link, set()).add(str(path.relative_to(site.resolve())))
    return {link: sorted(found[link]) for link in sorted(found)}


def ask(link: str) -> str | None:
    """Ask for an address; returns what is wrong, None where it answers.

    Raises:
        ConnectionError: there is no network.
    """
    request = urllib.request.Request(link, method="HEAD", headers={"User-Agent": "hmret documents"})  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310 - the same
            return None
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.reason}"
    except OSError as error:
        if any(text in str(error) for text in _NO_NETWORK):
            raise ConnectionError(str(error)) from None
        return str(error)


def _is_elsewhere(address: str) -> bool:
    return bool(_ELSEWHERE.match(address)) and not address.startswith(_INLINE)


def _loaded_by_style(text: str) -> list[str]:
    return [first or second for first, second in _IN_STYLES.findall(text)]


def _main(arguments: list[str]) -> int:
    site = Path(arguments[-1])
    if "--ask" not in arguments:
        found = problems_of(site)
    else:
        found = []
        for link, pages in links_elsewhere(site).items():
            try:
                problem = ask(link)
            except ConnectionError as error:
                print(f"links elsewhere: skipped: no network: {error}")  # noqa: T201 - a program
                return 0
            found += [f"{link}: {problem} ({', '.join(pages)})"] if problem else []
    print("\n".join(found), end="\n" if found else "")  # noqa: T201 - the same
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
