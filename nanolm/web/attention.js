// A token under the pointer, tapped or focused: what it attends to, in the text and in every head. Texts enter as text only.
const { tokens, layers, heads, weights } = JSON.parse(document.getElementById("data").textContent);
const bytes = Uint8Array.from(atob(weights), (char) => char.charCodeAt(0)); // the lower triangles, head after head
const size = tokens.length, triangle = (size * (size + 1)) / 2, count = layers * heads;
let query = size - 1, held = false, chosen = [...Array(count).keys()];

const at = (head, from, to) => bytes[head * triangle + (from * (from + 1)) / 2 + to]; // 255 * sqrt(weight)
const weight = (head, from, to) => (at(head, from, to) / 255) ** 2;
const percent = (share) => (share >= 0.0995 ? (100 * share).toFixed(0) : (100 * share).toFixed(1)) + "%";
const quoted = (place) => `“\u2068${name(place)}\u2069”`; // isolated: a token can't turn the line around
const name = (place) => tokens[place].trim() || tokens[place].replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "(empty)";

function make(tag, className, parent, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
}

const view = document.getElementById("view");
const reading = make("div", "reading", view), text = make("div", "text", reading), now = make("p", "now", reading);
now.setAttribute("aria-live", "polite");
const chips = tokens.map((token, place) => {
  const chip = make("button", "token" + (/^<(PAD|UNK|BOS|EOS)>$/.test(token) ? " special" : ""), text, token.trim() ? token.replaceAll("\n", "↵") : name(place));
  if (token.includes("\n")) make("br", "", text);
  chip.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && !held && show(place));
  chip.addEventListener("focus", () => held || show(place));
  chip.addEventListener("click", () => { held = !(held && query === place); show(place); });
  return chip;
});
text.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1, Home: -size, End: size }[event.key];
  if (!step) return;
  event.preventDefault();
  const next = Math.min(size - 1, Math.max(0, query + step));
  show(next);
  chips[next].focus();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") { held = false; show(query); } });

const grid = make("div", "heads", view);
grid.style.setProperty("--heads", heads);
grid.style.setProperty("--size", size);
const pickers = []; // [button, heads it stands for]
function picker(button, picks) {
  pickers.push([button, picks]);
  button.addEventListener("click", () => { chosen = picks; show(query); });
}
picker(make("button", "name", grid, "all heads"), chosen);
for (let head = 0; head < heads; head++) make("div", "name", grid, `head ${head + 1}`);
const cells = [];
for (let layer = 0; layer < layers; layer++) {
  const row = [...Array(heads).keys()].map((head) => layer * heads + head);
  picker(make("button", "name", grid, `layer ${layer + 1}`), row);
  for (const head of row) {
    const cell = make("button", "head", grid), canvas = make("canvas", "", make("div", "map", cell));
    cell.setAttribute("aria-label", `layer ${layer + 1}, head ${(head % heads) + 1}`);
    canvas.width = canvas.height = size;
    cells.push([canvas, make("div", "top", cell)]);
    picker(cell, [head]);
  }
}

function paint() {
  const probe = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  const colour = [1, 3, 5].map((start) => parseInt(probe.slice(start, start + 2), 16));
  cells.forEach(([canvas], head) => {
    const context = canvas.getContext("2d"), image = context.createImageData(size, size);
    for (let from = 0; from < size; from++)
      for (let to = 0; to <= from; to++) image.data.set([...colour, 255 * (at(head, from, to) / 255) ** 0.75], 4 * (from * size + to));
    context.putImageData(image, 0, 0);
  });
}
paint();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

function shares(picks) {
  return Array.from({ length: query + 1 }, (_, to) => picks.reduce((sum, head) => sum + weight(head, query, to), 0) / picks.length);
}

function best(found) {
  return found.map((share, to) => [share, to]).sort(([a], [b]) => b - a).slice(0, 3).filter(([share]) => share >= 0.001);
}

function show(place) {
  query = place;
  const found = shares(chosen);
  chips.forEach((chip, to) => {
    const share = to <= query ? found[to] : 0;
    const heat = Math.round(100 * Math.sqrt(share));
    chip.style.setProperty("--heat", `color-mix(in srgb, var(--accent) ${heat}%, transparent)`);
    chip.classList.toggle("dark", heat > 65);
    chip.classList.toggle("later", to > query);
    chip.classList.toggle("query", to === query);
    chip.dataset.share = share >= 0.03 ? `${Math.round(100 * share)}%` : "";
    chip.tabIndex = to === query ? 0 : -1;
    chip.setAttribute("aria-pressed", held && to === query);
  });
  const layer = Math.floor(chosen[0] / heads) + 1;
  const whose = chosen.length === 1 ? `head ${(chosen[0] % heads) + 1} of layer ${layer}` : chosen.length === count ? "the mean of all heads" : `the mean of layer ${layer}`;
  const list = best(found).map(([share, to]) => `${quoted(to)} ${percent(share)}`).join(", ");
  now.textContent = `Having read ${quoted(query)} (token ${query + 1} of ${size}), ${whose} looks at: ${list}. `;
  make("span", "quiet", now, held ? "Held; tap it again or press Esc to let go." : "Point at a token, tap it or use the arrow keys; a click holds it. Click a map below for one head's colours.");
  grid.style.setProperty("--query", query);
  cells.forEach(([, top], head) => {
    const lines = best(shares([head])).flatMap(([share, to]) => [name(to), percent(share)]);
    top.replaceChildren(...lines.map((line) => make("span", "", null, line)));
  });
  for (const [button, picks] of pickers) button.setAttribute("aria-pressed", picks === chosen);
}
show(query);
