"""The chapters and their exercises. An exercise is a file of ember: its solution is in ember/, with marks around what the
learner writes, and the starting file is the same without that:

    # <solution>                          # <solution: result = ...>
    return x * y                          result = x * y
    # </solution>                         # </solution>

leaves `raise NotImplementedError(...)`, or the line that the mark gives."""
from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOLUTIONS = HERE / "ember"
MARKED = re.compile(r"^( *)# <solution(?:: ([^\n]*))?>\n(.*?)^ *# </solution>\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Exercise:
    chapter: int
    place: int              # in its chapter, from 1
    module: str             # of ember
    title: str

    @property
    def number(self) -> str:
        return f"{self.chapter}.{self.place}"

    @property
    def file(self) -> str:
        """In the learner's folder."""
        return f"ember/{self.module}.py"

    @property
    def runs_machine_code(self) -> bool:
        """Code that a mistake of the learner's may crash, and the process with it."""
        return self.chapter == 9

    def marked_text(self) -> str:
        return (SOLUTIONS / f"{self.module}.py").read_text(encoding="utf-8")

    def solution_text(self) -> str:
        return re.sub(r"^ *# </?solution.*>\n", "", self.marked_text(), flags=re.MULTILINE)

    def starting_text(self) -> str:
        def left_out(found: re.Match[str]) -> str:
            indent, instead, _ = found.groups()
            return f"{indent}{instead or 'raise NotImplementedError  # your code'}\n"
        return MARKED.sub(left_out, self.marked_text())


@dataclass(frozen=True)
class Chapter:
    number: int
    name: str               # of its page
    title: str
    exercises: tuple[Exercise, ...]


def _chapter(number: int, name: str, title: str, **exercises: str) -> Chapter:
    return Chapter(number, name, title, tuple(
        Exercise(number, place, module, what) for place, (module, what) in enumerate(exercises.items(), 1)))


CHAPTERS = (
    _chapter(0, "fundamentals", "Fundamentals: functions of numbers, and a tree of modules",
             operators="functions of numbers, and what their derivatives are",
             higher_order="map, zip and reduce, and what they make",
             module="a tree of modules with parameters at its leaves"),
    _chapter(1, "autodiff", "Autodiff: a program writes down what it did, and walks back",
             differences="derivatives by trying: central differences",
             scalar="numbers that remember where they come from",
             topological="an order in which every value comes before what made it",
             backward="the chain rule, walked back",
             sgd="steps against the derivative"),
    _chapter(2, "tensors", "Tensors: one row of numbers, and a rule where each one lies",
             layout="strides, positions and indices",
             broadcast="shapes that fit each other",
             storage="views: the same numbers in another order",
             loops="map, zip and reduce over any strides",
             tensor="tensors that differentiate themselves"),
    _chapter(3, "efficiency", "Efficiency: the same loops, as machines like them",
             kernels="map, zip, reduce and gather, compiled",
             threads="shares for threads",
             products="the product of matrices, in an order that memory likes",
             fast="a tensor library on these kernels",
             gpu="kernels for a GPU: thousands of threads, barriers, shared memory"),
    _chapter(4, "networks", "Networks: what recognizes digits and reads sentences",
             convolution="windows over images, and what goes back through them",
             pooling="the mean and the maximum of each tile",
             softmax="scores become probabilities, and an error",
             dropout="numbers left out by chance",
             embedding="rows of a table for words"),
    _chapter(5, "tracing", "Tracing: a program is run once, and written down",
             ops="what type each op gives",
             graph="nodes in order, and a way to rebuild them",
             trace="tracers in place of arrays",
             interpret="what a graph means",
             jit="traced once for each kind of arguments"),
    _chapter(6, "ir", "The IR: graphs as text, rules and hashes",
             text="a graph printed",
             parser="and read back",
             verifier="rules that every graph keeps",
             structural_hash="the same program, whatever it is called"),
    _chapter(7, "passes", "Passes: derivatives, dead code, and rules that keep every bit",
             rules="the derivative of each op, in ops",
             gradient="reverse mode, from graph to graph",
             dce="what nobody needs goes",
             cse="what is computed twice is computed once",
             simplify="rules that keep every bit"),
    _chapter(8, "fusion", "Fusion: many ops, one walk through memory",
             decompose="a product of matrices as what it means",
             groups="which ops become one kernel",
             fuse="groups become nodes with regions",
             traffic="what it saves"),
    _chapter(9, "codegen", "Code: loops, addresses, and LLVM",
             lower="a region becomes loops",
             emit="loops become LLVM IR",
             plan="memory between kernels",
             compiler="all of it in order"),
    _chapter(10, "yours", "Yours: an op, a pass and a backend in Flambeau itself",
             own_op="an op in one declaration",
             own_pass="a rule and the pass it makes",
             own_backend="a backend that keeps account"),
)
EXERCISES = tuple(exercise for chapter in CHAPTERS for exercise in chapter.exercises)


def exercise_of(number: str) -> Exercise:
    """The exercise called "3.2". Raises LookupError, with those that are near."""
    by_number = {exercise.number: exercise for exercise in EXERCISES}
    if number not in by_number:
        near = difflib.get_close_matches(number, by_number, 3, 0.3)
        raise LookupError(f"there is no exercise {number!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
                          + " (python -m flambeau course list)")
    return by_number[number]
