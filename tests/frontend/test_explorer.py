"""The explorer: what it holds is what was compiled, and a browser shows it (Chromium, where there is one)."""

from __future__ import annotations

import base64
import functools
import html
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def read(path):
    """The data in a report."""
    packed = re.search(r'<script id="data"[^>]*>([^<]*)</script>', path.read_text(encoding="utf-8"))
    return json.loads(zlib.decompress(base64.b64decode(packed[1])))


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """(a compiled training step, the path of its report)."""
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.fc = nn.LayerNorm(16), nn.Linear(16, 4)

        def forward(self, x):
            return self.fc(self.norm(x))

    fb.manual_seed(0)
    model = Net()
    opt = optim.SGD(model.parameters(), lr=0.1)

    @fb.compile
    def train_step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    x, y = fb.randn(8, 16), fb.randint(0, 4, (8,))
    train_step(x, y)
    with fb.profile():
        train_step(x, y)
    path = tmp_path_factory.mktemp("report") / "report.html"
    train_step.report(path)
    return train_step, path


def test_it_needs_nothing_from_elsewhere(reported):
    text = reported[1].read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text and "src=" not in text and "@import" not in text


def test_every_level_is_there_and_edges_lead_back(reported):
    step, path = reported
    (program,) = read(path)["programs"]
    assert program["levels"][0]["name"] == "graph" and program["levels"][-1]["name"] == "fuse"
    assert len(program["levels"][0]["nodes"]) == len(step.graph("graph"))
    for level in program["levels"]:
        for number, node in enumerate(level["nodes"]):
            assert all(other < number for other in node["o"]), "operands come before what reads them"
            assert -1 <= node["l"] < len(program["locs"]) and 0 <= node["g"] < len(program["paths"])
            assert all(s < len(program["levels"][0]["nodes"]) for s in node["s"])
    modules = {loc[3] for loc in program["locs"]}
    assert {"net.norm", "net.fc"} <= modules
    assert ["forward", "net", "net.fc"] in program["paths"] and ["optimizer step"] in program["paths"]


def test_kernels_have_words_work_times_and_code(reported):
    step, path = reported
    data = read(path)
    (program,) = data["programs"]
    memory = step.signatures[0].compiled.memory
    assert len(program["calls"]) == len(memory.calls) and len(data["peaks"]) == 3
    for call in program["calls"]:
        assert call["words"] and call["us"] >= 0 and call["bytes"] > 0
        texts = program["texts"][call["text"]]
        assert set(texts) == {"loops", "llvm", "asm"} and "define" in texts["llvm"] and call["kind"] in texts["loops"]
    fusions = {node["f"] for node in program["levels"][-1]["nodes"]} - {-1}
    assert {call["fusion"] for call in program["calls"]} - {-1} == fusions


def test_memory_times_sources_and_words_are_there(reported):
    step, path = reported
    (program,) = read(path)["programs"]
    assert program["memory"]["bytes"] == step.stats().arena_bytes
    assert all(0 <= a <= b < program["memory"]["steps"] for a, b, *_ in program["memory"]["lives"])
    assert {name for name, _, _ in program["times"]} >= {"trace", "passes", "fuse", "lowering", "machine code"}
    (source,) = program["files"].values()
    assert source == "\n".join(Path(__file__).read_text(encoding="utf-8").splitlines())
    assert program["explain"].startswith("train_step: 1 signature") and program["rules"]


def test_backwards_are_programs_of_their_own(tmp_path):
    w = nn.Parameter(fb.ones(4, 4))
    f = fb.compile(lambda x: (x @ w).sum())
    f(fb.ones(2, 4)).backward()
    f.report(tmp_path / "report.html")
    data = read(tmp_path / "report.html")
    assert [program["name"] for program in data["programs"]] == ["<lambda>", "<lambda> backward"] and "peaks" not in data
    assert "<title>&lt;lambda&gt;</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_functions_with_loops_are_reported(tmp_path):
    f = fb.compile(lambda x: fb.while_loop(lambda x: x.sum() > 1, lambda x: (x / 2,), (x,)))
    f(fb.ones(8))
    f.report(tmp_path / "report.html")
    (program,) = read(tmp_path / "report.html")["programs"]
    assert any(node["n"] == "while_loop" for node in program["levels"][0]["nodes"])


