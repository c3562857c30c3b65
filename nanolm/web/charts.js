// Draws what is known of runs (see comparing/charts.py) with Plotly: history, parallel coordinates, importances, slices,
// curves, a heat map. Texts enter escaped: Plotly reads a little HTML in its labels.
const PALETTE = ["#1f5fa8", "#c4452d", "#2a9d5c", "#d69a00", "#8453a8", "#3fb0c9", "#c76a9c", "#7a6a45"];
const SCALE = [[0, "#1f5fa8"], [0.5, "#d69a00"], [1, "#c4452d"]];  // low bits per byte are good, and blue
const STATE_MARKS = { running: "circle-open", failed: "x", interrupted: "x-open", stopped: "square-open" };

const KINDS = ["history", "parallel", "importances", "slices", "curves", "heat"];

class Charts {
  // `place`: an element that the figures are put into, in the order of KINDS that have something to show. live: data
  // comes again and again, so what is out of sight waits until it is seen, and nothing is drawn under a held pointer.
  constructor(place, live = false) {
    this.place = place;
    this.brushed = new Map();  // knob -> [low, high] ranges on its axis
    this.options = { column: "val_bpb", over: "tokens" };
    this.figures = {};
    this.colours = new Map();  // run -> its colour among the curves, as long as it is one of the best
    this.stale = new Set();
    if (!live) return;
    this.sight = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) target.seen = isIntersecting;
      this.draw();
    });
    place.addEventListener("pointerdown", () => { this.held = true; });
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { this.held = false; setTimeout(() => this.draw()); });
  }

  update(data) {
    this.data = data;
    this.axes = Object.fromEntries(data.knobs.map((knob) => [knob, axisOf(data.runs.map((run) => run.knobs[knob]))]));
    this.scored = data.runs.filter((run) => run.score !== null);
    const news = JSON.stringify([this.scored.map((run) => [run.name, run.score, run.state]), data.knobs, data.importance]);
    const grown = news === this.news ? ["curves"] : KINDS;  // mostly nothing but curves has grown
    this.news = news;
    this.draw(grown);
  }

  draw(kinds = []) {
    for (const kind of kinds) this.stale.add(kind);
    if (this.held) return;
    for (const kind of this.stale) {
      if (this.sight && this.figures[kind]?.seen === false) continue;
      this.stale.delete(kind);
      this[kind]();
    }
  }

  figure(kind, traces, shape, wide) {
    let box = this.figures[kind];
    if (!traces) {
      if (box) this.sight?.unobserve(box);
      box?.remove();
      delete this.figures[kind];
      return null;
    }
    const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
    if (!box) {
      box = this.figures[kind] = document.createElement("div");
      box.className = `chart${wide ? " wide" : ""}`;
      box.dataset.kind = kind;
      const after = [...this.place.children].find((other) => KINDS.indexOf(other.dataset.kind) > KINDS.indexOf(kind));
      this.place.insertBefore(box, after ?? null);
      this.sight?.observe(box);
      box.append(document.createElement("h4"), document.createElement("div"));
      box.plot = box.lastChild;
      new ResizeObserver(() => { if (box.clientWidth && box.plot.data) Plotly.Plots.resize(box.plot); }).observe(box);  // as others come beside it
    }
    box.firstChild.textContent = shape.heading;
    Plotly.react(box.plot, traces, shape, config);
    return box;
  }

  shows(run) {  // whether a run is within everything that is brushed
    return [...this.brushed].every(([knob, ranges]) => {
      const place = knob === "" ? run.score : this.axes[knob]?.place(run.knobs[knob]);
      return ranges.some(([low, high]) => place >= low && place <= high);
    });
  }

  history() {
    const runs = [...this.scored].sort((a, b) => (a.ended ?? 0) - (b.ended ?? 0));
    if (runs.length < 2) return this.figure("history", null);
    let best = Infinity;
    const low = runs.map((run) => (best = Math.min(best, run.score)));
    const timed = runs.every((run) => run.ended);
    const x = runs.map((run, place) => (timed ? new Date(run.ended * 1000) : place + 1));
    const text = runs.map((run) => escaped(run.label));
    this.figure("history", [
      { x, y: runs.map((run) => run.score), text, mode: "markers", hovertemplate: "%{text}<br>%{y:.4f}<extra></extra>",
        marker: { size: 8, color: PALETTE[0], opacity: runs.map((run) => (this.shows(run) ? 0.9 : 0.15)),
          symbol: runs.map((run) => STATE_MARKS[run.state] ?? "circle") } },
      { x, y: low, mode: "lines", line: { color: PALETTE[1], shape: "hv" }, hovertemplate: "best so far %{y:.4f}<extra></extra>" },
    ], layout("History: each run, and the best so far", timed ? "" : "run", escaped(this.data.score)));
    return null;
  }

  parallel() {
    const runs = this.scored, knobs = this.data.knobs;
    if (runs.length < 2 || !knobs.length) return this.figure("parallel", null);
    const scores = runs.map((run) => run.score);
    const dimensions = knobs.map((knob) => {
      const axis = this.axes[knob], values = runs.map((run) => axis.place(run.knobs[knob]));
      const ticks = axis.ticks ? { tickvals: axis.ticks, ticktext: axis.texts } : {};
      return { label: last(knob), values, ...ticks, ...(this.brushed.has(knob) ? { constraintrange: this.brushed.get(knob) } : {}) };
    });
    dimensions.push({ label: escaped(this.data.score), values: scores, ...(this.brushed.has("") ? { constraintrange: this.brushed.get("") } : {}) });
    const line = { color: scores, colorscale: SCALE, showscale: true, cmin: Math.min(...scores), cmax: Math.max(...scores),
      colorbar: { thickness: 10, outlinewidth: 0 } };
    const narrow = this.place.clientWidth < 600;
    const shape = layout("Parallel coordinates: drag along an axis to brush", "", "", { margin: { l: 56, r: 48, t: 56, b: 24 } });
    if (narrow) line.showscale = false;
    const box = this.figure("parallel", [{ type: "parcoords", line, dimensions, labelfont: { size: 12 }, tickfont: { size: 10 },
      rangefont: { size: 1, color: "rgba(0,0,0,0)" }, unselected: { line: { color: colour("--line"), opacity: 0.3 } } }], shape, true);
    if (!box.listens) {
      box.listens = true;
      box.plot.on("plotly_restyle", () => this.brush(box.plot.data[0].dimensions));
    }
    return null;
  }

  brush(dimensions) {
    this.brushed.clear();
    dimensions.forEach((dimension, place) => {
      const range = dimension.constraintrange;
      if (range) this.brushed.set(this.data.knobs[place] ?? "", Array.isArray(range[0]) ? range : [range]);
    });
    this.draw(["history", "slices", "curves"]);
    this.place.dispatchEvent(new CustomEvent("brushed", { detail: this.scored.filter((run) => this.shows(run)).map((run) => run.name) }));
  }

  importances() {
    const found = this.data.importance;
    if (!found) return this.figure("importances", null);
    const rows = found.shares.filter(([, share]) => share >= 0.001).slice(0, 10).map(([name, share]) =>
      [name.split(" x ").map(last).join(" × "), share, PALETTE[name.includes(" x ") ? 5 : 0]]);
    if (found.rest >= 0.001) rows.push(["all else", found.rest, colour("--quiet")]);
    if (found.noise !== null) rows.push(["the seeds' noise", found.noise, PALETTE[1]]);
    rows.reverse();
    this.figure("importances", [{ type: "bar", orientation: "h", y: rows.map((row) => row[0]), x: rows.map((row) => row[1]),
      marker: { color: rows.map((row) => row[2]) }, text: rows.map((row) => `${(100 * row[1]).toFixed(1)}%`), textposition: "auto",
      hovertemplate: "%{y}: %{x:.1%}<extra></extra>" }],
    layout(`Importances: shares of the variance of ${this.data.score}`, "", "", { xaxis: { tickformat: ".0%", rangemode: "tozero" }, yaxis: { title: {} } }));
    return null;
  }

  slices() {
    const runs = this.scored, knobs = this.data.knobs;
    if (runs.length < 2 || !knobs.length) return this.figure("slices", null);
    const traces = [], columns = Math.max(1, Math.min(knobs.length, Math.floor(this.place.clientWidth / 300))), rows = Math.ceil(knobs.length / columns);
    const shape = layout("Slices: every run over each knob; lines: the mean over all others, with its error", "", "", { height: 40 + 250 * rows,
      grid: { rows, columns, pattern: "independent", ygap: 0.35 } });
    knobs.forEach((knob, place) => {
      const axis = this.axes[knob], which = place ? place + 1 : "", at = { xaxis: `x${which}`, yaxis: `y${which}` };
      traces.push({ ...at, x: runs.map((run) => axis.place(run.knobs[knob])), y: runs.map((run) => run.score), mode: "markers",
        text: runs.map((run) => escaped(run.label)), hovertemplate: "%{text}<br>%{y:.4f}<extra></extra>",
        marker: { color: colour("--quiet"), size: 6, opacity: runs.map((run) => (this.shows(run) ? 0.7 : 0.1)) } });
      const marginal = this.data.importance?.marginals[knob];
      if (marginal) traces.push({ ...at, x: marginal.values.map((value) => axis.place(value === "" ? null : value)), y: marginal.scores, mode: axis.numeric ? "lines+markers" : "markers",
        line: { color: PALETTE[0] }, marker: { size: marginal.values.length > 12 ? 1 : 8, color: PALETTE[0] }, error_y: { type: "data", array: marginal.errors, visible: marginal.values.length <= 12 }, hovertemplate: "mean %{y:.4f}<extra></extra>" });
      const ticks = axis.ticks ? { tickvals: axis.ticks, ticktext: axis.texts } : {};
      shape[`xaxis${which}`] = { ...shape.xaxis, title: { text: last(knob) }, ...ticks };
      shape[`yaxis${which}`] = { ...shape.yaxis, title: { text: place % columns ? "" : escaped(this.data.score) } };
    });
    this.figure("slices", traces, shape, true);
    return null;
  }

  curves() {
    const { column, over } = this.options, runs = this.data.runs.filter((run) => run.curves[column]?.y.length);
    if (!runs.length) return this.figure("curves", null);
    const order = [...runs].sort((a, b) => (a.score ?? Infinity) - (b.score ?? Infinity));
    this.recolour(order.slice(0, PALETTE.length).map((run) => run.name));
    const coloured = (run) => this.colours.has(run.name);
    const traces = order.map((run, place) => ({ x: run.curves[column][over], y: run.curves[column].y, mode: coloured(run) && run.curves[column].y.length < 30 ? "lines+markers" : "lines",
      name: escaped(run.label), opacity: (this.shows(run) ? 1 : 0.12) * (coloured(run) ? 1 : 0.4), marker: { size: 4 },
      line: { width: place < PALETTE.length ? 2 : 1, color: this.colours.get(run.name) ?? colour("--quiet") }, hovertemplate: `${escaped(run.label)}<br>%{y:.4f}<extra></extra>` })).reverse();
    const late = runs.flatMap((run) => run.curves[column].y.slice(Math.floor(run.curves[column].y.length / 10)));  // the first steps would hide the rest
    const [low, high] = [Math.min(...late), Math.max(...late)], room = 0.05 * (high - low || 1);
    const names = { val_bpb: "val bits/byte", train_loss: "train loss, nats/token" };
    const box = this.figure("curves", traces, layout("Curves: the best eight in colour", over === "tokens" ? "tokens seen" : "seconds of training", names[column],
      { yaxis: { range: [low - room, high + room] }, uirevision: `${column} ${over}` }), true);
    this.choose(box, "curves", { column: names, over: { tokens: "over tokens", seconds: "over time" } });
    return null;
  }

  recolour(best) {  // a run keeps its colour while others overtake it
    for (const name of this.colours.keys()) if (!best.includes(name)) this.colours.delete(name);
    const free = PALETTE.filter((one) => ![...this.colours.values()].includes(one));
    for (const name of best) if (!this.colours.has(name)) this.colours.set(name, free.shift());
  }

  heat() {
    const knobs = this.data.knobs;
    if (knobs.length < 2 || this.scored.length < 4) return this.figure("heat", null);
    const [first, second] = this.pair(), values = (knob) => [...new Set(this.scored.map((run) => run.knobs[knob]))].sort((p, q) => (p > q ? 1 : -1));
    const a = values(first), b = values(second);
    if (a.length * b.length > 400 && knobs.length === 2) return this.figure("heat", null);
    const z = b.map((row) => a.map((column) => {
      const found = this.scored.filter((run) => run.knobs[first] === column && run.knobs[second] === row).map((run) => run.score);
      return found.length ? found.reduce((sum, score) => sum + score, 0) / found.length : null;
    }));
    const name = (value) => escaped(value === null ? "–" : short(value)), few = a.length * b.length <= 100;
    const box = this.figure("heat", [{ type: "heatmap", z, x: a.map(name), y: b.map(name), colorscale: SCALE, xgap: 2, ygap: 2, hoverongaps: false,
      text: z.map((row) => row.map((value) => (value === null || !few ? "" : value.toFixed(3)))), texttemplate: "%{text}", colorbar: { thickness: 10 },
      hovertemplate: "%{x}, %{y}: %{z:.4f}<extra></extra>" }],
    layout(`Heat map: ${this.data.score}, the mean over all others`, last(first), last(second), { xaxis: { type: "category" }, yaxis: { type: "category" }, uirevision: `${first} ${second}` }));
    const choices = Object.fromEntries(knobs.map((knob) => [knob, knob]));
    if (knobs.length > 2) this.choose(box, "heat", { first: choices, second: choices });
    return null;
  }

  pair() {  // the two knobs of the heat map: those that were chosen, else those that matter most
    const { knobs, importance } = this.data, shares = Object.fromEntries(importance?.shares ?? []);
    const sorted = [...knobs].sort((a, b) => /seed$/.test(a) - /seed$/.test(b) || (shares[b] ?? 0) - (shares[a] ?? 0));
    for (const side of ["first", "second"]) if (!knobs.includes(this.options[side])) delete this.options[side];
    this.options.first ??= sorted.find((knob) => knob !== this.options.second);
    this.options.second ??= sorted.find((knob) => knob !== this.options.first);
    return [this.options.first, this.options.second];
  }

  choose(box, kind, all) {  // a select for each option, which draws the figure anew
    if (box.querySelector("select")) return;
    for (const [key, choices] of Object.entries(all)) {
      const select = document.createElement("select");
      select.setAttribute("aria-label", key);
      for (const [value, words] of Object.entries(choices)) select.append(new Option(words, value, false, this.options[key] === value));
      select.addEventListener("change", () => { this.options[key] = select.value; this[kind](); });
      box.append(select);
    }
  }
}
