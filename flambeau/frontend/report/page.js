"use strict";
// The explorer. `data` is what data.py made; nothing is fetched. A group that is closed is one box, and what is not on the
// screen is not drawn, so that a frame costs what can be seen and no more.
const $ = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") element.addEventListener("click", value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
};
const unit = (x, units) => { for (const [scale, name] of units) if (x >= scale) return `${(x / scale).toPrecision(3)} ${name}`; return `${x} ${units.at(-1)[1]}`; };
const flops = (x) => x ? unit(x, [[1e12, "TFLOP"], [1e9, "GFLOP"], [1e6, "MFLOP"], [1e3, "kFLOP"], [1, "FLOP"]]) : "";
const bytes = (x) => x ? unit(x, [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]]) : "";
const ms = (s) => s >= 1 ? `${s.toFixed(2)} s` : s >= 1e-3 ? `${(1e3 * s).toFixed(1)} ms` : `${(1e6 * s).toFixed(0)} us`;
const LETTER = 7, BOLD = 8.2, PAD = 14, GAP = 16, HEAD = 26, NODE = 34, SHUT = 40, ROW = 1500, LEGIBLE = 10;
const PHASES = ["input", "forward", "backward"];
let data, program, level = 0, picked = -1, pickedLine = null, matches = new Set(), tab = "graph";
let view = {x: 0, y: 0, s: 1}, closed = new Set(), opened = new Set(), drawn = [], colors = {}, waiting = false, rep;

