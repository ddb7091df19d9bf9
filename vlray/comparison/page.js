// The worst images with the boxes of both sides; pointing at a box marks its partner as well.
const DATA = JSON.parse($("data").textContent);
// Rounded numbers without a leading zero; a negative value that rounds to zero loses its sign.
const digits = (value, count) =>
  value === null ? "" : value.toFixed(count).replace(/^-(?=[0.]+$)/, "").replace(/^(-?)0\./, "$1.");
/** A cosine with enough digits to distinguish it from 1: .998, .99998. */
const cosine = (distance) => {
  if (distance === null) return "";
  if (distance === 0) return "1";
  return digits(1 - distance, Math.min(Math.max(Math.ceil(-Math.log10(distance)) + 1, 3), 9));
};

function name(box, withScore = true) {
  const [, label, score, attribute] = box;
  if (label === "") return "box";
  const words = attribute === "" ? label : `${attribute} ${label}`;
  return withScore && score !== null ? `${words} ${digits(score, 2)}` : words;
}

const withAttribute = (box) => (box[3] === "" || box[4] === null ? "" : ` (${box[3]} ${digits(box[4], 2)})`);

/** State of each box of an image, and the index of its pair; -1: no partner. */
function states(image) {
  const status = image.sides.map((boxes) => boxes.map(() => ({ state: "lone", pair: -1 })));
  image.pairs.forEach((pair, k) => {
    const state = pair.other ? "other" : "same";
    status[0][pair.a] = status[1][pair.b] = { state, pair: k };
  });
  return status;
}

const DEPTH = { same: 0, other: 1, lone: 2 };

/** The image with the boxes of one side; boxes without a partner are on top. */
function shot(image, side, status) {
  const [width, height] = image.size[side];
  const element = make("div", { className: "shot" });
  element.style.setProperty("--ratio", width / height);
  showPicture(element, image.missing ? "" : jpeg($(`t${image.thumbnail}`).textContent));
  const layer = overlay(image.size[side]);
  const order = image.sides[side].map((_, k) => k).sort((a, b) => DEPTH[status[side][a].state] - DEPTH[status[side][b].state]);
  for (const kind of ["casing", "box"]) {
    for (const k of order) {
      layer.append(svg("path", { class: `${kind} ${status[side][k].state}`, d: outline(image.sides[side][k][0]), "data-region": k }));
    }
  }
  element.append(layer);
  return element;
}

/** Index of the smallest visible box under the pointer; -1: none. */
function hit(image, side, status, event) {
  const isHidden = (k) => document.body.classList.contains(`hide-${status[side][k].state}`);
  const boxes = image.sides[side].map(([box], k) => (isHidden(k) ? [] : box));
  return smallestAt(event.currentTarget, image.size[side], boxes, event);
}

function facts(image) {
  const row = image.metrics;
  const list = [
    ["boxes", `${row.boxes_a} | ${row.boxes_b}`], ["matched", row.matched],
    ["IoU", digits(row.iou_mean, 3)],
    ["cosine", row.cosine_mean === null ? "" : cosine(1 - row.cosine_mean)],
    ["relative L2", row.rel_l2_mean === null ? "" : row.rel_l2_mean.toPrecision(3)],
    ["same class", row.same_class], ["same attribute", row.same_attribute],
    ["score", row.score_diff_mean === null ? "" : (row.score_diff_mean >= 0 ? "+" : "") + digits(row.score_diff_mean, 3)],
  ];
  const visible = list.filter(([, value]) => value !== "" && value !== null);
  return make("span", { className: "facts" }, ...visible.flatMap(([title, value], k) => [
    k ? " \u00b7 " : "", `${title} `, make("b", { textContent: String(value) })]),
  image.metrics.same_size ? "" : " \u00b7 the image sizes differ");
}

function measures(pair) {
  const words = [`IoU ${digits(pair.iou, 3)}`];
  if (pair.cosine !== null) words.push(`cosine ${cosine(pair.cosine)}`);
  if (pair.l2 !== null) words.push(`relative L2 ${pair.l2.toPrecision(2)}`);
  return words.join(" \u00b7 ");
}

