"""`python -m flambeau course`: "Build the compiler", a course in eleven chapters.

The learner writes a small tensor library and a small compiler, both called ember, and ends in Flambeau's own files.

    ember/        the solutions: a whole library, with marks around what a learner writes
    exercises.py  the chapters and exercises, and the starting file that follows from a solution
    checks/       what must hold for an exercise, a file for each chapter; checking.py runs it and says what is wrong
    pages/        the story, a percent-format file for each chapter; pages.py runs one, or makes a notebook of it
    interactive/  pages with pictures to play with; interactive.py fills them with what ember computes
"""
from __future__ import annotations

import argparse
import importlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flambeau.course.exercises import CHAPTERS, EXERCISES, Exercise, exercise_of
from flambeau.course.library import prepare_folder

WORK = "ember-course"


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code: 0 done, 1 the check failed, 2 asked wrongly."""
    asked = parser().parse_args(list(arguments))
    try:
        return int(asked.command(asked))
    except (LookupError, FileExistsError, FileNotFoundError, ModuleNotFoundError) as error:
        print(f"course: {error.args[0] if error.args else error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m flambeau course", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Build the compiler: a course in eleven chapters. Read a chapter's page, start its exercises,\n"
                    "write what is missing, and have it checked:\n\n"
                    "  python -m flambeau course start 0.1     ember-course/ember/operators.py, to fill in\n"
                    "  python -m flambeau course check 0.1     what is right, what is not, and a hint\n"
                    "  python -m flambeau course page 0        the chapter as a notebook, pictures included")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, what: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=what)
        added.set_defaults(command=run)
        return added

    command("list", "the chapters and exercises, and which of yours are there", listed)
    start = command("start", "write the starting file of an exercise, or of a chapter's", started)
    start.add_argument("--force", action="store_true", help="write over what is there")
    check = command("check", "hold your file against the exercise's checks", checked)
    check.add_argument("--alone", action="store_true", help="take the solutions for all other exercises")
    check.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    solution = command("solution", "print the solution", solved)
    for one in (start, check, solution):
        one.add_argument("number", metavar="N.M", help="an exercise, as 3.2, or a chapter, as 3")
    page = command("page", "write a chapter as a notebook", paged)
    page.add_argument("number", metavar="N", help="the chapter, or all")
    page.add_argument("--out", type=Path, default=Path("."), help="the folder it goes to (here)")
    page.add_argument("--run", action="store_true", help="run it first, so that it holds what it prints and draws")
    page.add_argument("--text", action="store_true", help="write the text that notebooks are made of (jupytext pairs them)")
    play = command("play", "write the interactive pages, which a browser opens", played)
    play.add_argument("--out", type=Path, default=Path("."), help="the folder they go to (here)")
    for one in (*(commands.choices[name] for name in ("list", "start", "check", "page")),):
        one.add_argument("--dir", type=Path, default=Path(WORK), help=f"the folder of your work ({WORK})")
    return top


def asked_for(number: str) -> list[Exercise]:
    """One exercise, or all of a chapter. Raises LookupError."""
    of_chapter = [exercise for exercise in EXERCISES if str(exercise.chapter) == number]
    return of_chapter or [exercise_of(number)]


def listed(asked: argparse.Namespace) -> int:
    for chapter in CHAPTERS:
        print(f"{chapter.number:>2}  {chapter.title}")
        for exercise in chapter.exercises:
            there = "*" if (asked.dir / exercise.file).exists() else " "
            print(f"    {there} {exercise.number:<5} {exercise.file:<26} {exercise.title}")
    print(f"\n* is in {asked.dir}/")
    return 0


def started(asked: argparse.Namespace) -> int:
    prepare_folder(asked.dir)
    for exercise in asked_for(asked.number):
        path = asked.dir / exercise.file
        if path.exists() and not asked.force:
            raise FileExistsError(f"{path} is there already; --force writes over it")
        path.write_text(exercise.starting_text(), encoding="utf-8")
        print(f"{exercise.number} {exercise.title}: {path}\n     python -m flambeau course check {exercise.number}"
              + (f" --dir {asked.dir}" if str(asked.dir) != WORK else ""))
    return 0


def checked(asked: argparse.Namespace) -> int:
    exercises = asked_for(asked.number)
    if exercises[0].runs_machine_code and not asked.here:
        return guarded(asked)
    checking = importlib.import_module("flambeau.course.checking")
    return max(checking.check_and_tell(exercise, asked.dir, asked.alone) for exercise in exercises)


def guarded(asked: argparse.Namespace) -> int:
    """The same in a process of its own: machine code of a learner's may end the one that runs it."""
    call = [sys.executable, "-m", "flambeau", "course", "check", asked.number, "--dir", str(asked.dir), "--here"]
    done = subprocess.run(call + ["--alone"] * asked.alone, capture_output=True, text=True)
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    if done.returncode < 0:
        print(f"  WRONG the checks ended with {signal.Signals(-done.returncode).name}\n"
              "        hint: your machine code reads or writes where nothing is; look at the addresses and the loops' ends")
        return 1
    return done.returncode


def solved(asked: argparse.Namespace) -> int:
    print("\n".join(exercise.solution_text() for exercise in asked_for(asked.number)), end="")
    return 0


def paged(asked: argparse.Namespace) -> int:
    pages = importlib.import_module("flambeau.course.pages")
    numbers = [c.number for c in CHAPTERS] if asked.number == "all" else [
        c.number for c in CHAPTERS if str(c.number) == asked.number]
    if not numbers:
        raise LookupError(f"there is no chapter {asked.number!r}; they go from 0 to {CHAPTERS[-1].number}")
    for number in numbers:
        print(pages.write(number, asked.out, asked.dir if asked.dir.exists() else None, run=asked.run, text=asked.text))
    return 0


def played(asked: argparse.Namespace) -> int:
    interactive = importlib.import_module("flambeau.course.interactive")
    for path in interactive.write_all(asked.out):
        print(path)
    return 0
