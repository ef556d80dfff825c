"""The course: starting files fail their checks, solutions pass, mistakes get an answer that leads on, and pages run.

    python -m pytest tests/course --course      runs the pages of all chapters
"""
from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from mistakes import MISTAKES

from flambeau.__main__ import main
from flambeau.course import checking, interactive, pages
from flambeau.course.exercises import CHAPTERS, EXERCISES, HERE, SOLUTIONS, Exercise, exercise_of

IDS = [exercise.number for exercise in EXERCISES]
LINK = re.compile(r"\]\((\.\.[^)#\s]+)\)")


def findings(exercise: Exercise, text: str, folder: Path) -> list[checking.Finding]:
    path = folder / "work" / exercise.file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return checking.findings_of(exercise, path)


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_solution_passes(exercise: Exercise, tmp_path: Path) -> None:
    found = findings(exercise, exercise.solution_text(), tmp_path)
    assert len(found) >= 3 or exercise.chapter == 10
    assert not [f for f in found if not f.is_right]


@pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)
def test_starting_file_is_sound_and_passes_nothing(exercise: Exercise, tmp_path: Path) -> None:
    text = exercise.starting_text()
    assert "solution>" not in text and ast.parse(text)
    found = findings(exercise, text, tmp_path)
    assert found[0].claim != "the file runs", found[0].said
    assert not [f.claim for f in found if f.is_right], "a check that passes before anything was written checks nothing"


@pytest.mark.parametrize(("number", "right", "wrong", "words"), MISTAKES,
                         ids=[f"{number}-{at}" for at, (number, *_) in enumerate(MISTAKES)])
def test_mistakes_get_an_answer_that_leads_on(number: str, right: str, wrong: str, words: str, tmp_path: Path) -> None:
    exercise = exercise_of(number)
    text = exercise.solution_text()
    assert right in text, "the solution does not say that any more"
    path = tmp_path / exercise.file
    path.parent.mkdir()
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    said = ""
    for finding in checking.each_finding(exercise, path):
        said += "" if finding.is_right else f"{finding.said} {finding.hint}\n"
        if words in said:
            return
    pytest.fail(said or "no check fails")


def test_no_check_holds_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "SECONDS", 0.05)
    text = exercise_of("1.3").solution_text().replace("while stack:", "while True:").replace("stack.pop()", "stack[-1]")
    found = findings(exercise_of("1.3"), text, tmp_path)
    assert "still running after" in found[0].said and "whose end does not come" in found[0].hint


def test_errors_name_the_learners_line(tmp_path: Path) -> None:
    exercise = exercise_of("0.1")
    text = exercise.solution_text().replace("return x * y", "return x * undefined")
    found = findings(exercise, text, tmp_path)[0]
    line = text[: text.index("undefined")].count("\n") + 1
    assert found.said == f"operators.py:{line}, in mul: NameError: name 'undefined' is not defined"


def test_other_files_of_the_learner_are_used_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "ember"
    folder.mkdir()
    scalar, topological = exercise_of("1.2"), exercise_of("1.3")
    text = scalar.solution_text().replace("data = cls.forward(", "raise NotImplementedError\n        data = cls.forward(")
    (folder / "scalar.py").write_text(text, encoding="utf-8")
    (folder / "topological.py").write_text(topological.solution_text(), encoding="utf-8")
    found = checking.findings_of(topological, folder / "topological.py", (folder,))[0]
    assert "scalar.py:" in found.said and "not written yet" in found.said and "exercise 1.2" in found.hint
    assert all(f.is_right for f in checking.findings_of(topological, folder / "topological.py"))
    (folder / "scalar.py").write_text(scalar.starting_text(), encoding="utf-8")      # not begun: the solution is taken
    assert all(f.is_right for f in checking.findings_of(topological, folder / "topological.py", (folder,)))


# -- the command line -------------------------------------------------------------------------------------------------


def test_start_check_and_solution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = ["--dir", str(tmp_path / "mine")]
    assert main(["course", "check", "0.2", *work]) == 2
    assert "course start 0.2 writes it" in capsys.readouterr().err
    assert main(["course", "start", "0.2", *work]) == 0
    assert main(["course", "start", "0.2", *work]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["course", "check", "0.2", *work]) == 1
    assert "not written yet" in capsys.readouterr().out
    assert main(["course", "solution", "0.2"]) == 0
    (tmp_path / "mine/ember/higher_order.py").write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["course", "check", "0.2", *work]) == 0
    assert "4 of 4 right; next: 0.3" in capsys.readouterr().out
    assert main(["course", "list", *work]) == 0
    assert "* 0.2 " in capsys.readouterr().out


