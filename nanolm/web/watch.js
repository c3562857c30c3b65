// Asks for what has changed of the jobs, shows it, and sends what the buttons are for. Texts enter as text only.
const { token, acts } = JSON.parse(document.getElementById("data").textContent);
const DRAWING = 0.04;  // of the time may go into showing news: where it takes long, it is asked for less often
const SILENT = 120;  // seconds without a word from a job that runs are worth a remark
const figures = new Charts(document.querySelector(".charts"), true), ticked = new Set(), said = element("p");
const jobs = new Map(), rows = new Map(), cards = new Map();
let whole = {}, version = 0, pause = 2, untouched = true;
said.id = "said";
said.setAttribute("role", "status");
document.body.append(said);

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const all = Math.round(seconds), parts = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  return (parts[0] ? parts : parts.slice(1)).map((part, place) => (place ? String(part).padStart(2, "0") : part)).join(":");
}

async function ask(action, job) {
  const answer = await fetch(action, { method: "POST", headers: { "X-Token": token }, body: JSON.stringify({ job }) });
  say(answer.ok ? (await answer.json()).said : `refused (${answer.status}): was the program started again? Then load this page anew`);
  await look();
}

function say(words) {
  write(said, words);
  clearTimeout(say.timer);
  say.timer = setTimeout(() => write(said, ""), 6000);
}

function write(place, text) {  // what is there already is not drawn again
  if (place.textContent !== text) place.textContent = text;
}

function price(money) {
  return money.toFixed(money < 0.1 ? 4 : 2);
}

function button(words, does) {
  const made = element("button", words);
  made.type = "button";
  made.addEventListener("click", does);
  return made;
}

function copy(text) {
  navigator.clipboard.writeText(text).then(() => say(`copied: ${text}`), () => say(text));
}

function head() {
  const all = [...jobs.values()], counts = {}, scores = all.map((job) => job.score).filter((score) => score !== null);
  for (const job of all) counts[job.state] = (counts[job.state] ?? 0) + 1;
  const sum = (key) => all.reduce((total, job) => total + (job[key] ?? 0), 0);
  const words = [whole.expected ? `${all.length} of ${whole.expected} jobs begun` : `${all.length} jobs`];
  words.push(...Object.entries(counts).map(([state, count]) => `${count} ${state}`));
  if (scores.length) words.push(`best so far ${Math.min(...scores).toFixed(4)} ${whole.score}`);
  words.push(`${sum("core_hours").toFixed(3)} core-hours`);
  if (whole.priced) words.push(`cost ${price(sum("money"))}`);
  if (whole.started) words.push(`begun ${new Date(1000 * whole.started).toLocaleString()}`);
  const place = document.getElementById("head"), text = words.join(" ");
  if (place.dataset.text !== text || place.firstChild?.textContent !== whole.title) {
    place.dataset.text = text;
    place.replaceChildren(element("h1", whole.title), ...words.map((one) => element("span", one, "quiet")));
  }
  const mattered = document.querySelector(".mattered");
  mattered.hidden = !whole.importance;
  write(mattered, whole.importance ? `What mattered so far: ${whole.importance.sentence}` : "");
}

function newRow(name) {
  const made = element("tr"), box = element("input"), label = element("label"), progress = element("progress"), actions = element("td");
  made.dataset.job = name;
  progress.value = 0;  // without one it would move to and fro for ever
  box.type = "checkbox";
  box.addEventListener("change", () => { untouched = false; box.checked ? ticked.add(name) : ticked.delete(name); samples(); });
  label.append(box, element("span"));
  const first = element("td"), state = element("td"), done = element("td");
  first.append(label, element("div", "", "why"));
  state.append(element("span", "", "state"));
  done.append(progress);
  const stop = button("stop", () => ask("stop", name)), promote = button("promote", () => ask("promote", name));
  actions.append(...(acts ? [stop, promote] : []), button("copy command", () => copy(jobs.get(name).command)));
  const numbers = [...Array(whole.priced ? 5 : 4)].map(() => element("td", "", "number"));
  made.append(first, state, ...numbers.slice(0, 1), done, ...numbers.slice(1), actions);
  [...made.cells].forEach((cell, at) => { cell.dataset.title = titles()[at]; });
  made.parts = { box, label: label.lastChild, state: state.firstChild, progress, numbers, stop, promote, why: first.lastChild };
  return made;
}

