// Examples of a test: images with their regions, what was asked, what was answered.
const DATA = JSON.parse($("data").textContent);
const PHRASES = ["#ffb224", "#58b6ff", "#7ddc7a", "#ff8aa8", "#c6a4ff", "#40d9c8", "#ffe066", "#ff9f6b"];
const FULL_HEAT = 4;
const JUDGED = { right: "right", wrong: "wrong", partly: "partly right" };
const examples = DATA.examples.map((example, k) => ({ ...example, k, judged: judge(example.score) }));
const modes = ["attention", "boxes", "phrases"].filter((mode) => examples.some((example) => has(example, mode)));
const state = { query: "", judged: "", kinds: DATA.kinds.map(() => ""), sort: "order" };
let matches = [];
let opened = -1;

function judge(score) {
  if (score === null) return "";
  if (score >= 1) return "right";
  return score > 0 ? "partly" : "wrong";
}

function has(example, mode) {
  if (mode === "phrases") return example.phrases.length > 0;
  return example.images.some((image) => (mode === "boxes" ? image.boxes.length : image.boxes.some((box) => box[5] !== null)));
}

const percent = (share) => (share >= 0.9995 ? "100 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);
const outline = ([x1, y1, x2, y2]) => `M${x1} ${y1}H${x2}V${y2}H${x1}Z`;
const labelOf = (box) => (box[4] < 0 ? "region" : DATA.labels[box[4]]);
const colorOf = (box) => (box[4] < 0 ? DATA.plain_color : DATA.colors[box[4]]);

/**
 * Regions by how much was looked at them, the most on top. What each would have if all had the same
 * is as good as nothing; all of the colour has what was looked at most, or four times that.
 */
function heat(image) {
  const layer = overlay(image, "looked");
  const even = 1 / image.boxes.length;
  const most = Math.max(...image.boxes.map((box) => box[5]), Math.min(FULL_HEAT * even, 1));
  const order = image.boxes.map((_, r) => r).sort((a, b) => image.boxes[a][5] - image.boxes[b][5]);
  for (const r of order) {
    const share = Math.max((image.boxes[r][5] - even) / (most - even || 1), 0);
    const path = svg("path", { class: "heat", d: outline(image.boxes[r]), "data-region": r });
    path.style.fillOpacity = (0.3 * share).toFixed(3);
    path.style.strokeOpacity = (0.1 + 0.9 * Math.sqrt(share)).toFixed(3);
    path.style.strokeWidth = (0.7 + 2.6 * share).toFixed(2);
    layer.append(path);
  }
  return layer;
}

function overlay(image, className) {
  return svg("svg", { class: className, viewBox: `0 0 ${image.size[0]} ${image.size[1]}`, preserveAspectRatio: "none", "aria-hidden": "true" });
}

function detected(image) {
  const layer = overlay(image, "regions");
  layer.append(svg("path", { class: "casing", d: image.boxes.map(outline).join("") }));
  image.boxes.forEach((box, r) => {
    const path = svg("path", { class: "box", d: outline(box), "data-region": r });
    path.style.stroke = path.style.fill = colorOf(box);
    layer.append(path);
  });
  return layer;
}

function grounded(image, phrases) {
  const layer = overlay(image, "found");
  phrases.forEach((phrase, p) => {
    const group = svg("g", { "data-phrase": p });
    group.style.setProperty("--phrase", PHRASES[p % PHRASES.length]);
    for (const box of phrase.right) group.append(svg("path", { class: "truth", d: outline(box) }));
    if (phrase.predicted) {
      group.append(svg("path", { class: "casing", d: outline(phrase.predicted) }), svg("path", { class: "predicted", d: outline(phrase.predicted) }));
    }
    layer.append(group);
  });
  return layer;
}

function shot(example, image) {
  const box = make("span", { className: "frame" });
  box.style.setProperty("--ratio", image.size[0] / image.size[1]);
  const source = image.missing ? null : $(`t${image.thumbnail}`).textContent;
  if (source) {
    box.append(make("img", { alt: "", decoding: "async", draggable: false, src: `data:image/jpeg;base64,${source}` }));
  } else {
    box.classList.add("missing");
    box.append(make("span", { className: "missing-note", textContent: "image cannot be read" }));
  }
  if (image.boxes.some((one) => one[5] !== null)) {
    box.classList.add("looks");
    box.append(heat(image));
  }
  box.append(detected(image));
  if (example.phrases.length) box.append(grounded(image, example.phrases));
  box.image = image;
  if (image.caption) box.append(make("span", { className: "caption", textContent: image.caption }));
  return make("span", { className: "shot" }, box);
}

/** The smallest region under the pointer. */
function hit(box, event) {
  const area = box.getBoundingClientRect();
  const [width, height] = box.image.size;
  const x = ((event.clientX - area.left) / area.width) * width;
  const y = ((event.clientY - area.top) / area.height) * height;
  let best = -1;
  let smallest = Infinity;
  box.image.boxes.forEach(([x1, y1, x2, y2], r) => {
    const size = (x2 - x1) * (y2 - y1);
    if (x1 <= x && x <= x2 && y1 <= y && y <= y2 && size < smallest) [best, smallest] = [r, size];
  });
  return best;
}

function mark(box, region) {
  box.classList.toggle("marking", region >= 0);
  for (const path of box.querySelectorAll("[data-region]")) path.classList.toggle("marked", Number(path.dataset.region) === region);
}

function showTip(box, region, event) {
  const tip = $("tip");
  tip.hidden = region < 0;
  if (tip.hidden) return;
  const one = box.image.boxes[region];
  const swatch = make("i", { className: "swatch" });
  swatch.style.background = colorOf(one);
  tip.replaceChildren(swatch, labelOf(one),
    ...(one[5] === null ? [] : [make("span", { className: "attribute", textContent: `attention ${percent(one[5])}` })]));
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 18;
  tip.style.left = `${Math.max(left, 8)}px`;
  tip.style.top = `${below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : below}px`;
}

/** Regions answer to the pointer in the whole of an element. */
function watchRegions(element, whenMarked = () => {}) {
  let seen = null;
  const leave = () => {
    if (seen) mark(seen, -1);
    seen = null;
    $("tip").hidden = true;
    whenMarked(null, -1);
  };
  element.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const box = event.target.closest(".frame");
    if (box !== seen) leave();
    const mode = document.body.dataset.mode;
    if (!box || (mode !== "boxes" && mode !== "attention")) return;
    seen = box;
    const region = hit(box, event);
    mark(box, region);
    showTip(box, region, event);
    whenMarked(box, region);
  });
  element.addEventListener("pointerleave", leave);
}