async function begin() {
  const packed = Uint8Array.from(atob($("data").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  data = JSON.parse(await new Response(stream).text());
  for (const [number, p] of data.programs.entries()) $("program").append(make("option", {value: number}, p.name));
  $("program").hidden = data.programs.length < 2;
  for (const name of ["graph", "kernels", "memory", "compile", "roofline", "source", "summary"])
    $("tabs").append(make("button", {id: `tab-${name}`, role: "tab", on: () => show(name)}, name[0].toUpperCase() + name.slice(1)));
  listen();
  choose(0);
  document.body.dataset.ready = "true";
}

// -- layout ----------------------------------------------------------------------------------------------------------
// Layers from the top down: what reads stands below what it reads. Longest paths give the layers (Sugiyama, Tagawa, Toda,
// 1981), the mean of what an item reads its place in one. A group is laid out by itself and is one box among its neighbours;
// groups that read one another both ways keep the order in which they began.

function tree(l) {                       // the groups of a level, made once
  if (l.root) return l.root;
  const root = {name: "", path: "", depth: 0, groups: new Map(), nodes: [], all: [], edges: new Map()};
  const around = l.nodes.map((node, n) => {
    let group = root;
    const line = [root];
    root.all.push(n);
    for (const name of program.paths[node.g]) {
      if (!group.groups.has(name)) group.groups.set(name, {name, path: `${group.path}/${name}`, depth: group.depth + 1, groups: new Map(), nodes: [], all: [], edges: new Map()});
      group = group.groups.get(name);
      group.all.push(n);
      line.push(group);
    }
    group.nodes.push({n, width: Math.max(46, Math.max(node.n.length * BOLD, Math.min(node.t.length, 40) * 5.6) + PAD), height: NODE});
    return line;
  });
  l.nodes.forEach((node, n) => node.o.forEach((o) => {
    let depth = 0;
    while (depth + 1 < around[n].length && depth + 1 < around[o].length && around[n][depth + 1] === around[o][depth + 1]) depth++;
    const end = (line, number) => line[depth + 1] || number, source = end(around[o], o), target = end(around[n], n), edges = around[n][depth].edges;
    if (source !== target) { if (!edges.has(target)) edges.set(target, new Set()); edges.get(target).add(source); }
  }));
  return l.root = root;
}

function arrange(group) {                // sizes, and places within the group around
  const items = [];
  for (const inner of group.groups.values()) {
    if (isOpen(inner)) arrange(inner); else { inner.width = Math.max(110, inner.name.length * LETTER + 60); inner.height = SHUT; const call = callOf(inner); if (call !== null) inner.width = Math.max(inner.width, Math.min(380, program.calls[call].words.length * LETTER + 50)); }
    items.push({key: inner, box: inner, first: inner.all[0]});
  }
  for (const node of group.nodes) items.push({key: node.n, box: node, first: node.n});
  items.sort((a, b) => a.first - b.first);
  const order = new Map(items.map((item, i) => [item.key, i])), layers = [], layerOf = new Map(), middle = new Map(), reads = new Map();
  for (const item of items) {
    const read = [...(group.edges.get(item.key) || [])].filter((other) => order.get(other) < order.get(item.key));
    const layer = read.reduce((most, other) => Math.max(most, layerOf.get(other) + 1), 0);
    reads.set(item.key, read); layerOf.set(item.key, layer);
    (layers[layer] ||= []).push(item);
  }
  let y = group.depth ? HEAD : PAD, width = 0;
  for (const layer of layers) {
    const mean = new Map(layer.map((item) => [item, reads.get(item.key).reduce((sum, other) => sum + middle.get(other), 0) / (reads.get(item.key).length || 1)]));
    layer.sort((a, b) => mean.get(a) - mean.get(b) || a.first - b.first);
    let x = PAD, tallest = 0;
    for (const {key, box} of layer) {
      if (x > PAD && x + box.width > ROW) { x = PAD; y += tallest + GAP; tallest = 0; }
      box.x = x; box.y = y; middle.set(key, x + box.width / 2);
      x += box.width + GAP; tallest = Math.max(tallest, box.height); width = Math.max(width, x - GAP + PAD);
    }
    y += tallest + GAP * 1.75;
  }
  group.width = Math.max(width, group.name.length * LETTER + 70); group.height = y - GAP * 0.75;
}

function settle(group, x, y) {           // places in the drawing
  for (const inner of group.groups.values()) { inner.x += x; inner.y += y; if (isOpen(inner)) settle(inner, inner.x, inner.y); }
  for (const node of group.nodes) { node.x += x; node.y += y; }
}

function layOut() {
  const root = tree(program.levels[level]);
  arrange(root); root.x = root.y = 0; settle(root, 0, 0);
  const stand = (box) => {               // what is drawn for each node
    if (box.depth > 0 && !isOpen(box)) { for (const n of box.all) rep[n] = box; return; }
    for (const inner of box.groups.values()) stand(inner);
    for (const node of box.nodes) rep[node.n] = node;
  };
  stand(root);
}

function isOpen(group) {                 // unless somebody said: the whole, and the outermost Modules
  if (opened.has(group.path)) return true;
  return !closed.has(group.path) && (group.all.length <= 16 || group.depth <= 2 && group.name !== "inputs" && group.groups.size > 0);
}

function choose(number) {
  program = data.programs[number];
  program.users = program.levels.map((l) => { const users = l.nodes.map(() => []); l.nodes.forEach((n, i) => n.o.forEach((o) => users[o].push(i))); return users; });
  program.keys = program.levels.map((l) => new Set(l.nodes.map((n) => n.k)));
  program.rulesOf = new Map();
  program.rules.forEach(([pass, rule, ops]) => ops.forEach((op) => { if (!program.rulesOf.has(op)) program.rulesOf.set(op, []); program.rulesOf.get(op).push(`${pass}: ${rule}`); }));
  $("level").max = program.levels.length - 1;
  picked = -1; pickedLine = null; closed = new Set(); opened = new Set();
  setLevel(0, true); show(tab); side();
}

function setLevel(number, refit = false) {
  const before = program.levels[level]?.nodes[picked];
  level = Math.max(0, Math.min(program.levels.length - 1, number));
  const l = program.levels[level];
  picked = !before || refit ? -1 : l.nodes.findIndex((n) => n.k === before.k);
  if (picked < 0 && before && !refit) picked = l.nodes.findIndex((n) => n.s.some((s) => before.s.includes(s)));
  $("level").value = level;
  $("levelname").textContent = `${level ? "after " : ""}${l.name} (${l.nodes.length} nodes)`;
  rep = new Array(l.nodes.length).fill(null);
  layOut();
  search();
  if (refit) fit(); else draw();
  side();
}

function show(name) {
  tab = name;
  for (const button of $("tabs").children) button.setAttribute("aria-selected", button.id === `tab-${name}`);
  for (const pane of document.querySelectorAll(".pane")) pane.hidden = pane.id !== name;
  ({graph: draw, kernels: kernelsPane, memory: memoryPane, compile: compilePane, roofline: rooflinePane, source: sourcePane, summary: summaryPane})[name]();
}

// -- the graph -------------------------------------------------------------------------------------------------------

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["bg", "panel", "ink", "soft", "line", "accent", "input", "forward", "backward", "forward-line", "backward-line", "input-line", "group", "new", "gone", "pick", "edge"])
    colors[name] = style.getPropertyValue(`--${name}`).trim();
}

