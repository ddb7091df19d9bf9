// The large view: one example, its images, and the list of its regions.

function openLarge(k) {
  const example = examples[k];
  const at = matches.indexOf(example);
  opened = k;
  $("large-id").textContent = example.id;
  $("large-facts").textContent = [...example.about, ...new Set(example.images.map((image) => `image ${image.id}`))].filter((value) => value).join(" \u00b7 ");
  showPosition(at, matches.length);
  $("stage").replaceChildren(...example.images.map((image) => shot(example, image)));
  $("large-text").replaceChildren(make("div", {}, ...badgeText(example)), asked(example), ...answers(example), ...rightAnswers(example));
  pointAtPhrases($("large-text"), $("stage"));
  const frames = [...$("stage").querySelectorAll(".frame")];
  const rows = example.images.flatMap((image, i) => image.boxes.map((box, r) => [box, frames[i], r, image.caption]));
  rows.sort(([a], [b]) => b[5] - a[5]);
  $("region-list").replaceChildren(...rows.map((one) => regionRow(...one, rows[0][0][5])));
  if (!$("large").open) $("large").showModal();
}

function badgeText(example) {
  return badge(example).map((element) => { element.style.position = "static"; return element; });
}

function regionRow(box, frame, r, caption, most) {
  const button = make("button", { type: "button", className: "region", "data-region": r }, swatch(colorOf(box)),
    make("span", { className: "region-name", textContent: caption ? `${labelOf(box)} (${caption})` : labelOf(box) }));
  if (box[5] !== null) {
    const meter = make("span", { className: "meter" });
    meter.style.setProperty("--score", box[5] / most);
    meter.style.setProperty("--color", "var(--heat)");
    button.append(meter, make("span", { className: "region-score", textContent: percent(box[5]) }));
  }
  const point = () => pointAt(frame, r);
  button.addEventListener("pointerenter", point);
  button.addEventListener("focus", point);
  button.frame = frame;
  return make("li", {}, button);
}

function pointAt(frame, region) {
  for (const one of $("stage").querySelectorAll(".frame")) mark(one, one === frame ? region : -1);
  for (const button of $("region-list").querySelectorAll(".region")) {
    button.classList.toggle("marked", button.frame === frame && Number(button.dataset.region) === region);
  }
}

function step(by) {
  const to = matches[matches.indexOf(examples[opened]) + by];
  if (to) openLarge(to.k);
}

function setUpLarge() {
  $("grid").addEventListener("click", (event) => {
    const shots = event.target.closest(".shots");
    if (shots) openLarge(Number(shots.parentNode.dataset.example));
  });
  watchRegions($("grid"));
  watchRegions($("stage"), pointAt);
  $("region-list").addEventListener("pointerleave", () => pointAt(null, -1));
  setUpDialog(step, () => $("grid").querySelector(`[data-example="${opened}"] .shots`));
}
