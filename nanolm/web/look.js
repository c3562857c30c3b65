// Maps of words: the one under the pointer is named above it, which a phone's touch does too. Texts enter as text only.
for (const map of document.querySelectorAll("svg")) {
  const line = document.createElement("p");
  line.className = "word";
  line.textContent = "Point at a dot or tap it.";
  map.before(line);
  let near = null;
  map.addEventListener("pointerover", (event) => {
    const dot = event.target.closest("circle");
    if (!dot) return;
    near?.classList.remove("near");
    near = dot;
    near.classList.add("near");
    line.textContent = dot.querySelector("title").textContent;
  });
}