function sized(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

function fit(box = tree(program.levels[level])) {
  const canvas = $("canvas"), width = canvas.clientWidth || 800, height = canvas.clientHeight || 600;
  view.s = Math.min(1.6, Math.max(0.02, Math.min(width / (box.width + 40), height / (box.height + 40))));
  if (view.s < 0.45) view.s = Math.min(0.45, Math.max(view.s, width / (box.width + 40)));      // readable, from the top
  view.x = width / 2 - (box.x + box.width / 2) * view.s;
  view.y = box.height * view.s > height ? 12 - box.y * view.s : height / 2 - (box.y + box.height / 2) * view.s;
  draw();
}

function draw() { if (!waiting) { waiting = true; requestAnimationFrame(paint); } }

function paint() {
  waiting = false;
  if (tab !== "graph" || !program) return;
  readColors();
  const [context, width, height] = sized($("canvas")), l = program.levels[level];
  drawn = [];
  const items = [];
  const visit = (box) => {
    const x = box.x * view.s + view.x, y = box.y * view.s + view.y, w = box.width * view.s, h = box.height * view.s;
    const shut = box.depth > 0 && !isOpen(box), item = {box, x, y, w, h, shut, depth: box.depth};
    if (x > width || y > height || x + w < 0 || y + h < 0) return;
    if (box.depth > 0) { items.push(item); drawn.push(item); }
    if (shut) return;
    for (const inner of box.groups.values()) visit(inner);
    for (const node of box.nodes) {
      const shown = {n: node.n, node, x: node.x * view.s + view.x, y: node.y * view.s + view.y, w: node.width * view.s, h: NODE * view.s};
      if (shown.x > width || shown.y > height || shown.x + shown.w < 0 || shown.y + shown.h < 0) continue;
      items.push(shown); drawn.push(shown);
    }
  };
  visit(tree(l));
  const before = level ? program.keys[level - 1] : null, after = level + 1 < program.levels.length ? program.keys[level + 1] : null;
  for (const item of items) if (item.box) paintGroup(context, item, l);
  paintEdges(context, l, items);
  for (const item of items) if (!item.box) paintNode(context, item, l.nodes[item.n], before, after);
}

function outline(context, x, y, w, h, radius) {      // without corners where they are no wider than its line
  context.beginPath();
  if (h < 8) context.rect(x, y, w, h); else context.roundRect(x, y, w, h, Math.min(radius, w / 4, h / 4));
}

function paintGroup(context, {box, x, y, w, h, shut}, l) {
  const kind = /^\/(forward|backward|inputs)/.exec(box.path)?.[1];
  context.fillStyle = shut ? colors[kind === "backward" ? "backward" : kind === "inputs" ? "input" : "forward"] : colors.group;
  context.strokeStyle = picked >= 0 && box.all.includes(picked) ? colors.pick : colors.line;
  context.lineWidth = 1;
  outline(context, x, y, w, h, 8); context.fill(); context.stroke();
  if (matches.size && shut && box.all.some((n) => matches.has(n))) { context.strokeStyle = colors.accent; context.lineWidth = 2; context.stroke(); }
  if (shut ? h > LEGIBLE : HEAD * view.s > 8) {
    const call = callOf(box), words = call === null ? `${box.name}${shut ? ` (${box.all.length})` : ""}` : `#${call} ${program.calls[call].words}`;
    context.fillStyle = shut ? colors.ink : colors.soft;
    context.font = `${shut ? "" : "600 "}${Math.max(3, Math.min(14, 13 * view.s))}px system-ui, sans-serif`;
    context.save(); context.beginPath(); context.rect(x, y, w - 4, h); context.clip();
    context.fillText(words, x + 8 * view.s, y + (shut ? h / 2 + 5 * view.s : 17 * view.s));
    context.restore();
  }
}

function callOf(box) {                   // the kernel call that a group of the fused graph became
  const found = /^(\w+) (\d+)$/.exec(box.name);
  if (!found || program.levels[level].nodes[box.all[0]]?.f !== Number(found[2])) return null;
  const call = program.calls.findIndex((c) => c.fusion === Number(found[2]));
  return call < 0 ? null : call;
}

function paintEdges(context, l, items) {
  if (items.length > 6000) return;
  const seen = new Set();
  let count = 0;
  const path = new Path2D(), bold = new Path2D();
  for (const item of items) {
    if (item.box && !item.shut) continue;
    for (const n of item.box ? item.box.all : [item.n]) {
      for (const o of l.nodes[n].o) {
        const source = rep[o];
        if (source === (item.box || item.node)) continue;
        const special = n === picked || o === picked;
        const id = (source.path ?? source.n) + ">" + (item.box ? item.box.path : item.n);
        if (seen.has(id) && !special || ++count > 5000 && !special) continue;
        seen.add(id);
        const x = (source.x + source.width / 2) * view.s + view.x, y = (source.y + source.height) * view.s + view.y, u = item.x + item.w / 2, v = item.y, bend = Math.max(8, Math.abs(v - y) / 2.2);
        const to = special ? bold : path;
        if (!special && Math.abs(u - x) + Math.abs(v - y) < 2) continue;       // a dot
        to.moveTo(x, y); if (Math.abs(v - y) < 12) to.lineTo(u, v); else to.bezierCurveTo(x, y + bend, u, v - bend, u, v);
      }
    }
  }
  context.strokeStyle = colors.edge; context.globalAlpha = 0.55; context.lineWidth = 1; context.stroke(path);
  context.globalAlpha = 1; context.strokeStyle = colors.pick; context.lineWidth = 2; context.stroke(bold);
}

function paintNode(context, {n, x, y, w, h}, node, before, after) {
  const phase = PHASES[node.p];
  context.fillStyle = colors[phase];
  context.strokeStyle = n === picked ? colors.pick : matches.has(n) ? colors.accent : before && !before.has(node.k) ? colors.new : after && !after.has(node.k) ? colors.gone : colors[`${phase}-line`];
  const special = n === picked || matches.has(n);
  context.lineWidth = special ? 3 : before && !before.has(node.k) || after && !after.has(node.k) ? 2 : 1;
  if (matches.size && !special) context.globalAlpha = 0.45;
  outline(context, x, y, w, h, 6); context.fill(); context.stroke();
  if (h > LEGIBLE) {
    context.fillStyle = colors.ink;
    context.font = `600 ${Math.min(13, 12.5 * view.s)}px system-ui, sans-serif`;
    context.save(); context.beginPath(); context.rect(x, y, w - 2, h); context.clip();
    context.fillText(node.n, x + 6 * view.s, y + 15 * view.s);
    context.fillStyle = colors.soft;
    context.font = `${Math.min(11, 10 * view.s)}px system-ui, sans-serif`;
    context.fillText(node.t, x + 6 * view.s, y + 28 * view.s);
    context.restore();
  }
  context.globalAlpha = 1;
}

function at(x, y) {                      // the innermost thing there
  for (let i = drawn.length - 1; i >= 0; i--) {
    const d = drawn[i];
    if (!d.box && x >= d.x && x <= d.x + d.w && y >= d.y && y <= d.y + d.h) return d;
  }
  let found = null;
  for (const d of drawn) if (d.box && x >= d.x && x <= d.x + d.w && y >= d.y && y <= d.y + d.h && (!found || d.depth > found.depth)) found = d;
  return found;
}

function zoom(factor, x, y) {
  const s = Math.min(4, Math.max(0.005, view.s * factor));
  view.x = x - (x - view.x) * s / view.s; view.y = y - (y - view.y) * s / view.s; view.s = s;
  draw();
}

function pick(n, center = false) {
  picked = n; pickedLine = null;
  if (center && n >= 0) {
    if (tab !== "graph") show("graph");
    let group = tree(program.levels[level]), node;
    for (;;) {
      node = group.nodes.find((m) => m.n === n);
      if (node) break;
      group = [...group.groups.values()].find((g) => g.all.includes(n));
      closed.delete(group.path); opened.add(group.path);
    }
    layOut();
    const canvas = $("canvas");
    view.s = Math.max(view.s, 0.8);
    view.x = canvas.clientWidth / 2 - (node.x + node.width / 2) * view.s; view.y = canvas.clientHeight / 2 - (node.y + 17) * view.s;
  }
  draw(); side();
}

function toggle(box) {                   // its corner stays where it is
  const x = box.x, y = box.y;
  if (isOpen(box)) { opened.delete(box.path); closed.add(box.path); } else { closed.delete(box.path); opened.add(box.path); }
  layOut();
  view.x += (x - box.x) * view.s; view.y += (y - box.y) * view.s;
  draw();
}

function groups(visit, box = tree(program.levels[level])) { for (const g of box.groups.values()) { visit(g); groups(visit, g); } }

function search() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  matches = new Set();
  if (!program || !words.length) { draw(); return; }
  program.levels[level].nodes.forEach((node, n) => {
    const loc = program.locs[node.l], text = `${node.n} ${node.a} ${node.t} ${loc ? `${loc[0]}:${loc[1]} ${loc[3]} ${loc[4]}` : ""}`.toLowerCase();
    if (words.every((word) => text.includes(word))) matches.add(n);
  });
  draw();
}

