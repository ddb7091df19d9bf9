// State of the page, and images with their regions, attention and phrases.
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
const labelOf = (box) => (box[4] < 0 ? "region" : DATA.labels[box[4]]);
const colorOf = (box) => (box[4] < 0 ? DATA.plain_color : DATA.colors[box[4]]);

/**
 * Regions coloured by attention, the highest on top. A uniform attention has no colour. Full colour
 * is the highest attention, but at least FULL_HEAT times the uniform one.
 */
function heat(image) {
  const layer = overlay(image.size, "attention");
  const uniform = 1 / image.boxes.length;
  const most = Math.max(...image.boxes.map((box) => box[5]), Math.min(FULL_HEAT * uniform, 1));
  const order = image.boxes.map((_, r) => r).sort((a, b) => image.boxes[a][5] - image.boxes[b][5]);
  for (const r of order) {
    const share = Math.max((image.boxes[r][5] - uniform) / (most - uniform || 1), 0);
    const path = svg("path", { class: "heat", d: outline(image.boxes[r]), "data-region": r });
    path.style.fillOpacity = (0.3 * share).toFixed(3);
    path.style.strokeOpacity = (0.1 + 0.9 * Math.sqrt(share)).toFixed(3);
    path.style.strokeWidth = (0.7 + 2.6 * share).toFixed(2);
    layer.append(path);
  }
  return layer;
}

function detected(image) {
  const layer = overlay(image.size, "regions");
  layer.append(svg("path", { class: "casing", d: image.boxes.map(outline).join("") }));
  image.boxes.forEach((box, r) => {
    const path = svg("path", { class: "box", d: outline(box), "data-region": r });
    path.style.stroke = path.style.fill = colorOf(box);
    layer.append(path);
  });
  return layer;
}

function grounded(image, phrases) {
  const layer = overlay(image.size, "grounding");
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
  showPicture(box, image.missing ? "" : jpeg($(`t${image.thumbnail}`).textContent));
  if (image.boxes.some((one) => one[5] !== null)) {
    box.classList.add("has-attention");
    box.append(heat(image));
  }
  box.append(detected(image));
  if (example.phrases.length) box.append(grounded(image, example.phrases));
  box.image = image;
  if (image.caption) box.append(make("span", { className: "caption", textContent: image.caption }));
  return make("span", { className: "shot" }, box);
}

function tipOf(box, region, event) {
  const one = box.image.boxes[region];
  if (!one) showTip();
  else showTip(event, swatch(colorOf(one)), labelOf(one),
    ...(one[5] === null ? [] : [make("span", { className: "attribute", textContent: `attention ${percent(one[5])}` })]));
}

/** Mark the region under the pointer in every frame of an element. */
function watchRegions(element, whenMarked = () => {}) {
  const isOn = () => ["boxes", "attention"].includes(document.body.dataset.mode);
  watchFrames(element, isOn, (box, event) => {
    const region = smallestAt(box, box.image.size, box.image.boxes, event);
    mark(box, region);
    tipOf(box, region, event);
    whenMarked(box, region);
  }, () => whenMarked(null, -1));
}
