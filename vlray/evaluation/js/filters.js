// Filters and order of the examples.

function passes(example, ignored = "") {
  if (ignored !== "judged" && state.judged && example.judged !== state.judged) return false;
  if (state.kinds.some((choice, k) => choice && example.about[k] !== choice)) return false;
  const query = state.query.trim().toLowerCase();
  if (!query) return true;
  const words = [example.id, example.text, ...example.truth.map(([name]) => name), ...example.candidates.slice(0, 1).map(([name]) => name)];
  return words.some((text) => text.toLowerCase().includes(query));
}

const confidence = (example) => example.candidates[0]?.[1] ?? 0;

function update() {
  matches = examples.filter((example) => passes(example));
  if (state.sort === "sure") matches.sort((a, b) => confidence(b) - confidence(a));
  if (state.sort === "unsure") matches.sort((a, b) => confidence(a) - confidence(b));
  $("grid").replaceChildren(...(matches.length ? matches.map(card)
    : [make("p", { className: "empty", textContent: "No example matches the filters." })]));
  $("count").textContent = someOf(matches.length, examples.length, "example");
  const others = examples.filter((example) => passes(example, "judged"));
  for (const row of $("judged").querySelectorAll(".label-row")) {
    const value = row.querySelector("input").value;
    row.lastElementChild.textContent = number(others.filter((example) => !value || example.judged === value).length);
  }
}

function setUpFilters() {
  $("judged").hidden = examples.every((example) => !example.judged);
  $("sort-field").hidden = examples.every((example) => !example.candidates.length);
  for (const input of $("judged").querySelectorAll("input")) {
    const value = input.value;
    input.parentNode.hidden = value === "partly" && examples.every((example) => example.judged !== "partly");
    input.addEventListener("change", () => { state.judged = value; update(); });
  }
  DATA.kinds.forEach((kind, k) => {
    const counts = new Map();
    for (const example of examples) if (example.about[k]) counts.set(example.about[k], (counts.get(example.about[k]) ?? 0) + 1);
    if (!counts.size) return;
    const select = make("select", {}, make("option", { value: "", textContent: "all" }),
      ...[...counts].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })).map(([value, count]) =>
        make("option", { value, textContent: `${value} (${number(count)})` })));
    select.addEventListener("change", () => { state.kinds[k] = select.value; update(); });
    const name = kind.replaceAll("_", " ");
    $("kinds").append(make("label", { className: "field" }, name[0].toUpperCase() + name.slice(1), select));
  });
  $("query").addEventListener("input", () => { state.query = $("query").value; update(); });
  $("sort").addEventListener("change", () => { state.sort = $("sort").value; update(); });
  $("filters").addEventListener("reset", () => {
    Object.assign(state, { query: "", judged: "", kinds: DATA.kinds.map(() => ""), sort: "order" });
    update();
  });
  setUpFolding();
}