// -- what is picked --------------------------------------------------------------------------------------------------

const chip = (l, n) => make("button", {on: () => pick(n, true)}, `${l.nodes[n].n} ${l.nodes[n].t}`.slice(0, 40));
const chips = (l, list) => make("div", {class: "chips"}, ...list.slice(0, 40).map((n) => chip(l, n)), ...(list.length > 40 ? [`and ${list.length - 40} more`] : []));

function side() {
  const out = $("side"), l = program.levels[level];
  out.replaceChildren();
  if (pickedLine) return lineSide(out, l, ...pickedLine);
  if (matches.size && picked < 0) { out.append(make("h2", {}, `${matches.size} found`), chips(l, [...matches])); return; }
  if (picked < 0) {
    out.append(make("h2", {}, program.name), make("p", {class: "soft"}, "Click a node or a group; double-click a group to open or close it. The slider goes through the passes; green is new in a pass, red is gone in the next."));
    out.append(make("p", {}, `${program.levels[0].nodes.length} nodes traced, ${program.calls.length} kernel calls, ${Object.keys(program.texts).length} distinct kernels, ${bytes(program.memory.bytes) || "no"} scratch memory.`));
    return;
  }
  const node = l.nodes[picked], loc = program.locs[node.l];
  out.append(make("h2", {}, node.n), make("div", {class: "mono"}, node.t), make("div", {class: "soft"}, PHASES[node.p] + (node.a ? `, ${node.a}` : "")));
  if (loc) out.append(make("h2", {}, `${loc[3] ? `${loc[3]}: ` : ""}${loc[4] || "line"}`), sourceLines(loc[0], loc[1], 3));
  if (node.o.length) out.append(make("h2", {}, "reads"), chips(l, node.o));
  const users = program.users[level][picked];
  if (users.length) out.append(make("h2", {}, "read by"), chips(l, users));
  const rules = [...new Set(node.s.flatMap((s) => program.rulesOf.get(s) || []))];
  if (rules.length) out.append(make("h2", {}, "rules applied on the way"), make("pre", {}, rules.slice(0, 30).join("\n")));
  const first = program.levels[0];
  if (level && node.s.length) out.append(make("h2", {}, "stands for, as traced"), make("div", {class: "chips"}, ...node.s.filter((s) => first.nodes[s]).slice(0, 20).map((s) => make("button", {on: () => { setLevel(0); pick(s, true); }}, first.nodes[s].n))));
  const calls = callsOf(node);
  if (calls.length) for (const call of calls.slice(0, 3)) kernel(out, call);
}

