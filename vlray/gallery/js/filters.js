// Filters, sort order, and the matching images.

const LABEL_ROWS = 80;

const state = {
  query: "", score: DATA.min_score, labels: new Set(), split: "", sort: "order",
  few: false, missing: false, page: 0,
};
let matches = []; // indices of images in grid order
let counts = new Uint32Array(DATA.labels.length); // images per label at the current score

const haystack = images.map((image) => `${image.id}\n${image.path}`.toLowerCase());
const collator = new Intl.Collator("en", { numeric: true });

function select() {
  const query = state.query.trim().toLowerCase();
  matches = [];
  for (let i = 0; i < images.length; i++) {
    const image = images[i];
    if (query && !haystack[i].includes(query)) continue;
    if (state.split && DATA.splits[image.split] !== state.split) continue;
    if (state.few && image.count >= DATA.min_boxes) continue;
    if (state.missing && !image.missing) continue;
    if (state.labels.size && !visibleRegions(i).length) continue;
    matches.push(i);
  }
  sortMatches();
}

function sortMatches() {
  if (state.sort === "order") return;
  if (state.sort === "id") {
    matches.sort((a, b) => collator.compare(images[a].id, images[b].id));
    return;
  }
  const key = new Float64Array(images.length);
  const byScore = state.sort === "best" || state.sort === "worst";
  for (const i of matches) {
    const list = visibleRegions(i);
    const sum = list.reduce((total, region) => total + regions.score[region], 0);
    key[i] = byScore ? sum / Math.max(list.length, 1) : list.length;
  }
  const sign = state.sort === "most" || state.sort === "best" ? -1 : 1;
  matches.sort((a, b) => sign * (key[a] - key[b]) || a - b);
}

function countLabels() {
  counts = new Uint32Array(DATA.labels.length);
  let shown = 0;
  const last = new Int32Array(DATA.labels.length).fill(-1);
  const least = state.score * FULL;
  for (let i = 0; i < images.length; i++) {
    for (let r = start[i]; r < start[i + 1]; r++) {
      const label = regions.label[r];
      if (regions.score[r] < least) continue;
      shown++;
      if (label === NONE || last[label] === i) continue;
      last[label] = i;
      counts[label]++;
    }
  }
  $("score-shown").textContent = someOf(shown, regions.score.length, "region");
  $("tab-labels").lastElementChild.textContent = number(counts.filter((count) => count > 0).length);
}

function drawLabelList() {
  const query = $("label-query").value.trim().toLowerCase();
  const labels = [];
  for (let label = 0; label < DATA.labels.length; label++) {
    if (!counts[label] && !state.labels.has(label)) continue;
    if (!query || DATA.labels[label].toLowerCase().includes(query)) labels.push(label);
  }
  labels.sort((a, b) => counts[b] - counts[a]);
  const rows = labels.slice(0, LABEL_ROWS).map((label) => {
    const box = make("input", { type: "checkbox", checked: state.labels.has(label), value: String(label) });
    return make("label", { className: "label-row" }, box, swatch(color(label)),
      make("span", { className: "label-name", textContent: DATA.labels[label] }),
      make("span", { className: "label-count", textContent: number(counts[label]) }));
  });
  $("label-list").replaceChildren(...rows);
  const more = labels.length - rows.length;
  $("label-more").textContent = more > 0
    ? `${number(more)} more: use the search`
    : (labels.length ? "" : "no label at this score");
}

function drawActive() {
  const active = state.labels.size + (state.query ? 1 : 0) + (state.split ? 1 : 0)
    + (state.few ? 1 : 0) + (state.missing ? 1 : 0) + (state.score !== DATA.min_score ? 1 : 0);
  $("active").textContent = active ? `(${active})` : "";
  $("reset").disabled = active === 0 && state.sort === "order";
}

/** Apply a change of the state and redraw what depends on it. */
function update(change, { keepPage = false } = {}) {
  Object.assign(state, change);
  if (!keepPage) state.page = 0;
  if ("score" in change) countLabels();
  select();
  $("score-value").textContent = state.score.toFixed(2);
  if ("score" in change) drawLabelList();
  if ("labels" in change) drawChosen();
  drawActive();
  drawGrid();
}

function setUpFilters() {
  const choices = [["", `all ${number(images.length)}`]];
  DATA.splits.forEach((split, k) => {
    const count = images.reduce((total, image) => total + (image.split === k), 0);
    choices.push([split, `${split || "(none)"}: ${number(count)}`]);
  });
  $("split").append(...choices.map(([value, text]) => make("option", { value, textContent: text })));
  $("split-field").hidden = DATA.splits.length < 2;
  const few = images.reduce((total, image) => total + (image.count < DATA.min_boxes), 0);
  $("few-field").hidden = few === 0;
  $("few-field").lastElementChild.textContent = `Fewer than ${plural(DATA.min_boxes, "region")} (${number(few)})`;
  $("missing-field").hidden = !images.some((image) => image.missing);
  $("label-field").hidden = $("score-field").hidden = !hasLabels;
  $("score").value = state.score;
  for (const option of $("sort").options) option.hidden = !hasLabels && /score/.test(option.text);

  let pending = 0;
  let changes = {};
  const soon = (change) => {
    cancelAnimationFrame(pending);
    Object.assign(changes, change);
    pending = requestAnimationFrame(() => {
      update(changes);
      changes = {};
    });
  };
  $("query").addEventListener("input", (event) => soon({ query: event.target.value }));
  $("score").addEventListener("input", (event) => soon({ score: Number(event.target.value) }));
  for (const id of ["split", "sort"]) $(id).addEventListener("change", (event) => update({ [id]: event.target.value }));
  for (const id of ["few", "missing"]) $(id).addEventListener("change", (event) => update({ [id]: event.target.checked }));
  $("label-query").addEventListener("input", drawLabelList);
  $("label-list").addEventListener("change", (event) => toggleLabel(Number(event.target.value), event.target.checked));
  $("filters").addEventListener("reset", () => {
    cancelAnimationFrame(pending);
    changes = {};
    $("score").setAttribute("value", DATA.min_score);
    update({ query: "", score: DATA.min_score, labels: new Set(), split: "", sort: "order", few: false, missing: false });
  });
  setUpFolding();
}

function toggleLabel(label, on) {
  const labels = new Set(state.labels);
  if (on) labels.add(label);
  else labels.delete(label);
  update({ labels });
}

/** Show the selected labels above the grid; a click removes one. */
function drawChosen() {
  const chips = [...state.labels].map((label) => {
    const button = make("button", { type: "button", title: "Remove this filter" }, DATA.labels[label],
      make("span", { "aria-hidden": "true", textContent: "\u00d7" }));
    button.style.background = color(label);
    button.addEventListener("click", () => toggleLabel(label, false));
    return button;
  });
  $("chosen").replaceChildren(...chips);
  for (const box of $("label-list").querySelectorAll("input")) box.checked = state.labels.has(Number(box.value));
}