function fill(row, job) {
  const { box, label, state, progress, numbers, stop, promote, why } = row.parts;
  row.dataset.state = job.state;
  box.checked = ticked.has(job.name);
  write(label, job.label);
  const silent = job.state === "running" ? Date.now() / 1000 - job.ended : 0;
  write(state, `${job.state}${job.rung ? ` at ${(100 * job.rung).toFixed(0)}%` : ""}${silent > SILENT ? `, silent for ${duration(silent)}` : ""}`);
  if (Math.abs(progress.value - job.progress) > 0.004) progress.value = job.progress;
  progress.title = `${(100 * job.progress).toFixed(0)}%`;
  const texts = [job.score === null ? "" : job.score.toFixed(4), duration(job.seconds), duration(job.left), job.core_hours.toFixed(3), whole.priced ? price(job.money) : ""];
  numbers.forEach((cell, place) => write(cell, texts[place]));
  stop.disabled = !job.can_stop;
  promote.disabled = !job.can_promote;
  write(why, job.why);
}

function titles() {
  return ["job", "state", whole.score, "progress", "time", "left", "core-hours", ...(whole.priced ? ["cost"] : []), ""];
}

function table() {
  const place = document.getElementById("jobs");
  if (!place.firstChild) {
    const made = element("table"), line = element("tr");
    titles().forEach((title, at) => line.append(element("th", title, at === 2 || (at > 3 && title) ? "number" : "")));
    made.append(element("thead"), element("tbody"));
    made.tHead.append(line);
    place.append(made);
  }
  const body = place.firstChild.tBodies[0];
  const best = [...jobs.values()].sort((a, b) => (a.score ?? Infinity) - (b.score ?? Infinity) || a.name.localeCompare(b.name));
  if (untouched) { ticked.clear(); best.slice(0, 3).forEach((job) => ticked.add(job.name)); }
  const sorted = [...best].sort((a, b) => (b.state === "running") - (a.state === "running"));  // what runs, then the best
  for (const [name, row] of rows) if (!jobs.has(name)) { row.remove(); rows.delete(name); }
  for (const job of sorted) {
    if (!rows.has(job.name)) rows.set(job.name, body.appendChild(newRow(job.name)));
    fill(rows.get(job.name), job);
  }
  const held = place.matches(":hover") || place.querySelector(":focus-visible");
  if (held && body.rows.length === sorted.length) return;  // no row slips from under the pointer
  sorted.forEach((job, at) => { if (body.rows[at] !== rows.get(job.name)) body.insertBefore(rows.get(job.name), body.rows[at]); });
}

function samples() {
  const shown = [...jobs.values()].filter((job) => ticked.has(job.name)), place = document.querySelector(".cards");
  for (const [name, card] of cards) if (!ticked.has(name) || !jobs.has(name)) { card.remove(); cards.delete(name); }
  for (const job of shown) {
    if (!cards.has(job.name)) {
      const card = element("div", undefined, "card"), details = element("details");
      details.append(element("summary", "configuration"), element("pre"));
      card.append(element("h4"), element("p", job.name, "quiet"), element("pre"), details);
      cards.set(job.name, place.appendChild(card));
    }
    const [title, , text, details] = cards.get(job.name).children;
    write(title, job.label);
    write(text, job.samples || (job.state === "running" ? "No samples yet: they are written at the end." : "No samples."));
    write(details.lastChild, job.config);
  }
}

async function look() {
  const answer = await fetch(`data?since=${version}`), news = await answer.json(), begun = performance.now();
  ({ version, pause } = news);
  whole = { ...whole, ...news.whole };
  for (const [name, fields] of Object.entries(news.jobs)) jobs.set(name, { ...jobs.get(name), ...fields });
  for (const name of jobs.keys()) if (!whole.names.includes(name)) jobs.delete(name);
  table();
  if (!Object.keys(news.whole).length && !Object.keys(news.jobs).length) return;
  head();
  samples();
  figures.update({ runs: [...jobs.values()], knobs: whole.knobs, score: whole.score, floor: null, importance: whole.importance });
  await Promise.race([painted(), new Promise((done) => { setTimeout(done, 1000); })]);
  pause = Math.max(pause, Math.min(15, (performance.now() - begun) / 1000 / DRAWING));
}

function painted() {  // once what was changed is on the screen
  return new Promise((done) => { requestAnimationFrame(() => setTimeout(done)); });
}

document.querySelector(".charts").addEventListener("brushed", ({ detail }) => {
  const brushed = new Set(detail.map(String));
  for (const [name, row] of rows) row.classList.toggle("faint", figures.brushed.size > 0 && !brushed.has(name));
});

async function forever() {
  clearTimeout(forever.timer);
  if (forever.busy) return;
  forever.busy = true;
  try {
    if (!document.hidden && innerWidth > 0) await look();  // of a frame that isn't shown it is 0
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;  // of fetch: nobody answers
    say("the program has ended; this is the last that it said");
  } finally {
    forever.busy = false;
    forever.timer = setTimeout(forever, 1000 * pause);
  }
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) forever(); });
forever();