function callsOf(node) {
  if (node.f >= 0) return program.calls.flatMap((c, i) => c.fusion === node.f ? [i] : []);
  const last = program.levels.at(-1), wanted = new Set(node.s), fusions = new Set();
  for (const n of last.nodes) if (n.f >= 0 && n.s.some((s) => wanted.has(s))) fusions.add(n.f);
  return program.calls.flatMap((c, i) => fusions.has(c.fusion) ? [i] : []);
}

function kernel(out, number) {
  const call = program.calls[number], texts = program.texts[call.text], pre = make("pre", {}, texts.loops);
  const told = [call.kind, `over ${call.space}`, flops(call.flops), bytes(call.bytes), call.flops && call.bytes ? `${(call.flops / call.bytes).toFixed(2)} FLOP/B` : "", call.us !== null ? `${call.us.toFixed(1)} us` : "", share(call) !== null ? `${(100 * share(call)).toFixed(0)} % of peak` : ""];
  out.append(make("h2", {}, `kernel ${number}: ${call.words}`), make("div", {class: "soft"}, told.filter(Boolean).join(", ")));
  const apart = program.unfused.filter(([a, b]) => a === number || b === number).slice(0, 6);
  for (const [a, b, why] of apart) out.append(make("div", {class: "soft"}, a === number ? `not fused into ${b}: ${why}` : `${a} not fused into it: ${why}`));
  out.append(make("div", {class: "chips"}, ...Object.keys(texts).map((name) => make("button", {on: () => { pre.textContent = texts[name]; }}, name === "loops" ? "loop IR" : name === "llvm" ? "LLVM IR" : name === "asm" ? "assembly" : name))), pre);
}

const share = (call) => call.us === null || !data.peaks ? null : Math.max(call.flops / data.peaks[0], call.bytes / data.peaks[1]) / (call.us * 1e-6);

function lineSide(out, l, file, line) {
  const locs = new Set(program.locs.flatMap((loc, i) => loc[0] === file && loc[1] === line ? [i] : []));
  const nodes = l.nodes.flatMap((n, i) => locs.has(n.l) ? [i] : []);
  const calls = program.calls.flatMap((c, i) => c.lines.includes(`${file}:${line}`) ? [i] : []);
  out.append(make("h2", {}, `${file}:${line}`), sourceLines(file, line, 2), make("h2", {}, `${nodes.length} nodes after ${l.name}`), chips(l, nodes), make("h2", {}, `${calls.length} kernels`));
  for (const call of calls.slice(0, 8)) kernel(out, call);
}

