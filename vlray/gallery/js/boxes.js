// An image with its boxes, for the grid and the large view.

const boxDisplay = { on: true };

/** Regions of image i that pass the filters, best score first (their order in the data). */
function visibleRegions(i) {
  const list = [];
  for (let r = start[i]; r < start[i + 1]; r++) if (passes(r)) list.push(r);
  return list;
}

function passes(region) {
  if (regions.score[region] < state.score * FULL) return false;
  return state.labels.size === 0 || state.labels.has(regions.label[region]);
}

/** A frame with image i and the boxes of some regions. It stores the regions for hit tests. */
function frame(i, list) {
  const image = images[i];
  const box = make("span", { className: "frame" });
  box.style.setProperty("--ratio", image.width / image.height);
  const layer = overlay([image.width, image.height]);
  const paths = list.map((region) => outline(corners(image, region).map((value) => value.toFixed(1))));
  // One dark path under all boxes keeps light colours visible on light photographs.
  layer.append(svg("path", { class: "casing", d: paths.join("") }));
  list.forEach((region, k) => {
    const path = svg("path", { class: "box", d: paths[k], "data-region": region });
    path.style.stroke = path.style.fill = color(regions.label[region]);
    layer.append(path);
  });
  if (!image.missing) box.append(placeholder(i));
  box.append(layer);
  fill(box, i);
  box.regions = list;
  box.image = image;
  return box;
}

const waiting = new Set();

function fill(box, i) {
  const source = thumbnail(i);
  if (source === null) waiting.add([box, i]);
  else showPicture(box, source, box.querySelector("canvas"));
}

/** Fill the frames whose thumbnails were not parsed yet. */
function fillWaiting() {
  for (const entry of waiting) {
    if (thumbnail(entry[1]) === null) continue;
    waiting.delete(entry);
    if (entry[0].isConnected) fill(...entry);
  }
}

/** The smallest region under the pointer; -1: none. */
function hit(box, event) {
  const boxes = box.regions.map((region) => regions.box.subarray(4 * region, 4 * region + 4));
  return box.regions[smallestAt(box, [UNIT, UNIT], boxes, event)] ?? -1;
}

/** Mark a region and move it to the top. */
function markOnTop(box, region) {
  mark(box, region);
  const path = box.querySelector(".box.marked");
  if (path) path.parentNode.append(path);
}

function tipOf(region, event) {
  if (region < 0) showTip();
  else showTip(event, swatch(color(regions.label[region])), titleAndScore(region), ...attributeAndScore(region));
}