def test_what_was_not_called_has_no_report(tmp_path):
    with pytest.raises(RuntimeError, match="not called yet"):
        fb.compile(lambda x: x).report(tmp_path / "report.html")


def test_command_runs_a_script_and_reports(tmp_path):
    script = tmp_path / "small.py"
    script.write_text("import sys\nimport flambeau as fb\n\n@fb.compile\ndef doubled(x):\n    return x * 2\n\n"
                      "print(doubled(fb.ones(3)).sum().item() * int(sys.argv[1]))\n")
    environment = os.environ | {"PYTHONPATH": str(Path(fb.__file__).parents[1])}
    run = functools.partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    done = run([sys.executable, "-m", "flambeau", "explain", str(script), "--", "7"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("42.0\ndoubled: 1 signature") and "wrote small-report.html" in done.stdout
    assert read(tmp_path / "small-report.html")["programs"][0]["name"] == "doubled"
    script.write_text("raise SystemExit(3)\n")
    done = run([sys.executable, "-m", "flambeau", "explain", str(script)])
    assert done.returncode == 3 and "nothing to explain" in done.stderr


# -- in a browser -----------------------------------------------------------------------------------------------------

ACTIONS = """
<script>
const problems = [];
addEventListener("error", (event) => problems.push(event.message));
addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
const frame = () => new Promise((done) => setTimeout(() => { paint(); done(); }, 20));       // no screen, no frames
const found = {};
(async () => {
  while (!document.body.dataset.ready) await new Promise((done) => setTimeout(done, 20));
  Object.assign(found, {ms: performance.now(), levels: program.levels.length});
  await frame();
  found.drawn = drawn.length;
  $("later").click(); await frame();
  found.after = $("levelname").textContent;
  setLevel(program.levels.length - 1); await frame();
  $("open").click(); await frame();
  found.open = drawn.length;
  const n = program.levels[level].nodes.findIndex((node) => node.n === "matmul");
  pick(n, true); await frame();
  found.side = $("side").innerText;
  const there = drawn.find((d) => d.n === n);
  found.hit = at(there.x + there.w / 2, there.y + there.h / 2).n === n;
  const code = [...$("side").querySelectorAll("button")].find((button) => button.textContent === "assembly");
  code.click();
  found.code = $("side").querySelector("pre:last-of-type").textContent.slice(0, 4000);
  $("search").value = "net.norm"; $("search").dispatchEvent(new Event("input")); await frame();
  found.matches = matches.size;
  $("close").click(); await frame();
  found.closed = drawn.length;
  for (const name of ["kernels", "memory", "compile", "roofline", "source", "summary", "graph"]) {
    show(name);
    await frame();
  }
  found.rows = $("kernels").querySelectorAll("tbody tr").length;
  found.areas = [$("memorycanvas").areas.length, $("roofcanvas").areas.length];
  $("source").querySelector(".src:not(:disabled)").click(); await frame();
  found.line = $("side").innerText;
  document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "[", bubbles: true}));
  found.back = $("levelname").textContent;
})().catch((error) => problems.push(error.stack)).finally(() => {
  document.body.dataset.found = JSON.stringify({...found, problems});
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("size", ["1300,900", "380,760"])
def test_it_works_in_a_browser(reported, tmp_path, size):
    step, path = reported
    page = tmp_path / "page.html"
    page.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{ACTIONS}</body>"), encoding="utf-8")
    done = subprocess.run([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={size}",
                           f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
                           page.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    seen = json.loads(html.unescape(found[1]))
    assert seen["problems"] == [] and seen["levels"] >= 3 and seen["drawn"] > 5
    assert seen["after"].startswith("after ") and seen["hit"]
    assert "Linear" in seen["side"] and "kernel" in seen["side"] and "test_explorer.py" in seen["side"]
    assert ".text" in seen["code"] and seen["matches"] > 3
    assert seen["closed"] <= 6 and seen["rows"] == len(step.signatures[0].compiled.memory.calls)
    assert all(seen["areas"]) and "nodes after fuse" in seen["line"] and not seen["back"].startswith("after fuse")