def test_machine_code_that_crashes_is_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE.parents[1]))
    assert main(["course", "start", "9.2", "--dir", str(tmp_path)]) == 0
    text = exercise_of("9.2").solution_text().replace("place = ir.Constant(I64, 0)", "place = ir.Constant(I64, 1 << 50)")
    (tmp_path / "ember/emit.py").write_text(text, encoding="utf-8")
    assert main(["course", "check", "9.2", "--dir", str(tmp_path)]) == 1
    assert "look at the addresses" in capsys.readouterr().out


def test_a_learners_folder_is_a_package(tmp_path: Path) -> None:
    assert main(["course", "start", "1", "--dir", str(tmp_path)]) == 0
    text = exercise_of("1.1").solution_text() + "\nMINE = True\n"
    (tmp_path / "ember/differences.py").write_text(text, encoding="utf-8")
    code = "from ember import backward, differences, operators, scalar; x = scalar.Scalar(3); backward.backward(x * x)\n" \
           "print(differences.MINE, x.grad, operators.__file__, scalar.__file__)"
    environment = {"PYTHONPATH": f"{tmp_path}:{HERE.parents[1]}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["True", "6.0", str(SOLUTIONS / "operators.py"), str(SOLUTIONS / "scalar.py")]


def test_an_exercise_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "solution", "1.9"]) == 2
    assert "did you mean 1." in capsys.readouterr().err


def test_files_of_the_course_and_the_table_agree() -> None:
    assert {path.stem for path in SOLUTIONS.glob("*.py")} == {exercise.module for exercise in EXERCISES}
    assert [path.name for path in sorted((HERE / "pages").glob("*.py"))] == [
        pages.path_of(chapter.number).name for chapter in CHAPTERS]
    assert all(len(chapter.exercises) >= 3 for chapter in CHAPTERS)


def test_the_readme_lists_all_chapters_and_its_links_lead_somewhere() -> None:
    text = (HERE / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if not (HERE / link).exists()]
    assert [link for link in links if link.startswith("pages/")] == [
        f"pages/{pages.path_of(chapter.number).name}" for chapter in CHAPTERS]


# -- pages ------------------------------------------------------------------------------------------------------------

QUICK = (0,)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_page_runs(chapter: types.SimpleNamespace, request: pytest.FixtureRequest) -> None:
    if chapter.number not in QUICK and not request.config.getoption("--course"):
        pytest.skip("pages of other chapters run with --course")
    cells = pages.run_page(chapter.number)
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_page_tells_of_each_exercise_and_its_links_lead_somewhere(chapter: types.SimpleNamespace) -> None:
    path = pages.path_of(chapter.number)
    text = path.read_text(encoding="utf-8")
    for exercise in chapter.exercises:
        assert f"**Exercise {exercise.number}**" in text and exercise.file in text
    links = LINK.findall(text)
    assert links and not [link for link in links if not (path.parent / link).exists()]
    for name, link in re.findall(r"`(\w+)`[^`\[\]]*\(in \[`[^`]*`\]\(([^)]+)\)\)", text):
        assert name in (path.parent / link).read_text(encoding="utf-8")


def test_pages_to_play_with_need_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "play", "--out", str(tmp_path)]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.split()]
    assert {path.stem for path in paths} == set(interactive.PAGES)
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(src|href)=|@import|fetch\(|/\*(DATA|STYLE)\*/", text)
        assert "https://" not in text and path.stat().st_size < 400_000


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.parametrize("name", interactive.PAGES)
def test_pages_to_play_with_run_in_a_browser(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not CHROMIUM or not request.config.getoption("--course"):
        pytest.skip("wants Chromium, and --course")
    interactive.write_all(tmp_path)
    call = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run([*call, (tmp_path / f"{name}.html").as_uri()], capture_output=True, text=True, timeout=60)
    ready = re.search('data-ready="([^"]*)"', done.stdout)
    assert ready and not ready[1].startswith("disagrees"), ready


def test_notebooks_are_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "page", "0", "--out", str(tmp_path)]) == 0
    notebook = json.loads((tmp_path / "00_fundamentals.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    sources = {kind: [c["source"] for c in notebook["cells"] if c["cell_type"] == kind] for kind in ("markdown", "code")}
    assert sources["markdown"][0].startswith("# 0 · Fundamentals\n\nAt the end")
    assert all(ast.parse(source) for source in sources["code"])
    assert main(["course", "page", "0", "--text", "--out", str(tmp_path)]) == 0
    assert pages.cells_of((tmp_path / "00_fundamentals.py").read_text(encoding="utf-8"))[1].kind == "markdown"
    assert main(["course", "page", "99"]) == 2
