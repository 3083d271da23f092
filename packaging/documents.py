"""Makes the site of the documents: pages with search that work from a folder, without a server or a network.

    python packaging/documents.py SITE

Needs what packaging/docs.lock names, and hmret itself, whose reference is made from its docstrings, its --help and its
schema. Each warning is an error. SITE then holds nothing but the site; beside it, SITE-links.txt lists all links that lead
elsewhere. The same sources give the same bytes.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from document_checks import links_elsewhere, problems_of
from document_sources import ROOT, STAMP, digest_of_sources
from document_stage import stage
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.docutils import docutils_namespace

__all__ = ["build"]

_CONFIG: dict[str, Any] = {
    "project": "hmret",
    "extensions": ["myst_parser", "sphinx.ext.autodoc"],
    "suppress_warnings": ["epub.unknown_project_files"],
    "default_role": "code",  # docstrings write `names` as Markdown does
    "language": "en",
    "smartquotes": False,  # options begin with two dashes
    # Anchors as code hosts make them, so that one link holds in both places.
    "myst_heading_anchors": 4,
    "myst_links_external_new_tab": False,
    "html_theme": "furo",
    "html_title": "hmret",
    "html_static_path": ["_static"],
    "html_css_files": ["documents.css"],
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_show_copyright": False,
    "html_show_sphinx": False,
    # Excerpts of pages that were found would be fetched, which a browser refuses to do from a folder.
    "html_show_search_summary": False,
    "autodoc_member_order": "bysource",
    "autodoc_typehints": "signature",
    "autodoc_default_options": {"members": True, "show-inheritance": True},
    "python_use_unqualified_type_names": True,
    "python_maximum_signature_line_length": 80,
    "toc_object_entries_show_parents": "hide",
    "nitpicky": False,
}


def build(site: Path, root: Path = ROOT) -> int:
    """Build the site into a folder, whatever is in it; returns how many pages it has.

    Raises:
        SystemExit: a page has a mistake, or a link leads nowhere; each was printed.
    """
    with TemporaryDirectory(prefix="hmret-docs-") as name:
        sources, made, doctrees = Path(name, "sources"), Path(name, "site"), Path(name, "doctrees")
        stage(root, sources)
        with docutils_namespace():
            app = Sphinx(
                sources,
                None,
                made,
                doctrees,
                "html",
                confoverrides=_CONFIG,
                status=None,
                warning=sys.stderr,
                exception_on_warning=False,
            )
            app.connect("autodoc-process-docstring", _read_sections)
            app.build()
        if app._warncount:  # noqa: SLF001 - the same that makes `sphinx-build -W` fail
            raise SystemExit(f"{app._warncount} warnings, which are errors here")  # noqa: SLF001 - the same
        for left in (".buildinfo", ".buildinfo.bak", "objects.inv"):
            (made / left).unlink(missing_ok=True)
        shutil.rmtree(
            made / "_sources", ignore_errors=True
        )  # what links to a file leaves, whatever the setting says
        problems = problems_of(made)
        if problems:
            raise SystemExit("\n".join(problems))
        (made / STAMP).write_text(digest_of_sources(root), encoding="ascii")
        shutil.rmtree(site, ignore_errors=True)
        site.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, site)
    listed = [f"{link}  {', '.join(pages)}\n" for link, pages in links_elsewhere(site).items()]
    site.with_name(f"{site.name}-links.txt").write_text("".join(listed), encoding="utf-8")
    return len([*site.glob("*.html")])


def _read_sections(
    _: Sphinx, what: str, _name: str, _value: object, _options: object, lines: list[str]
) -> None:
    """Turn the sections of a docstring, `Raises:` and the like, into what Sphinx reads."""
    if what in {"class", "exception", "function", "method"}:  # that of a field is one text, colons and all
        lines[:] = GoogleDocstring(lines, Config(), what=what).lines()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(f"{folder / 'index.html'}: {build(folder)} pages")  # noqa: T201 - what it is for
