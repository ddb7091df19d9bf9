// Bars of the metrics, keyboard shortcuts, and the start of the page.

function setMode(mode) {
  document.body.dataset.mode = document.body.dataset.mode === mode ? "none" : mode;
  for (const button of document.querySelectorAll("[data-mode].toggle")) {
    button.setAttribute("aria-pressed", button.dataset.mode === document.body.dataset.mode);
  }
}

// The tables are part of the HTML, so that they are readable without scripts.
function drawBars() {
  for (const cell of document.querySelectorAll("[data-value]")) {
    const element = make("span", { className: "range" }, make("i", {}), make("b", {}));
    for (const name of ["value", "low", "high"]) element.style.setProperty(`--${name}`, cell.dataset[name]);
    cell.append(element);
  }
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=search], select")) return;
  const mode = { a: "attention", b: "boxes", f: "phrases" }[event.key];
  const keys = $("large").open ? { ArrowLeft: () => step(-1), ArrowRight: () => step(1) } : {
    "/": () => { document.querySelector(".filters").open = true; $("query").focus(); },
  };
  if (modes.includes(mode)) setMode(mode);
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
}

function setUpModes() {
  for (const button of document.querySelectorAll("[data-mode].toggle")) {
    button.hidden = !modes.includes(button.dataset.mode);
    button.addEventListener("click", () => setMode(button.dataset.mode));
  }
  // Boxes would hide the small images of a ranking.
  const isRanking = examples.some((example) => example.images.length > 2);
  const first = ["phrases", "attention", ...(isRanking ? [] : ["boxes"])].find((mode) => modes.includes(mode));
  if (first) setMode(first);
}

drawBars();
setUpFilters();
setUpLarge();
setUpModes();
setUpTabs();
document.addEventListener("keydown", onKey);
// The thumbnails come after the script in the document.
document.addEventListener("DOMContentLoaded", update);
