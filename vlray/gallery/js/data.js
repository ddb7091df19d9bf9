// Data of the page. Regions are flat typed arrays; image i has the regions start[i] to start[i + 1] - 1.
const DATA = JSON.parse($("data").textContent);
const NONE = 0xffff;
const UNIT = 0xffff; // boxes are in 65535ths of the image's width and height
const FULL = 10000; // scores are in 10000ths

const images = DATA.images.map(([id, path, split, width, height, count, file, missing]) => ({
  id, path, split, width, height, count, file, missing,
}));

const start = new Uint32Array(images.length + 1);
images.forEach((image, i) => { start[i + 1] = start[i] + image.count; });

const regions = (() => {
  const total = start[images.length];
  const bytes = Uint8Array.from(atob(DATA.regions), (c) => c.charCodeAt(0));
  let offset = 0;
  const take = (Type, length) => {
    const values = new Type(bytes.buffer, offset, length);
    offset += values.byteLength;
    return values;
  };
  return {
    box: take(Uint16Array, 4 * total),
    label: take(Uint16Array, total),
    score: take(Uint16Array, total),
    attr: take(Uint16Array, total),
    attrScore: take(Uint16Array, total),
  };
})();

const hasLabels = DATA.labels.length > 0;
const short = (score) => (score === NONE ? "" : (score / FULL).toFixed(2).replace(/^0/, ""));

const color = (label) => (label === NONE ? DATA.plain_color : DATA.colors[label]);

function title(region) {
  const label = regions.label[region];
  if (label === NONE) return "region";
  const attr = regions.attr[region];
  return attr === NONE ? DATA.labels[label] : `${DATA.attributes[attr]} ${DATA.labels[label]}`;
}

function titleAndScore(region) {
  return regions.label[region] === NONE ? "region" : `${title(region)} ${short(regions.score[region])}`.trimEnd();
}

/** The attribute with its own score, as a list of elements; empty without an attribute. */
function attributeAndScore(region) {
  const attr = regions.attr[region];
  if (attr === NONE) return [];
  const text = `${DATA.attributes[attr]} ${short(regions.attrScore[region])}`;
  return [make("span", { className: "attribute", textContent: text })];
}

/** Corners of a region in pixels of the original image. */
function corners(image, region) {
  const box = regions.box.subarray(4 * region, 4 * region + 4);
  return [
    (box[0] * image.width) / UNIT, (box[1] * image.height) / UNIT,
    (box[2] * image.width) / UNIT, (box[3] * image.height) / UNIT,
  ];
}

/** Thumbnail as a data URI; "": the image could not be read; null: not parsed yet. */
function thumbnail(i) {
  if (images[i].missing) return "";
  const block = $(`t${i}`);
  // A block is complete once the parser has reached the next element.
  if (!block || !(block.nextElementSibling || document.readyState !== "loading")) return null;
  return jpeg(block.textContent);
}
