// The picture of one image with its boxes on top: the same for the grid and the large view.

const seenBoxes = { on: true };

/** Regions of image i that the filters leave, best score first (their order in the data). */
function shown(i) {
  const list = [];
  for (let r = start[i]; r < start[i + 1]; r++) if (passes(r)) list.push(r);
  return list;
}

function passes(region) {
  if (regions.score[region] < state.score * FULL) return false;
  return state.labels.size === 0 || state.labels.has(regions.label[region]);
}

function outline(image, list) {
  return list.map((region) => {
    const [x1, y1, x2, y2] = corners(image, region);
    return `M${x1.toFixed(1)} ${y1.toFixed(1)}H${x2.toFixed(1)}V${y2.toFixed(1)}H${x1.toFixed(1)}Z`;
  });
}

/** Build <img> + <svg> for image i; the frame remembers its regions for hit tests. */
function frame(i, list) {
  const image = images[i];
  const box = make("span", { className: "frame" });
  box.style.setProperty("--ratio", image.width / image.height);
  const picture = make("img", { alt: "", decoding: "async", draggable: false });
  box.append(picture);
  fill(box, picture, i);
  const layer = svg("svg", {
    viewBox: `0 0 ${image.width} ${image.height}`, preserveAspectRatio: "none", "aria-hidden": "true",
  });
  const paths = outline(image, list);
  // One dark path under all boxes keeps light colours visible on light photographs.
  layer.append(svg("path", { class: "casing", d: paths.join("") }));
  list.forEach((region, k) => {
    const path = svg("path", { class: "box", d: paths[k], "data-region": region });
    path.style.stroke = path.style.fill = color(regions.label[region]);
    layer.append(path);
  });
  box.append(layer);
  box.regions = list;
  box.image = image;
  return box;
}

const waiting = new Set();

function fill(box, picture, i) {
  const source = thumbnail(i);
  if (source) {
    picture.src = source;
  } else if (source === "") {
    picture.remove();
    box.classList.add("missing");
    box.append(make("span", { className: "missing-note", textContent: "image cannot be read" }));
  } else {
    waiting.add([box, picture, i]);
  }
}

/** Give pictures that were not loaded yet another chance; the document is still being parsed. */
function fillWaiting() {
  for (const entry of waiting) {
    if (thumbnail(entry[2]) === null) continue;
    waiting.delete(entry);
    if (entry[0].isConnected) fill(...entry);
  }
}

/** The smallest box under the pointer: the one that would otherwise be hardest to reach. */
function hit(box, event) {
  const area = box.getBoundingClientRect();
  const x = ((event.clientX - area.left) / area.width) * UNIT;
  const y = ((event.clientY - area.top) / area.height) * UNIT;
  let best = -1;
  let smallest = Infinity;
  for (const region of box.regions) {
    const [x1, y1, x2, y2] = regions.box.subarray(4 * region, 4 * region + 4);
    const size = (x2 - x1) * (y2 - y1);
    if (x1 <= x && x <= x2 && y1 <= y && y <= y2 && size < smallest) {
      smallest = size;
      best = region;
    }
  }
  return best;
}

/** Mark one box of a frame, dim the others; -1 marks none. */
function mark(box, region) {
  box.classList.toggle("marking", region >= 0);
  for (const path of box.querySelectorAll(".box")) {
    const marked = Number(path.dataset.region) === region;
    path.classList.toggle("marked", marked);
    if (marked) path.parentNode.append(path);
  }
}

function showTip(region, event) {
  const tip = $("tip");
  if (region < 0) {
    tip.hidden = true;
    return;
  }
  const swatch = make("i", { className: "swatch" });
  swatch.style.background = color(regions.label[region]);
  tip.replaceChildren(swatch, titleAndScore(region), ...attributeAndScore(region));
  tip.hidden = false;
  const width = tip.offsetWidth;
  const height = tip.offsetHeight;
  const left = Math.min(event.clientX + 14, innerWidth - width - 8);
  const below = event.clientY + 18;
  tip.style.left = `${Math.max(left, 8)}px`;
  tip.style.top = `${below + height > innerHeight ? event.clientY - height - 10 : below}px`;
}
