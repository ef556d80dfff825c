"""The documents as a site: all that it links to is there, all that is public has words, and Sphinx has nothing to say."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import layout_drawing
import pytest
import reference
import staging

import flambeau as fb

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "docs" / "site"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDED = [name for name in ("sphinx", "furo", "myst_parser") if importlib.util.find_spec(name) is None]
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, as Sphinx reads them."""
    folder = tmp_path_factory.mktemp("staged")
    assert staging.stage(ROOT, folder, run=False) > 80
    return folder


def prose(text: str) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL))


def slug(heading: str) -> str:
    """The anchor of a heading, as Markdown viewers make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def headings(page: Path) -> set[str]:
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in HEADING.findall(text)}


def test_all_links_lead_to_pages_and_headings(staged: Path) -> None:
    broken = []
    for path in staged.rglob("*.md"):
        if "source" in path.relative_to(staged).parts:
            continue
        for target, anchor in LINK.findall(prose(path.read_text(encoding="utf-8"))):
            if "://" in target:
                continue
            other = path.parent / target if target else path
            known = headings(other) if other.is_file() else set()
            if not other.is_file() or anchor and anchor not in known:
                broken.append(f"{path.relative_to(staged)}: {target}#{anchor}")
    assert broken == []


def test_every_page_is_in_the_list(staged: Path) -> None:
    """docs/README.md is the site's navigation."""
    listed = (staged / "index.md").read_text(encoding="utf-8").split("```{toctree}", 1)[1].split()
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if "/" not in page} - {"README"} <= set(listed)
    assert {"decisions/index", "reference/index", "course/index"} <= set(listed)


def test_links_out_of_the_documents_get_pages(tmp_path: Path) -> None:
    stage = staging.Stage(ROOT, tmp_path, set())
    text = "[a](../dev.py) [ir.md](ir.md#x) `[b](c)` [`b`](../README.md)\n\n```python\n[d](e)\n```\n[it](../docs/decisions)"
    found = staging.with_links(stage, "docs/page.md", text)
    assert found == ("[a](source/dev.py.md) [](ir.md#x) `[b](c)` [`b`](source/README.md.md)\n\n"
                     "```python\n[d](e)\n```\n[it](decisions/index.md)")
    assert stage.sources == {"dev.py", "README.md"}


def test_the_index_of_decisions_has_them_all(staged: Path) -> None:
    index = (staged / "decisions" / "index.md").read_text(encoding="utf-8")
    files = [path.name for path in (ROOT / "docs" / "decisions").glob("*.md")]
    assert len(files) > 40 and all(f"]({name})" in index for name in files)


def test_all_that_is_public_says_what_it_is() -> None:
    silent = []
    for namespace, _ in reference.PAGES.values():
        if namespace == "compile":
            continue
        owner = fb.Tensor if namespace == "Tensor" else importlib.import_module(f"flambeau.{namespace}".rstrip("."))
        silent += [entry.names[0] for entry in reference.entries(owner, namespace)
                   if not reference.doc(entry.value)]
    assert silent == []


def test_reference_has_signatures_and_what_was_measured(staged: Path) -> None:
    page = (staged / "reference" / "fb.md").read_text(encoding="utf-8")
    assert ":::{py:function} fb.add(input, other, *, alpha=1)" in page and "fb.relu_(input, inplace=False)" in page
    add = page.split("fb.add(input")[1].split("\n:::\n")[0]
    assert "dtypes: floats, integers, bool, complex · compiled: yes · derivative: yes · batching: yes" in add
    compiled = (staged / "reference" / "compile.md").read_text(encoding="utf-8")
    assert "{py:method} fb.CompiledFunction.explain(" in compiled and "recompile_limit=64" in compiled


