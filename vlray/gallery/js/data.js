// Data of the page. Regions are flat typed arrays; image i has the regions start[i] to start[i + 1] - 1.
const DATA = JSON.parse($("data").textContent);
const NONE = 0xffff;
const UNIT = 0xffff; // boxes are in 65535ths of the image's width and height
const FULL = 10000; // scores are in 10000ths

const SIDE = 8; // a placeholder is a grid of 8 x 8 RGB colours

// `file` is the name in the folders of annotated images and thumbnails; "": the image cannot be read.
const images = DATA.images.map(([id, path, split, width, height, count, file]) => ({
  id, path, split, width, height, count, file, missing: file === "",
}));

/** Bytes of a base64 text. The text is dropped from the data, which would hold it twice. */
function takeBytes(name) {
  const text = DATA[name];
  DATA[name] = "";
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = characters.charCodeAt(k);
  return bytes;
}

const placeholders = takeBytes("placeholders");

const start = new Uint32Array(images.length + 1);
images.forEach((image, i) => { start[i + 1] = start[i] + image.count; });

const regions = (() => {
  const total = start[images.length];
  const bytes = takeBytes("regions");
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

/** Address of the thumbnail; "": the image could not be read; null: not parsed yet. */
function thumbnail(i) {
  if (images[i].missing) return "";
  if (DATA.thumbnails) return `${DATA.thumbnails}/${encodeURIComponent(images[i].file)}`;
  const block = $(`t${i}`);
  // A block is complete once the parser has reached the next element.
  if (!block || !(block.nextElementSibling || document.readyState !== "loading")) return null;
  return jpeg(block.textContent);
}

/** The colours of an image as a canvas, which the style scales up and so blurs; drawn at once. */
function placeholder(i) {
  const canvas = make("canvas", { width: SIDE, height: SIDE });
  canvas.setAttribute("aria-hidden", "true");
  const pixels = new ImageData(SIDE, SIDE);
  for (let from = 3 * SIDE * SIDE * i, to = 0; to < pixels.data.length; from += 3, to += 4) {
    pixels.data.set(placeholders.subarray(from, from + 3), to);
    pixels.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
