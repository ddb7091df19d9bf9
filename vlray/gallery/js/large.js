// The large view: one image with its boxes and the list of its regions, linked both ways.

// Until the user switches labels on or off, they are on for images with few regions only.
const FEW_LABELS = 12;
const large = { image: -1, region: -1, pinned: -1, labels: null };

const labelsOn = () => large.labels ?? $("stage").firstElementChild.regions.length <= FEW_LABELS;

function openLarge(i) {
  large.image = i;
  large.region = large.pinned = -1;
  // Before drawing, which measures the labels.
  const opens = !$("large").open;
  if (opens) $("large").showModal();
  drawLarge();
  if (opens) $("stage").focus();
  // replaceState instead of location.hash: no history entry, and the page does not scroll.
  history.replaceState(null, "", `#image=${encodeURIComponent(images[i].id)}`);
}

function drawLarge() {
  const i = large.image;
  const image = images[i];
  const list = visibleRegions(i);
  const at = matches.indexOf(i);
  $("large-id").textContent = image.id;
  const split = DATA.splits[image.split];
  const facts = [image.path, `${image.width} \u00d7 ${image.height}`, ...(split ? [split] : [])];
  $("large-facts").textContent = facts.join(" \u00b7 ");
  $("large-facts").title = image.path;
  showPosition(at, matches.length);
  $("large-file").hidden = image.missing || !DATA.annotated;
  $("large-file").href = `${DATA.annotated}/${encodeURIComponent(image.file)}`;
  $("large-count").textContent = someOf(list.length, image.count, "region");
  waiting.clear();
  const box = frame(i, list);
  // The best score comes last, so that it is on top.
  box.append(...list.map(chip).reverse());
  $("stage").replaceChildren(box);
  placeChips(box);
  $("region-list").replaceChildren(...list.map((region) => row(image, region)));
  point(large.region);
}

function row(image, region) {
  const [x1, y1, x2, y2] = corners(image, region).map(Math.round);
  const attr = regions.attr[region];
  const label = regions.label[region];
  const name = make("span", { className: "region-name" });
  if (attr !== NONE) {
    name.append(make("span", {
      className: "attribute", textContent: `${DATA.attributes[attr]} `,
      title: `attribute ${short(regions.attrScore[region])}`,
    }));
  }
  name.append(label === NONE ? "region" : DATA.labels[label]);
  const button = make("button", {
    type: "button", className: "region", title: `box ${x1}, ${y1}, ${x2}, ${y2}: ${x2 - x1} \u00d7 ${y2 - y1} pixels`,
    "data-region": region,
  }, swatch(color(regions.label[region])), name);
  if (label !== NONE && regions.score[region] !== NONE) {
    const meter = make("span", { className: "meter" });
    meter.style.setProperty("--score", regions.score[region] / FULL);
    button.append(meter, make("span", { className: "region-score", textContent: short(regions.score[region]) }));
  }
  return make("li", {}, button);
}

/** Mark a region in all places: its box, its label and its row in the list. */
function point(region, { scroll = false } = {}) {
  large.region = region;
  const box = $("stage").firstElementChild;
  markOnTop(box, region);
  box.classList.toggle("all-labels", labelsOn());
  $("labels-on").setAttribute("aria-pressed", labelsOn());
  for (const element of $("region-list").querySelectorAll(".region")) {
    const marked = Number(element.dataset.region) === region;
    element.classList.toggle("marked", marked);
    element.setAttribute("aria-current", marked);
    if (marked && scroll) element.scrollIntoView({ block: "nearest" });
  }
}

function stepLarge(by) {
  const at = matches.indexOf(large.image) + by;
  if (matches[at] !== undefined) openLarge(matches[at]);
}

function stepRegion(by) {
  const list = $("stage").firstElementChild.regions;
  if (!list.length) return;
  const at = list.indexOf(large.region);
  const to = at < 0 ? (by > 0 ? 0 : list.length - 1) : (at + by + list.length) % list.length;
  large.pinned = list[to];
  point(list[to], { scroll: true });
}

function closedLarge() {
  history.replaceState(null, "", "#");
  const at = matches.indexOf(large.image);
  if (at < 0) return null;
  // Open the page of the grid that has the last image.
  if (Math.floor(at / PAGE) !== state.page) goTo(Math.floor(at / PAGE));
  return $("grid").querySelector(`[data-image="${large.image}"]`);
}

function setUpLarge() {
  const stage = $("stage");
  const list = $("region-list");
  stage.tabIndex = -1;
  stage.addEventListener("pointermove", (event) => point(hit(stage.firstElementChild, event), { scroll: true }));
  stage.addEventListener("pointerleave", () => point(large.pinned));
  stage.addEventListener("click", (event) => {
    large.pinned = hit(stage.firstElementChild, event);
    point(large.pinned, { scroll: true });
  });
  list.addEventListener("pointerover", (event) => {
    const element = event.target.closest(".region");
    if (element) point(Number(element.dataset.region));
  });
  list.addEventListener("pointerleave", () => point(large.pinned));
  const pin = (event) => {
    const element = event.target.closest(".region");
    if (!element) return;
    large.pinned = Number(element.dataset.region);
    point(large.pinned);
  };
  list.addEventListener("click", pin);
  list.addEventListener("focusin", pin);
  $("labels-on").addEventListener("click", toggleLabels);
  addEventListener("resize", () => { if ($("large").open) placeChips(stage.firstElementChild); });
  setUpDialog(stepLarge, closedLarge);
}

function toggleLabels() {
  large.labels = !labelsOn();
  point(large.region);
}
