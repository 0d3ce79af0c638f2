"""How Sphinx makes a site of the repository's Markdown.

The pages are read where they stand, so that their relative links lead to the same places on a code
host and in the site. The navigation is made from the index, docs/README.md: each of its headings
is a part of it, and a page that the index does not name is a warning, which the build takes for an
error.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from sphinx.addnodes import pending_xref

project = "SCIM token ledger"
copyright = "the contributors"  # noqa: A001
extensions = ["myst_parser"]
root_doc = "docs/README"
include_patterns = ["*.md", "api/**.md", "deploy/**.md", "docs/**.md", "domain/**.md"]
include_patterns += ["projections/**.md", "tests/**.md"]

myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # headings that skip a level read well, and nothing breaks

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_additional_pages = {"index": "to-the-index.html"}
templates_path = ["templates"]

_PART = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE = re.compile(r"\]\(([^):#]+\.md)\)")


def add_navigation(_app: Any, docname: str, source: list[str]) -> None:
    """Append the navigation to the index: one part for each heading, as its links stand there."""
    if docname != root_doc:
        return
    _, *parts = _PART.split(source[0])
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        here = PurePosixPath(root_doc).parent
        pages = dict.fromkeys("/" + normpath(here / page) for page in _PAGE.findall(text))
        lines = ["", "```{toctree}", ":hidden:", f":caption: {heading}", "", *pages, "```", ""]
        source[0] += "\n".join(lines)


def lead_from_folders(app: Any, doctree: Any) -> None:
    """Let a link to a folder lead to its README; without one it is text in the site."""
    for link in list(doctree.findall(pending_xref)):
        target = normpath(PurePosixPath(app.env.docname).parent / link["reftarget"])
        if link["reftype"] != "myst" or not Path(app.srcdir, target).is_dir():
            continue
        if (page := f"{target}/README") in app.env.found_docs:
            link["refdomain"], link["reftarget"], link["reftargetid"] = "doc", page, None
        else:
            link.replace_self(link.children)


def setup(app: Any) -> None:
    """Sphinx's hook."""
    app.connect("source-read", add_navigation)
    app.connect("doctree-read", lead_from_folders)
