"""The demo's progress bar, closing account, layout and pictures, without training anything."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from flambeau.demo.account import Comparison, account_of, seconds, size
from flambeau.demo.layout import place_in_layers, role_of_nodes
from flambeau.ir.graph import Graph, Value
from flambeau.ir.ops import elementwise
from flambeau.ir.types import parse_type
from flambeau.progress import ProgressBar


class Terminal(io.StringIO):
    encoding = "ascii"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_bar_without_terminal_is_ten_plain_lines() -> None:
    stream = io.StringIO()
    with ProgressBar(440, stream=stream) as bar:
        for done in range(1, 441):
            bar.update(done, "loss 0.5")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert "\r" not in stream.getvalue()
    assert "440/440  loss 0.5" in lines[-1]


@pytest.mark.parametrize("total", [1, 3, 7])
def test_short_bar_without_terminal_tells_every_step(total: int) -> None:
    stream = io.StringIO()
    with ProgressBar(total, stream=stream) as bar:
        for done in range(1, total + 1):
            bar.update(done, "")
    assert len(stream.getvalue().splitlines()) == total


def test_bar_on_terminal_rewrites_one_line_and_ends_it() -> None:
    stream = Terminal()
    with ProgressBar(4, stream=stream) as bar:
        for done in range(1, 5):
            bar.update(done, "")
    said = stream.getvalue()
    assert said.count("\n") == 1
    assert said.endswith("\n")
    assert "#" * 24 + " 4/4" in said


def test_bar_on_terminal_is_there_before_the_first_step() -> None:
    stream = Terminal()
    with ProgressBar(4, "epochs", stream) as bar:
        assert stream.getvalue().endswith(". 0/4  compiling")
        time.sleep(0.06)
        bar.update(1, "loss 0.5")
        assert stream.getvalue().endswith(". 1/4  loss 0.5  compiling")
        time.sleep(0.06)
        bar.update(3, "")
        assert stream.getvalue().endswith(" epochs/s")


def test_bar_on_terminal_ends_its_line_when_interrupted() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), ProgressBar(4, stream=stream) as bar:
        bar.update(1, "")
        raise KeyboardInterrupt
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 us"), (4.2e-4, "420 us"), (0.0421, "42.1 ms"), (4.2, "4.20 s")]
)
def test_seconds_read_well(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB")]
)
def test_sizes_read_well(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text


@dataclass
class Stats:
    n_ops_traced: int = 312
    n_kernels: int = 41
    compile_seconds: float = 0.6
    trace_seconds: float = 0.1
    passes_seconds: float = 0.2
    codegen_seconds: float = 0.3
    arena_bytes: int = 2 << 20
    state_bytes: int = 3 << 10
    recompiles: int = 0
    load_seconds: float = 0.004
    from_disk: bool = False


def test_account_tells_ops_kernels_times_and_files() -> None:
    comparison = Comparison(0.002, 0.04, n_compared=6, largest_difference=2e-7)
    told = account_of(Stats(), comparison, 440, [(Path("out/loss.png"), "the loss curve")])
    for part in ("312 operations", "41 kernels", "600.0 ms", "2.0 ms compiled, 40.0 ms eagerly: 20.0x"):
        assert part in told
    for part in (
        "agree with eager ones to 2e-07",
        "2.0 MiB",
        "3.0 KiB",
        "never compiled again",
        "the loss curve",
    ):
        assert part in told


def test_account_admits_recompiles() -> None:
    comparison = Comparison(1, 1, n_compared=1, largest_difference=0)
    assert "compiled again 2 times" in account_of(Stats(recompiles=2), comparison, 1, [])


def test_account_says_what_an_earlier_run_compiled() -> None:
    comparison = Comparison(1, 1, n_compared=1, largest_difference=0)
    assert "by an earlier run, and found on disk in 4.0 ms" in account_of(Stats(from_disk=True), comparison, 1, [])


def small_step() -> tuple[Graph, dict[str, Value]]:
    """y = exp(x * w); its derivative; w updated by it."""
    graph = Graph()
    kind = parse_type("f32[8]")
    x, w = graph.add_input(kind, "x"), graph.add_input(kind, "w", "state")
    product = graph.append(elementwise.mul, [x, w]).result
    y = graph.append(elementwise.exp, [product]).result
    gradient = graph.append(elementwise.mul, [y, x], phase="backward").result
    updated = graph.append(elementwise.sub, [w, gradient]).result
    graph.outputs, graph.writes = [y], {w: updated}
    return graph, {"x": x, "w": w, "product": product, "y": y, "gradient": gradient, "updated": updated}


def test_roles_follow_phase_and_what_reads_a_derivative() -> None:
    graph, values = small_step()
    role_of = role_of_nodes(graph)
    roles = {name: role_of[value.node] for name, value in values.items()}
    assert roles == {
        "x": "input",
        "w": "state",
        "product": "forward",
        "y": "forward",
        "gradient": "backward",
        "updated": "update",
    }


def test_layers_put_operands_left_of_users_and_nothing_on_top_of_another() -> None:
    graph, _ = small_step()
    order = graph.toposort()
    placement = place_in_layers(nx.DiGraph(graph), order)
    for producer, consumer in graph.edges():
        assert placement.position_of[producer][0] < placement.position_of[consumer][0]
    assert len(set(placement.position_of.values())) == len(order)
    assert placement.n_layers == 5


def test_empty_graph_has_a_placement() -> None:
    placement = place_in_layers(nx.DiGraph(), [])
    assert (placement.position_of, placement.tallest) == ({}, 0)


def test_pictures_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from flambeau.demo import pictures

    graph, _ = small_step()
    rng = np.random.default_rng(0)
    labels = np.arange(10)
    pictures.draw_losses([2.0, 1.0, 0.5, 0.4, 0.3], 2, tmp_path / "loss.png")
    pictures.draw_digits(rng.random((10, 1, 8, 8)), labels, labels[::-1], tmp_path / "digits.png")
    pictures.draw_graph(graph, tmp_path / "graph.png", "A step")
    for name in ("loss.png", "digits.png", "graph.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_graph_picture_labels_inputs_by_name_and_ops_by_op() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from flambeau.demo.pictures import label_of

    _, values = small_step()
    assert [label_of(values[name].node) for name in ("x", "w", "product")] == ["x", "w", "mul"]