/** Table of all boxes: those without a partner first, then pairs of different classes, then by similarity. */
function boxTable(image, status) {
  const rows = [];
  for (const side of [0, 1]) {
    image.sides[side].forEach((box, k) => {
      if (status[side][k].state !== "lone") return;
      rows.push({ boxes: side ? [-1, k] : [k, -1], cells: side ? ["", name(box)] : [name(box), ""], key: -2, state: "lone" });
    });
  }
  image.pairs.forEach((pair) => rows.push({
    boxes: [pair.a, pair.b], key: pair.other ? -1 : 1 - (pair.cosine ?? 1 - pair.iou), state: pair.other ? "other" : "same",
    cells: [name(image.sides[0][pair.a]), name(image.sides[1][pair.b]), digits(pair.iou, 3), cosine(pair.cosine),
      pair.l2 === null ? "" : pair.l2.toPrecision(3)],
  }));
  rows.sort((a, b) => a.key - b.key);
  const box = table(["A", "B", "IoU", "Cosine", "Relative L2"], rows.map(({ cells }) => [...cells, "", "", ""].slice(0, 5)), "pairs-table");
  [...box.querySelectorAll("tbody tr")].forEach((element, k) => {
    element.classList.add(rows[k].state);
    element.boxes = rows[k].boxes;
  });
  return box;
}

function card(image) {
  const status = states(image);
  const shots = [0, 1].map((side) => shot(image, side, status));
  const lone = status.flat().filter((box) => box.state === "lone").length;
  const details = make("details", {}, make("summary", { textContent: `${plural(image.pairs.length, "pair")} and ${number(lone)} without a partner` }));
  const element = make("article", { className: "pair" },
    make("div", { className: "head" }, make("h2", { textContent: image.id, title: image.path }), facts(image)),
    make("div", { className: "sides" }, ...shots.map((one, side) => make("figure", {},
      make("figcaption", { title: DATA.names[side] }, make("b", { textContent: "AB"[side] }), DATA.names[side]), one))),
    details);
  const point = (boxes) => {
    shots.forEach((one, side) => mark(one, boxes[side]));
    for (const row of details.querySelectorAll("tbody tr")) {
      row.classList.toggle("marked", boxes.some((k, side) => k >= 0 && row.boxes[side] === k));
    }
  };
  const partners = (side, k) => {
    if (k < 0) return [-1, -1];
    const pair = image.pairs[status[side][k].pair];
    if (pair) return [pair.a, pair.b];
    return side ? [-1, k] : [k, -1];
  };
  shots.forEach((one, side) => {
    const over = (event) => {
      const boxes = partners(side, hit(image, side, status, event));
      point(boxes);
      tipOf(image, boxes, image.pairs[boxes[side] < 0 ? -1 : status[side][boxes[side]].pair], event);
    };
    one.addEventListener("pointermove", over);
    one.addEventListener("click", over);
    one.addEventListener("pointerleave", () => { point([-1, -1]); showTip(); });
  });
  details.addEventListener("toggle", () => {
    if (details.children.length > 1) return;
    details.append(boxTable(image, status));
    details.addEventListener("pointerover", (event) => point(event.target.closest("tbody tr")?.boxes ?? [-1, -1]));
    details.addEventListener("pointerleave", () => point([-1, -1]));
  });
  return element;
}

function tipOf(image, boxes, pair, event) {
  if (boxes[0] < 0 && boxes[1] < 0) {
    showTip();
    return;
  }
  const line = (side) => {
    const box = boxes[side] < 0 ? null : image.sides[side][boxes[side]];
    return make("div", {}, make("b", { textContent: "AB"[side] }), box ? name(box) + withAttribute(box) : "no partner");
  };
  showTip(event, line(0), line(1), ...(pair ? [make("div", { textContent: measures(pair) })] : []));
}

function drawPairs() {
  const order = DATA.orders[$("order").selectedIndex];
  $("pairs").replaceChildren(...order ? order[1].map((i) => card(DATA.images[i]))
    : [make("p", { className: "empty", textContent: "No image differs." })]);
}

for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const hidden = document.body.classList.toggle(`hide-${button.dataset.state}`);
    button.setAttribute("aria-pressed", !hidden);
  });
}
$("order").addEventListener("change", drawPairs);
setUpTabs();
// The thumbnails come after the script in the document.
document.addEventListener("DOMContentLoaded", drawPairs);
