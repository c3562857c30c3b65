// What the figures of runs share: a knob's values as places on an axis, the layout of a figure, texts made harmless.
function escaped(text) {
  return String(text ?? "").replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A knob's values as places on an axis: numbers as they are, or their logarithms over a factor of 10; else categories.
function axisOf(values) {
  const known = values.filter((value) => value !== null);
  if (known.length === values.length && known.every((value) => typeof value === "number")) {
    const low = Math.min(...known), high = Math.max(...known), distinct = [...new Set(known)].sort((a, b) => a - b);
    const log = low > 0 && high / low >= 10, place = log ? Math.log10 : Number;
    const ticks = distinct.length <= 8 ? distinct : log ? powers(low, high) : null;
    return { log, place, numeric: true, ticks: ticks && ticks.map(place), texts: ticks && ticks.map((v) => escaped(short(v))) };
  }
  const names = [...new Set(values.map((value) => (value === null ? "–" : String(value))))].sort();
  return { place: (value) => names.indexOf(value === null ? "–" : String(value)), ticks: names.map((_, i) => i),
    texts: names.map((name) => escaped(name.length > 18 ? `${name.slice(0, 17)}…` : name)) };
}

function powers(low, high) {
  const found = [];
  for (let p = Math.ceil(Math.log10(low) - 1e-9); p <= Math.log10(high) + 1e-9; p += 1) found.push(10 ** p);
  return [low, ...found.filter((value) => value > low * 1.5 && value < high / 1.5), high];
}

function short(value) {
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : value;
}

function last(knob) {
  return escaped(knob.split(".").pop());
}

function layout(title, x, y, more) {
  const axis = { gridcolor: colour("--line"), zeroline: false, automargin: true, linecolor: colour("--line") };
  return { heading: title, modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--accent") }, font: { color: colour("--ink"), size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 50, r: 16, t: 28, b: 44 }, height: 300,
    hovermode: "closest", showlegend: false, dragmode: "zoom", uirevision: "as the reader left it", ...more,
    xaxis: { ...axis, title: { text: x }, ...more?.xaxis }, yaxis: { ...axis, title: { text: y }, ...more?.yaxis } };
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