function sourceLines(file, line, around) {
  const lines = (program.files[file] || "").split("\n");
  const from = Math.max(1, line - around), to = Math.min(lines.length, line + around), box = make("div", {class: "mono"}, make("div", {class: "soft"}, `${file}:${line}`));
  for (let n = from; n <= to; n++) box.append(make("button", {class: n === line ? "src at" : "src", on: () => pickLine(file, n)}, make("span", {class: "no"}, String(n)), make("span"), make("span", {}, lines[n - 1])));
  return box;
}

function pickLine(file, line) {
  pickedLine = [file, line]; picked = -1;
  const locs = new Set(program.locs.flatMap((loc, i) => loc[0] === file && loc[1] === line ? [i] : []));
  matches = new Set(program.levels[level].nodes.flatMap((n, i) => locs.has(n.l) ? [i] : []));
  draw(); side();
}

// -- the other views -------------------------------------------------------------------------------------------------

let order = ["us", -1];
function kernelsPane() {
  const columns = [["number", "#"], ["us", "time, us"], ["flops", "FLOP"], ["bytes", "bytes"], ["peak", "of peak"], ["kind", "kind"], ["words", "what it does"]];
  const rows = program.calls.map((c, number) => ({...c, number, peak: share(c)}));
  const [by, way] = order, value = (row) => row[by] ?? -1;
  rows.sort((a, b) => way * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : b.number - a.number));
  const head = make("tr", {}, ...columns.map(([name, words]) => make("th", {class: name === "kind" || name === "words" ? "" : "n"}, make("button", {on: () => { order = [name, order[0] === name ? -order[1] : name === "words" || name === "kind" || name === "number" ? 1 : -1]; kernelsPane(); }}, words))));
  const body = rows.map((row) => {
    const tr = make("tr", {tabindex: 0, on: () => { $("side").replaceChildren(); kernel($("side"), row.number); }}, ...[row.number, row.us === null ? "" : row.us.toFixed(1), flops(row.flops), bytes(row.bytes), row.peak === null ? "" : `${(100 * row.peak).toFixed(0)} %`].map((x) => make("td", {class: "n"}, String(x))), make("td", {}, row.kind), make("td", {}, row.words, make("div", {class: "soft"}, row.lines.slice(0, 3).join(", "))));
    tr.addEventListener("keydown", (event) => { if (event.key === "Enter") tr.click(); });
    return tr;
  });
  $("kernels").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
  if (!rows.some((row) => row.us !== null)) $("kernels").prepend(make("p", {class: "soft"}, "No times: call the function under fb.profile() before the report is made."));
}

function memoryPane() {
  readColors();
  const canvas = $("memorycanvas"), [context, width, height] = sized(canvas), m = program.memory, left = 70, top = 34, bottom = 26;
  const x = (step) => left + (width - left - 12) * step / Math.max(1, m.steps), y = (offset) => height - bottom - (height - top - bottom) * offset / Math.max(1, m.bytes);
  context.font = "12px system-ui, sans-serif"; context.fillStyle = colors.ink;
  context.fillText(`scratch memory: ${bytes(m.bytes) || "none"} (${bytes(m.unshared) || "none"} without sharing), over ${m.steps} kernel calls`, left, 18);
  canvas.areas = m.lives.map(([first, last, offset, size, words]) => {
    const area = {x: x(first), y: y(offset + size), w: x(last + 1) - x(first), h: y(offset) - y(offset + size), first, words: `${words}: ${bytes(size)}, calls ${first} to ${last}`};
    context.fillStyle = colors[program.calls[first]?.phase === "backward" ? "backward" : "forward"];
    context.strokeStyle = colors[program.calls[first]?.phase === "backward" ? "backward-line" : "forward-line"];
    context.lineWidth = 0.6; context.fillRect(area.x, area.y, area.w, area.h); context.strokeRect(area.x, area.y, area.w, area.h);
    return area;
  });
  context.fillStyle = colors.soft;
  for (let i = 0; i <= 4; i++) context.fillText(bytes(m.bytes * i / 4) || "0", 6, y(m.bytes * i / 4) + 4);
  context.fillText("kernel calls, in order", left, height - 8);
}

function compilePane() {
  const most = Math.max(...program.times.map((t) => t[1]), 1e-9), total = program.times.filter((t) => t[2] === 0).reduce((sum, t) => sum + t[1], 0);
  let start = 0;
  const rows = program.times.map(([name, seconds, depth]) => {
    const from = depth ? inner : start;
    if (depth) inner += seconds; else { inner = start; start += seconds; }
    return make("div", {class: "stage"}, make("span", {style: `padding-left:${16 * depth}px`}, name), make("span", {class: "mono"}, ms(seconds)), make("div", {class: "bar", style: `margin-left:${98 * from / total}%;width:${98 * seconds / total}%;opacity:${depth ? 0.6 : 1}`}));
  });
  $("compile").replaceChildren(make("h2", {}, `compiled in ${ms(total)}`), ...rows);
}
let inner = 0;

