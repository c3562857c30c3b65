// Asks for the jobs again and again, shows them, and sends what the buttons are for. Texts enter as text only.
const { token, pause } = JSON.parse(document.getElementById("data").textContent);
const figures = new Charts(document.querySelector(".charts")), ticked = new Set(), said = element("p");
let shown = null, untouched = true;
said.id = "said";
said.setAttribute("role", "status");
document.body.append(said);

function duration(seconds) {
  if (seconds === null) return "";
  const whole = Math.round(seconds), parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (parts[0] ? parts : parts.slice(1)).map((part, place) => (place ? String(part).padStart(2, "0") : part)).join(":");
}

async function ask(action, job) {
  const answer = await fetch(`/${action}`, { method: "POST", headers: { "X-Token": token }, body: JSON.stringify({ job }) });
  say(answer.ok ? (await answer.json()).said : `refused: ${answer.status}`);
  await look();
}

function say(words) {
  said.textContent = words;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { said.textContent = ""; }, 6000);
}

function button(words, does, able = true) {
  const made = element("button", words);
  made.type = "button";
  made.disabled = !able;
  made.addEventListener("click", does);
  return made;
}

function head() {
  const counts = {}, scores = shown.jobs.map((job) => job.score).filter((score) => score !== null);
  for (const job of shown.jobs) counts[job.state] = (counts[job.state] ?? 0) + 1;
  const total = shown.expected ? `${shown.jobs.length} of ${shown.expected} jobs begun` : `${shown.jobs.length} jobs`;
  const sum = (key) => shown.jobs.reduce((all, job) => all + (job[key] ?? 0), 0);
  const words = [total, ...Object.entries(counts).map(([state, count]) => `${count} ${state}`)];
  if (scores.length) words.push(`best ${Math.min(...scores).toFixed(4)} val bits/byte`);
  words.push(`${sum("core_hours").toFixed(3)} core-hours`);
  if (shown.priced) words.push(`price ${sum("money").toFixed(2)}`);
  const place = document.getElementById("head");
  place.replaceChildren(element("h1", shown.title), ...words.map((text) => element("span", text, "quiet")));
  const mattered = document.querySelector(".mattered"), importance = shown.charts.importance;
  mattered.hidden = !importance;
  mattered.textContent = importance ? `What mattered so far: ${importance.sentence}` : "";
}

function row(job) {
  const made = element("tr"), box = element("input"), label = element("label"), progress = element("progress");
  made.dataset.state = job.state;
  made.dataset.job = job.name;
  Object.assign(box, { type: "checkbox", checked: ticked.has(job.name) });
  box.addEventListener("change", () => { untouched = false; box.checked ? ticked.add(job.name) : ticked.delete(job.name); samples(); });
  label.append(box, job.label);
  progress.value = job.progress;
  progress.title = `${(100 * job.progress).toFixed(0)}%`;
  const cells = [label, element("span", job.rung ? `${job.state} at ${(100 * job.rung).toFixed(0)}%` : job.state, "state"), progress,
    job.score === null ? "" : job.score.toFixed(4), duration(job.seconds), duration(job.left), job.core_hours.toFixed(3)];
  if (shown.priced) cells.push(job.money.toFixed(2));
  cells.forEach((cell, place) => {
    const td = element("td", undefined, place > 2 ? "number" : "");
    td.append(cell);
    made.append(td);
  });
  const actions = element("td"), why = element("td", job.why, "why");
  actions.append(button("stop", () => ask("stop", job.name), job.can_stop), button("promote", () => ask("promote", job.name), job.can_promote),
    button("copy command", () => navigator.clipboard.writeText(job.command).then(() => say(`copied: ${job.command}`), () => say(job.command))));
  made.append(actions, why);
  return made;
}

function table() {
  const titles = ["job", "state", "progress", "val bits/byte", "time", "left", "core-hours", ...(shown.priced ? ["price"] : []), "", ""];
  const made = element("table"), line = element("tr"), body = element("tbody"), top = element("thead");
  titles.forEach((title, place) => line.append(element("th", title, place > 2 && title ? "number" : "")));
  const jobs = [...shown.jobs].sort((a, b) => (a.score ?? Infinity) - (b.score ?? Infinity) || a.name.localeCompare(b.name));
  if (untouched) { ticked.clear(); jobs.slice(0, 3).forEach((job) => ticked.add(job.name)); }
  body.append(...jobs.map(row));
  top.append(line);
  made.append(top, body);
  const place = document.getElementById("jobs"), left = place.scrollLeft, up = place.scrollTop;
  place.replaceChildren(made);
  place.scrollTo(left, up);
}

function samples() {
  document.querySelector(".cards").replaceChildren(...shown.jobs.filter((job) => ticked.has(job.name)).map((job) => {
    const card = element("div", undefined, "card");
    card.append(element("h4", job.label), element("pre", job.samples || "No samples yet."));
    return card;
  }));
}

async function look() {
  const answer = await fetch(`/data?version=${shown?.version ?? ""}`), found = await answer.json();
  if (!found.jobs) return;
  shown = found;
  head();
  table();
  samples();
  figures.update(found.charts);
}

async function forever() {
  try {
    if (!document.hidden || !shown) await look();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;  // of fetch: nobody answers
    say("compare.py has ended; this is the last that it said");
  } finally {
    setTimeout(forever, 1000 * pause);
  }
}
forever();
