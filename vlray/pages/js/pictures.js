// Images with boxes on top: drawing and hit tests.
const outline = ([x1, y1, x2, y2]) => `M${x1} ${y1}H${x2}V${y2}H${x1}Z`;
const jpeg = (text) => `data:image/jpeg;base64,${text}`;

/** Put an image into an element, below all but its placeholder; without a source, a note instead. */
function showPicture(box, source, placeholder = null) {
  box.classList.toggle("missing", !source);
  // Files are read near the window only. The order matters: a source without `loading` is read at once.
  const loading = source.startsWith("data:") ? "eager" : "lazy";
  const picture = source
    ? make("img", { alt: "", loading, decoding: "async", draggable: false, src: source })
    : make("span", { className: "missing-note", textContent: "image cannot be read" });
  if (placeholder) placeholder.after(picture);
  else box.prepend(picture);
}

/** Create an SVG layer for boxes in pixels of an image. */
function overlay([width, height], className = "") {
  return svg("svg", { class: className, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
}

/**
 * Index of the smallest box under the pointer, or -1. The smallest, because larger boxes often cover it.
 * Boxes are in units in which the element has the given width and height.
 */
function smallestAt(element, [width, height], boxes, event) {
  const area = element.getBoundingClientRect();
  const x = ((event.clientX - area.left) / area.width) * width;
  const y = ((event.clientY - area.top) / area.height) * height;
  let best = -1;
  let smallest = Infinity;
  boxes.forEach(([x1, y1, x2, y2], k) => {
    const size = (x2 - x1) * (y2 - y1);
    if (x1 <= x && x <= x2 && y1 <= y && y <= y2 && size < smallest) [best, smallest] = [k, size];
  });
  return best;
}

/** Mark one region of a frame and dim the others; -1: mark none. */
function mark(box, region) {
  box.classList.toggle("marking", region >= 0);
  for (const element of box.querySelectorAll("[data-region]")) {
    element.classList.toggle("marked", Number(element.dataset.region) === region);
  }
}

function swatch(color) {
  const element = make("i", { className: "swatch" });
  element.style.background = color;
  return element;
}

/** Show the tooltip beside the pointer, inside the window; without content, hide it. */
function showTip(event, ...content) {
  const tip = $("tip");
  tip.hidden = !content.length;
  if (tip.hidden) return;
  tip.replaceChildren(...content);
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 18;
  tip.style.left = `${Math.max(left, 8)}px`;
  tip.style.top = `${below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : below}px`;
}
