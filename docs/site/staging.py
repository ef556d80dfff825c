"""docs/*.md and the course -> a folder that Sphinx reads. Pages keep their text; links that lead elsewhere get pages too.

What docs/README.md lists, in its order and under its headings, is the navigation.
"""

from __future__ import annotations

import ast
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname, normpath, relpath

from blocks import with_prints
from chapters import chapters
from reference import reference_pages

LINK = r"(?<!!)\[(?P<label>[^\]]*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)"
CODE = r"^```.*?^```$|`[^`\n]+`"
# Whichever comes first: a link whose label holds code is a link, and code that holds a link is code.
MARKS = re.compile(f"(?P<code>{CODE})|{LINK}", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
LANGUAGES = {".py": "python", ".ll": "llvm", ".toml": "toml", ".md": "markdown"}
PICTURES = (".svg", ".png")
COURSE = "flambeau/course"
RUN = ("performance.md",)               # pages whose dumps are those of the machine that builds the site


@dataclass(frozen=True)
class Stage:
    """Where pages come from and go to, and the files outside docs/ that they were found to point to."""

    root: Path
    out: Path
    sources: set[str]

    def write(self, name: str, text: str) -> None:
        """A page (name: its path in the site); a file that has that text already is left, so that Sphinx skips it."""
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def stage(root: Path, out: Path, run: bool = True) -> int:
    """Fill `out` with all pages of the site; how many there are. `run`: the course and RUN with what they print now."""
    shutil.rmtree(out, ignore_errors=True)
    stage = Stage(root, out, set())
    docs = root / "docs"
    for path in [*sorted(docs.rglob("*.md")), root / COURSE / "README.md"]:
        place = path.relative_to(root).as_posix()
        ran = run and path.name in RUN
        text = with_links(stage, place, with_prints(path) if ran else path.read_text(encoding="utf-8"))
        trees = {"docs/README.md": navigation, f"{COURSE}/README.md": contents_of_course}
        stage.write(page_of(place), text + (trees[place](text) if place in trees else ""))
    for path in docs.rglob("*"):
        if path.suffix in PICTURES:
            (out / path.relative_to(docs)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, out / path.relative_to(docs))
    for path, text in chapters(out / "course", run):
        place = path.relative_to(root).as_posix()
        stage.write(page_of(place), with_links(stage, place, text))
    stage.write("decisions/index.md", decisions(docs / "decisions"))
    for name, text in reference_pages(docs / "surface.md").items():
        stage.write(f"reference/{name}.md", text)
    for name in sorted(stage.sources):
        stage.write(f"source/{name}.md", source(root / name, name))
    return len(list(out.rglob("*.md")))


def page_of(place: str) -> str:
    """Where in the site a file or folder of the repository is."""
    chapter = re.fullmatch(f"{COURSE}/pages/(\\w+).py", place)
    if chapter:
        return f"course/{chapter[1]}.md"
    if place.startswith("docs/") and Path(place).suffix in (".md", *PICTURES):
        return re.sub(r"(^|/)README.md$", r"\1index.md", place.removeprefix("docs/"))
    special = {"docs/decisions": "decisions/index.md", f"{COURSE}/README.md": "course/index.md"}
    return special.get(place, f"source/{place}.md")


# -- links ------------------------------------------------------------------------------------------------------------


def with_links(stage: Stage, page: str, text: str) -> str:
    """The text of `page` with links as they are in the site. Blocks of code are left alone."""
    return MARKS.sub(lambda m: m[0] if m["code"] else _link(stage, page, m), text)


def _link(stage: Stage, page: str, match: re.Match[str]) -> str:
    label, target, anchor = match["label"], match["target"], match["anchor"] or ""
    if "://" in target or not target:
        return match[0]
    place = normpath(f"{page}/../{target}")
    name = page_of(place)
    if name.startswith("source/"):
        stage.sources.add(place)
    label = "" if label == target and target.endswith(".md") else label         # the page's title, then
    return f"[{label}]({relpath(name, dirname(page_of(page)) or '.')}{anchor})"


# -- pages that no file is ----------------------------------------------------------------------------------------------


def navigation(text: str) -> str:
    """Trees of contents: each heading of the home page with the pages that its list links to."""
    trees = []
    sections = HEADING.split(text)[1:]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        names = [m["target"].removesuffix(".md") for m in re.finditer(LINK, body) if not m["target"].startswith("source/")]
        if title == "Reference":
            names.insert(0, "reference/index")
        trees.append(tree(names, title))
    return "\n\n" + "\n".join(trees)


def contents_of_course(text: str) -> str:
    return "\n\n" + tree([m["target"].removesuffix(".md") for m in re.finditer(LINK, text) if m["target"][0].isdigit()])


def tree(names: list[str], title: str = "") -> str:
    caption = f":caption: {title}\n" if title else ""
    return f"```{{toctree}}\n:hidden:\n{caption}\n" + "\n".join(names) + "\n```\n"


def decisions(folder: Path) -> str:
    """The index of decisions: number and title."""
    rows = []
    for path in sorted(folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        number, title = re.match(r"# (\d+): (.*)", text).groups()       # type: ignore[union-attr]
        rows.append(f"| {number} | [{title}]({path.name}) |")
    return ("# Decisions\n\nWhat was decided, what was given up for it, and what would change our mind: one page each, and "
            "a later one says so when it overrules an earlier.\n\n| | |\n|---|---|\n" + "\n".join(rows) + "\n\n"
            + tree([path.stem for path in sorted(folder.glob("*.md"))]))


def source(path: Path, name: str) -> str:
    """A page with a file's text, or, for a folder, its files and the first sentence of each."""
    title = f"---\norphan: true\n---\n\n# {name}\n\n"
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*.py")) if "__pycache__" not in file.parts]
        return title + "| file | |\n|---|---|\n" + "".join(
            f"| `{file.relative_to(path).as_posix()}` | {_first_sentence(file)} |\n" for file in files)
    language = LANGUAGES.get(path.suffix, "text")
    return f"{title}`````{{code-block}} {language}\n:linenos:\n\n{path.read_text(encoding='utf-8')}\n`````\n"


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<=[.:])\s|\n\n", text.strip(), maxsplit=1)[0].replace("\n", " ")
    return re.sub(r"([|*_<\[])", r"\\\1", sentence)