function rooflinePane() {
  readColors();
  const canvas = $("roofcanvas"), [context, width, height] = sized(canvas), points = program.calls.map((c, number) => ({...c, number})).filter((c) => c.us && c.flops && c.bytes);
  context.font = "12px system-ui, sans-serif"; context.fillStyle = colors.ink;
  canvas.areas = [];
  if (!data.peaks || !points.length) { context.fillText("No times: call the function under fb.profile() before the report is made.", 20, 40); return; }
  const [peak, copy, by] = data.peaks, ridge = peak / copy;
  const xs = [ridge, ...points.map((c) => c.flops / c.bytes)], ys = [peak, ...points.map((c) => c.flops / c.us * 1e6)];
  const lx = Math.log10(Math.min(...xs)) - 0.3, hx = Math.log10(Math.max(...xs)) + 0.5, ly = Math.log10(Math.min(...ys)) - 0.3, hy = Math.log10(peak) + 0.4;
  const x = (v) => 70 + (width - 90) * (Math.log10(v) - lx) / (hx - lx), y = (v) => height - 40 - (height - 70) * (Math.log10(v) - ly) / (hy - ly);
  context.fillText(`${by}: ${flops(peak)}/s, ${bytes(copy)}/s`, 70, 18);
  context.strokeStyle = colors.ink; context.lineWidth = 1.5; context.beginPath();
  context.moveTo(x(10 ** lx), y(10 ** lx * copy)); context.lineTo(x(ridge), y(peak)); context.lineTo(x(10 ** hx), y(peak)); context.stroke();
  context.strokeStyle = colors.line; context.fillStyle = colors.soft; context.lineWidth = 1;
  for (let e = Math.ceil(lx); e <= hx; e++) { context.beginPath(); context.moveTo(x(10 ** e), 26); context.lineTo(x(10 ** e), height - 40); context.stroke(); context.fillText(`${10 ** e} FLOP/B`, x(10 ** e) - 20, height - 22); }
  for (let e = Math.ceil(ly); e <= hy; e++) { context.beginPath(); context.moveTo(70, y(10 ** e)); context.lineTo(width - 20, y(10 ** e)); context.stroke(); context.fillText(`${flops(10 ** e)}/s`, 4, y(10 ** e) + 4); }
  const total = points.reduce((sum, c) => sum + c.us, 0);
  for (const c of points) {
    const px = x(c.flops / c.bytes), py = y(c.flops / c.us * 1e6), r = 3 + 26 * Math.sqrt(c.us / total);
    context.fillStyle = colors[c.phase === "backward" ? "backward-line" : "forward-line"]; context.globalAlpha = 0.6;
    context.beginPath(); context.arc(px, py, r, 0, 7); context.fill(); context.globalAlpha = 1;
    canvas.areas.push({x: px - r, y: py - r, w: 2 * r, h: 2 * r, first: c.number, words: `#${c.number} ${c.words}: ${c.us.toFixed(1)} us, ${(100 * share(c)).toFixed(0)} % of peak`});
  }
}

function sourcePane() {
  const counts = new Map();
  program.levels[0].nodes.forEach((n) => { const loc = program.locs[n.l]; if (loc) counts.set(`${loc[0]}:${loc[1]}`, (counts.get(`${loc[0]}:${loc[1]}`) || 0) + 1); });
  const parts = Object.entries(program.files).map(([file, text]) => make("div", {class: "mono"}, make("h2", {}, file), ...text.split("\n").map((line, i) => {
    const hits = counts.get(`${file}:${i + 1}`);
    return make("button", {class: "src", disabled: !hits, on: () => pickLine(file, i + 1)}, make("span", {class: "no"}, String(i + 1)), make("span", {class: "hits"}, hits ? String(hits) : ""), make("span", {}, line));
  })));
  $("source").replaceChildren(make("p", {class: "soft"}, "How many traced ops each line has. Click a line for everything it became."), ...parts);
}

function summaryPane() { $("summary").replaceChildren(make("pre", {}, program.explain || `part of ${data.programs[0].name}`)); }

// -- hands -----------------------------------------------------------------------------------------------------------

function tip(event, words) {
  $("tip").hidden = !words;
  if (words) { $("tip").textContent = words; $("tip").style.left = `${Math.min(event.clientX + 12, innerWidth - 350)}px`; $("tip").style.top = `${event.clientY + 14}px`; }
}

