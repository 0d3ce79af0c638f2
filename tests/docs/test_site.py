"""The site that CONTRIBUTING.md builds: whole, and nothing in it comes from elsewhere."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.documents import ROOT, blocks
from tests.gateways.programs import require
from tests.served import served

pytestmark = pytest.mark.long

ELSEWHERE: Final = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
LOADED_BY_CSS: Final = re.compile(r"""(?:url\(|@import)\s*["']?((?:[a-z]+:)?//[^"')]*)""")
LOADED_BY_SCRIPT: Final = re.compile(
    r"""(?:fetch|import|importScripts|Worker|open|src\s*=)\s*\(?\s*["'`]((?:[a-z]+:)?//[^"'`]*)"""
)
LINKS: Final = frozenset({("a", "href")})
"""What leads elsewhere only when a reader follows it."""


class Parsed(HTMLParser):
    """names: what can be led to. references: tag, attribute and value of each address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.references: list[tuple[str, str, str]] = []
        self.css: list[str] = []
        self._is_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """The library's hook."""
        self._is_style = tag == "style"
        for name, value in attrs:
            if name in {"id", "name"}:
                self.names.add(value or "")
            elif name == "style":
                self.css.append(value or "")
            elif name in {"href", "src", "srcset", "action", "data", "poster", "xlink:href"}:
                self.references.append((tag, name, value or ""))

    def handle_data(self, data: str) -> None:
        """The library's hook."""
        if self._is_style:
            self.css.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as CONTRIBUTING.md says, but to a directory of the test's own."""
    built = tmp_path_factory.mktemp("site")
    (script,) = blocks("docs", document="CONTRIBUTING.md")
    assert script.startswith(".venv/bin/python ")
    assert script.endswith(" site\n")
    script = script.replace(".venv/bin/python", sys.executable).replace(" site\n", f" {built}\n")
    done = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return built


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Parsed]:
    return {page: Parsed(page.read_text("utf-8")) for page in site.rglob("*.html")}


def test_every_document_is_a_page_of_it(site: Path) -> None:
    command = ["git", "ls-files", "-co", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    documents = [name for name in listed.splitlines() if (ROOT / name).exists()]
    assert len(documents) > 30
    missing = [name for name in documents if not (site / name).with_suffix(".html").exists()]
    assert missing == []


def loaded(site: Path, pages: dict[Path, Parsed]) -> Iterator[tuple[Path, str]]:
    """What a browser would ask another place for, without being told to."""
    for page, parsed in pages.items():
        for tag, attribute, value in parsed.references:
            if (tag, attribute) not in LINKS and ELSEWHERE.match(value.strip()):
                yield page, value
        for css in parsed.css:
            yield from ((page, found) for found in LOADED_BY_CSS.findall(css))
    for sheet in site.rglob("*.css"):
        for found in LOADED_BY_CSS.findall(sheet.read_text("utf-8")):
            yield sheet, found
    for script in site.rglob("*.js"):
        for found in LOADED_BY_SCRIPT.findall(script.read_text("utf-8")):
            yield script, found


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Parsed]) -> None:
    assert list(loaded(site, pages)) == []


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("page.html", '<script src="https://cdn.example/a.js"></script>'),
        ("page.html", '<link rel="stylesheet" href="//fonts.example/a.css">'),
        ("page.html", "<style>@import 'https://fonts.example/a.css'</style>"),
        ("page.html", '<p style="background: url(https://a.example/b.png)">'),
        ("sheet.css", "@font-face { src: url('https://fonts.example/a.woff2') }"),
        ("script.js", 'fetch("https://search.example/")'),
    ],
)
def test_what_is_loaded_from_elsewhere_is_seen(tmp_path: Path, name: str, planted: str) -> None:
    (tmp_path / name).write_text(planted)
    pages = {page: Parsed(page.read_text()) for page in tmp_path.rglob("*.html")}
    assert [place.name for place, _ in loaded(tmp_path, pages)] == [name]


def test_every_link_within_it_leads_somewhere(site: Path, pages: dict[Path, Parsed]) -> None:
    broken = []
    for page, parsed in pages.items():
        for _, _, value in parsed.references:
            parts = urlsplit(value)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            found = target.is_file() or target == site.resolve()
            names = pages[target].names if target in pages else {parts.fragment}
            if not found or (parts.fragment and unquote(parts.fragment) not in names):
                broken.append((page.relative_to(site), value))
    assert broken == []


def test_the_first_page_leads_to_the_index_and_the_index_to_every_part(
    site: Path, pages: dict[Path, Parsed]
) -> None:
    assert 'url=docs/README.html"' in (site / "index.html").read_text()
    text = (site / "docs" / "README.html").read_text()
    for part in re.findall(r"^## (.+)$", (ROOT / "docs/README.md").read_text(), re.MULTILINE):
        assert f'<span class="caption-text">{part}</span>' in text
    assert len(pages) > 30


@pytest.mark.browser
def test_the_search_finds_without_any_server_but_a_folder(site: Path, tmp_path: Path) -> None:
    """The index is a script of the site's own; here a loopback server hands out its files."""
    require({"chromium": "apt-get install chromium"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    with served(server) as url:
        shown = subprocess.run(
            [
                *(shutil.which("chromium") or "", "--headless", "--no-sandbox", "--disable-gpu"),
                *("--disable-dev-shm-usage", "--no-first-run", "--dump-dom"),
                *("--disable-background-networking", f"--user-data-dir={tmp_path}"),
                "--virtual-time-budget=20000",
                f"{url}/search.html?q=quarantine",
            ],
            capture_output=True, text=True, timeout=120, check=True,
        ).stdout  # fmt: skip
    assert "docs/how-to/identity-providers.html" in shown


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing of its requests."""

    def log_message(self, *_args: object) -> None:
        """The library's hook."""
