// The header, the other tabs, the keys, and the start.

function setMode(mode) {
  document.body.dataset.mode = document.body.dataset.mode === mode ? "none" : mode;
  for (const button of document.querySelectorAll("[data-mode].toggle")) {
    button.setAttribute("aria-pressed", button.dataset.mode === document.body.dataset.mode);
  }
}

function drawHeader() {
  $("data-name").textContent = DATA.name;
  $("subtitle").textContent = DATA.subtitle;
  $("totals").append(...DATA.totals.map(([title, value, interval]) => make("div", {},
    make("dt", { textContent: title }),
    make("dd", { textContent: value }, ...(interval ? [make("span", { className: "interval", textContent: interval })] : [])))));
  $("tab-images").lastElementChild.textContent = number(examples.length);
  for (const element of document.querySelectorAll("dd")) if (!element.textContent) element.parentNode.remove();
}

function range(figure) {
  if (!figure.is_percent) return "";
  const element = make("span", { className: "range" }, make("i", {}), make("b", {}));
  element.style.setProperty("--value", figure.value);
  element.style.setProperty("--low", figure.low ?? figure.value);
  element.style.setProperty("--high", figure.high ?? figure.value);
  return element;
}

function drawFigures() {
  $("figures").append(...DATA.notes.map((text) => make("p", { className: "quiet", textContent: text })));
  if (!DATA.figures.length) $("figures").append(make("p", { className: "empty", textContent: "Nothing was measured." }));
  for (const [title, rows] of DATA.figures) {
    $("figures").append(make("h3", { textContent: title }),
      table(["", "Value", "95 % interval", "n", ""], rows.map((row) => [row.name, row.text, row.interval, row.n, range(row)]), "figures-table"));
  }
  for (const cell of document.querySelectorAll(".figures-table td:last-child")) cell.classList.add("bar-cell");
  $("about").append(table(["Setting", "Value"], DATA.settings, "text"));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=search], select")) return;
  const wanted = { a: "attention", b: "boxes", f: "phrases" }[event.key];
  const keys = $("large").open ? { ArrowLeft: () => step(-1), ArrowRight: () => step(1) } : {
    "/": () => { document.querySelector(".filters").open = true; $("query").focus(); },
  };
  if (modes.includes(wanted)) setMode(wanted);
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
}

function setUpModes() {
  for (const button of document.querySelectorAll("[data-mode].toggle")) {
    button.hidden = !modes.includes(button.dataset.mode);
    button.addEventListener("click", () => setMode(button.dataset.mode));
  }
  // Boxes would hide the small pictures of a ranking.
  const isRanking = examples.some((example) => example.images.length > 2);
  const first = ["phrases", "attention", ...(isRanking ? [] : ["boxes"])].find((mode) => modes.includes(mode));
  if (first) setMode(first);
}

drawHeader();
drawFigures();
setUpFilters();
setUpLarge();
setUpModes();
setUpTabs();
document.addEventListener("keydown", onKey);
// Thumbnails follow the script in the document.
document.addEventListener("DOMContentLoaded", update);
