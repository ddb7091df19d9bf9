// The other tabs, keyboard shortcuts, and the start of the page.

function drawLabels() {
  const count = new Uint32Array(DATA.labels.length);
  const sum = new Float64Array(DATA.labels.length);
  const least = state.score * FULL;
  for (let r = 0; r < regions.label.length; r++) {
    const label = regions.label[r];
    if (label === NONE || regions.score[r] < least) continue;
    count[label]++;
    sum[label] += regions.score[r];
  }
  const order = [...count.keys()].filter((label) => count[label]).sort((a, b) => count[b] - count[a]);
  const most = order.length ? count[order[0]] : 1;
  const rows = order.map((label) => {
    const link = make("button", { type: "button", className: "link", textContent: DATA.labels[label] });
    link.addEventListener("click", () => {
      update({ labels: new Set([label]) });
      openTab("images");
    });
    const meter = make("span", { className: "meter" });
    meter.style.setProperty("--score", count[label] / most);
    meter.style.setProperty("--color", color(label));
    return [link, meter, number(count[label]), number(counts[label]), short(sum[label] / count[label])];
  });
  const part = DATA.parts.length > 1 ? " in this part" : "";
  $("labels").replaceChildren(
    make("p", { className: "quiet", textContent: `Regions with a score of at least ${state.score.toFixed(2)}${part}.` }),
    table(["Label", "", "Regions", "Images", "Mean score"], rows, "numbers"));
}

function drawAbout() {
  $("about").append(table(["Setting", "Value"], DATA.settings, "text"));
}

function toggleBoxes() {
  boxDisplay.on = !boxDisplay.on;
  document.body.classList.toggle("no-boxes", !boxDisplay.on);
  for (const id of ["boxes-on", "large-boxes-on"]) $(id).setAttribute("aria-pressed", boxDisplay.on);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select");
  const open = $("large").open;
  const toGrid = () => $("grid").querySelector(".card")?.focus();
  // A search field clears itself at the first Escape.
  if (event.target.type === "search" && (event.key === "Enter" || (event.key === "Escape" && !event.target.value))) toGrid();
  const keys = open
    ? {
      ArrowLeft: () => stepLarge(-1), ArrowRight: () => stepLarge(1),
      ArrowUp: () => stepRegion(-1), ArrowDown: () => stepRegion(1), l: toggleLabels, b: toggleBoxes,
    }
    : {
      n: () => goTo(state.page + 1), p: () => goTo(state.page - 1), b: toggleBoxes,
      "/": () => { openTab("images"); document.querySelector(".filters").open = true; $("query").focus(); },
      // The cards handle arrows themselves; up and down scroll as on every page.
      ...(event.target === document.body && { ArrowLeft: toGrid, ArrowRight: toGrid }),
    };
  if (typing || !keys[event.key]) return;
  keys[event.key]();
  event.preventDefault();
}

function openFromAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get("image");
  const i = id === null ? -1 : images.findIndex((image) => image.id === id);
  if (i >= 0 && !($("large").open && large.image === i)) openLarge(i);
}

setUpFilters();
setUpGrid();
setUpLarge();
$("tab-labels").hidden = !hasLabels;
setUpTabs((name) => { if (name === "labels") drawLabels(); });
setUpFailures();
drawAbout();
for (const id of ["boxes-on", "large-boxes-on"]) $(id).addEventListener("click", toggleBoxes);
document.addEventListener("keydown", onKey);
addEventListener("hashchange", openFromAddress);
update({ score: DATA.min_score, labels: state.labels });

// The thumbnails come after the script: show those that the parser has reached until it is done.
const timer = setInterval(fillWaiting, 60);
document.addEventListener("DOMContentLoaded", () => {
  clearInterval(timer);
  fillWaiting();
  openFromAddress();
});
