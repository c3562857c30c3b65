// A token under the pointer, the finger or the focus shows what the model held likely in its place. Texts enter as text.
const rows = JSON.parse(document.getElementById("data").textContent);
const buttons = [...document.querySelectorAll("#text button")], view = document.getElementById("view");
const scale = document.createElement("span");
scale.append("expected", document.createElement("i"), "surprising");
document.getElementById("legend").append(scale);

function percent(p) {
  return p >= 0.0995 ? (100 * p).toFixed(0) + "%" : p >= 0.00095 ? (100 * p).toFixed(1) + "%" : "<0.1%";
}

function line(text, p, isIt) {
  const made = document.createElement("div"), bar = document.createElement("i");
  made.style.setProperty("--p", p);
  made.className = isIt ? "it" : "";
  made.append(bar, ...[text, percent(p)].map((words) => Object.assign(document.createElement("span"), { textContent: words })));
  return made;
}

function show(index) {
  const row = rows[index], head = document.createElement("p"), p = Math.exp(row.logprob);
  head.textContent = `log-probability ${row.logprob.toFixed(2)} nats, rank ${row.rank.toLocaleString("en")}. Likeliest here:`;
  const lines = row.top.map(([text, q], place) => line(text, q, place + 1 === row.rank));
  if (row.rank > row.top.length) lines.push(line(row.token, p, true));
  view.replaceChildren(head, ...lines);
  buttons.forEach((button, other) => button.classList.toggle("chosen", other === index));
}

buttons.forEach((button, index) => {
  for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, () => show(index));
});
show(0);
