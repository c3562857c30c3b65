// Sorts the tables by their headers, draws the figures, and shows the samples of the ticked rows side by side. Texts
// enter as text only.
const sections = JSON.parse(document.getElementById("data").textContent);

function compare(a, b) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return typeof a === "number" ? a - b : a.localeCompare(b);
}

function sort(body, column, falling) {
  const value = (row) => row.known.values[column], rows = [...body.rows];
  const known = rows.filter((row) => value(row) !== null).sort((a, b) => compare(value(a), value(b)) * (falling ? -1 : 1));
  body.append(...known, ...rows.filter((row) => value(row) === null));  // what has no value stays last
}

function sortable(table, rows) {
  const headers = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  [...body.rows].forEach((row, place) => {
    row.known = rows[place];
    row.known.values.forEach((value, column) => row.cells[column].classList.toggle("words", typeof value === "string"));
    row.classList.toggle("baseline", !row.known.card);
    row.classList.toggle("best", row.known.values.includes("the best"));
  });
  headers.forEach((header, column) => {
    const button = element("button", header.textContent);
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", falling ? "descending" : "ascending");
      sort(body, column, falling);
    });
  });
}

function card(run) {
  const made = element("div", undefined, "card"), details = element("details");
  details.append(element("summary", "configuration"), element("pre", run.config));
  made.append(element("h4", run.label), element("p", run.folders, "quiet"), element("pre", run.samples || "No samples."), details);
  return made;
}

// A box to tick in each row of runs; the best three are ticked at first.
document.querySelectorAll("section.corpus").forEach((section, index) => {
  const table = section.querySelector("table.sortable"), cards = section.querySelector(".cards");
  sortable(table, sections[index].rows);
  const runs = [...table.tBodies[0].rows].filter((row) => row.known.card);
  function show() {
    cards.replaceChildren(...runs.filter((row) => row.box.checked).map((row) => card(row.known.card)));
  }
  runs.forEach((row, place) => {
    const label = element("label");
    row.box = element("input");
    Object.assign(row.box, { type: "checkbox", checked: place < 3 });
    row.box.addEventListener("change", show);
    label.append(row.box, row.cells[0].textContent);
    row.cells[0].replaceChildren(label);
  });
  show();
  const charts = section.querySelector(".charts");
  new Charts(charts).update(sections[index].charts);
  charts.addEventListener("brushed", ({ detail }) => {
    const brushed = new Set(detail);
    runs.forEach((row) => row.classList.toggle("faint", !row.known.card.names.some((name) => brushed.has(name))));
  });
});