@pytest.mark.parametrize(("text", "expected"), [
    ("x ** 2 of `a_b*c`, f32[n]", r"x \*\* 2 of `a_b*c`, f32\[n]"),
    ("Words.\n\n    f(x)\n    g(x)\n\nMore.", "Words.\n\n```text\nf(x)\ng(x)\n```\n\nMore."),
    ("Words:\n    that go on", "Words:\n    that go on"),
    ("* one", "* one"),
])
def test_docstrings_become_markdown(text: str, expected: str) -> None:
    assert reference.markdown(text) == expected


def test_names_of_other_functions_say_what_those_do() -> None:
    assert reference.in_full("swap_it().") == "swap_it()."
    assert reference.in_full("transpose().").startswith("As `fb.transpose`: ")
    assert reference.in_full("max_unpool1d.").startswith("As `fb.nn.functional.max_unpool1d`: ")


def test_signatures_say_what_is_by_keyword_and_by_position() -> None:
    def f(a, /, b, *, c=1, d=len, **others): ...
    def g(*parts, key=None): ...
    def h(a, /): ...
    assert [reference.signature(each) for each in (f, g, h)] == [
        "(a, /, b, *, c=1, d=len, **others)", "(*parts, key=None)", "(a, /)"]


def test_the_drawing_of_the_architecture_is_current() -> None:
    drawn = layout_drawing.PICTURE.read_text(encoding="utf-8")
    assert drawn == layout_drawing.drawing(layout_drawing.PACKAGE), "run: python tests/layout_drawing.py"


# -- what Sphinx makes of it ------------------------------------------------------------------------------------------


class Loaded(HTMLParser):
    """What a page loads, links to, and where it can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if "id" in values:
            self.anchors.add(values["id"] or "")
        address = values.get("src") or values.get("href") or ""
        if tag == "a":
            self.links.append(address)
        elif tag != "link" or values.get("rel") not in ("index", "search", "next", "prev"):
            self.loads.append(address)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors."""
    if NEEDED:
        pytest.skip(f"the extra `docs` is not installed: {', '.join(NEEDED)}")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, str(SITE), "--out", str(out)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    return out / "html"


def test_the_site_builds_and_needs_no_network(built: Path) -> None:
    pages = {path: Loaded(path) for path in built.rglob("*.html")}
    assert len(pages) > 100
    broken = []
    for path, page in pages.items():
        assert not [address for address in page.loads if "//" in address], path.name
        for link in page.links:
            target, _, anchor = link.partition("#")
            other = (path.parent / target).resolve() if target else path
            known = pages[other].anchors if other in pages else {anchor}
            if "//" not in link and (not other.exists() or anchor and anchor not in known):
                broken.append(f"{path.relative_to(built)}: {link}")
    assert broken == []
    for sheet in built.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", sheet.read_text(encoding="utf-8")), sheet.name


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_search_works_from_files(built: Path, tmp_path: Path) -> None:
    shown = dom(f"{(built / 'search.html').as_uri()}?q=softmax", "1300,900", tmp_path)
    assert re.search(r"found \d+ pages", shown) and "fb.nn.Softmax" in shown and "fb.softmax" in shown


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("size", ["1400,900", "390,844"])
@pytest.mark.parametrize("page", ["performance", "surface", "reference/compile", "architecture"])
def test_pages_are_no_wider_than_the_window(built: Path, tmp_path: Path, page: str, size: str) -> None:
    """Dumps and tables scroll by themselves."""
    path = built / f"{page}.html"
    measured = path.with_name(f"{path.stem}-measured.html")
    script = "<script>document.body.dataset.wider = document.documentElement.scrollWidth - innerWidth</script></body>"
    measured.write_text(path.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    wider = re.search(r'data-wider="(-?\d+)"', dom(measured.as_uri(), size, tmp_path))
    assert wider and int(wider[1]) <= 0


def dom(address: str, size: str, folder: Path) -> str:
    """The page as its scripts left it."""
    assert CHROMIUM is not None
    return subprocess.run([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={size}",
                           f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--dump-dom", address],
                          capture_output=True, text=True, timeout=120).stdout