function listen() {
  const canvas = $("canvas"), pointers = new Map();
  let moved = 0, spread = 0;
  const place = (event) => { const r = canvas.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; };
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), ...place(event)); }, {passive: false});
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pointers.set(event.pointerId, place(event)); moved = 0; spread = 0; });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event), last = pointers.get(event.pointerId);
    if (!last) { const d = at(x, y); tip(event, d && !d.box ? `${program.levels[level].nodes[d.n].n} : ${program.levels[level].nodes[d.n].t}` : d && d.shut ? `${d.box.name}: ${d.box.all.length} nodes` : ""); return; }
    pointers.set(event.pointerId, [x, y]);
    if (pointers.size === 2) {
      const [[ax, ay], [bx, by]] = [...pointers.values()], now = Math.hypot(ax - bx, ay - by);
      if (spread) zoom(now / spread, (ax + bx) / 2, (ay + by) / 2);
      spread = now;
    } else { view.x += x - last[0]; view.y += y - last[1]; draw(); }
    moved += Math.abs(x - last[0]) + Math.abs(y - last[1]);
  });
  canvas.addEventListener("pointerup", (event) => {
    pointers.delete(event.pointerId); spread = 0;
    if (moved > 5) return;
    const d = at(...place(event));
    if (d && !d.box) pick(d.n);
    else if (d) { const call = callOf(d.box); picked = -1; draw(); if (call !== null) { $("side").replaceChildren(); kernel($("side"), call); } else side(); }
    else pick(-1);
  });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", (event) => tip(event, ""));
  canvas.addEventListener("dblclick", (event) => { const d = at(...place(event)); if (d && d.box) toggle(d.box); });
  canvas.addEventListener("keydown", (event) => {
    const w = canvas.clientWidth, h = canvas.clientHeight, l = program.levels[level];
    const moves = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]};
    if (picked >= 0 && event.shiftKey && event.key === "ArrowUp" && l.nodes[picked].o.length) pick(l.nodes[picked].o[0], true);
    else if (picked >= 0 && event.shiftKey && event.key === "ArrowDown" && program.users[level][picked].length) pick(program.users[level][picked][0], true);
    else if (moves[event.key]) { view.x += moves[event.key][0]; view.y += moves[event.key][1]; draw(); }
    else if (event.key === "+" || event.key === "=") zoom(1.25, w / 2, h / 2);
    else if (event.key === "-") zoom(0.8, w / 2, h / 2);
    else if (event.key === "0") fit();
    else if (event.key === "Enter") { const d = at(w / 2, h / 2); if (d && d.box) toggle(d.box); else if (d) pick(d.n); }
    else if (event.key === "n" || event.key === "p") pick(((picked < 0 ? -1 : picked) + (event.key === "n" ? 1 : l.nodes.length - 1)) % l.nodes.length, true);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target === $("search")) { if (event.key === "Escape") { event.target.value = ""; search(); side(); } return; }
    if (event.key === "[") setLevel(level - 1); else if (event.key === "]") setLevel(level + 1);
    else if (event.key === "/") { $("search").focus(); event.preventDefault(); }
    else if (event.key === "Escape") { pickedLine = null; matches = new Set(); pick(-1); }
  });
  $("level").addEventListener("input", () => setLevel(Number($("level").value)));
  $("earlier").addEventListener("click", () => setLevel(level - 1));
  $("later").addEventListener("click", () => setLevel(level + 1));
  $("fit").addEventListener("click", () => fit());
  $("open").addEventListener("click", () => { closed.clear(); groups((g) => opened.add(g.path)); layOut(); fit(); });
  $("close").addEventListener("click", () => { opened.clear(); groups((g) => closed.add(g.path)); layOut(); fit(); });
  $("program").addEventListener("change", () => choose(Number($("program").value)));
  $("search").addEventListener("input", () => { pickedLine = null; picked = -1; search(); side(); });
  $("search").addEventListener("keydown", (event) => { if (event.key === "Enter" && matches.size) { const all = [...matches], next = all[(all.indexOf(picked) + 1) % all.length]; pick(next, true); } });
  for (const id of ["memorycanvas", "roofcanvas"]) {
    const find = (event) => { const r = $(id).getBoundingClientRect(), x = event.clientX - r.left, y = event.clientY - r.top; return ($(id).areas || []).filter((a) => x >= a.x && x <= a.x + a.w && y >= a.y && y <= a.y + a.h).at(-1); };
    $(id).addEventListener("pointermove", (event) => tip(event, find(event)?.words || ""));
    $(id).addEventListener("pointerleave", (event) => tip(event, ""));
    $(id).addEventListener("click", (event) => { const found = find(event); if (found) { $("side").replaceChildren(); kernel($("side"), found.first); } });
  }
  addEventListener("resize", () => show(tab));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(tab));
}

begin();
