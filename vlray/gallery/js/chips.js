// The labels on the boxes of the large view, placed so that none covers another.

const MOST_HIDDEN = 0.1; // share of a label that labels with a higher score may cover

function chip(region) {
  const element = make("span", { className: "chip", textContent: titleAndScore(region), "data-region": region });
  element.style.background = color(regions.label[region]);
  return element;
}

/** Places for a label of a size at a box, best first: above, inside, below, each at the left and at the right. */
function spots([x1, y1, x2, y2], width, height) {
  const tops = [y1 - height, y1, y2, y2 - height];
  return [x1, x2 - width].flatMap((left) => tops.map((top) => [left, top]));
}

const overlap = (from, length, otherFrom, otherLength) =>
  Math.max(Math.min(from + length, otherFrom + otherLength) - Math.max(from, otherFrom), 0);

/**
 * Place the labels of a frame in order of their scores, each where it hides the least of earlier ones. A label
 * without such a place is crowded: it appears when its region is marked.
 */
function placeChips(box) {
  const { clientWidth, clientHeight } = box;
  const chips = [...box.querySelectorAll(".chip")];
  // All sizes before the first change: otherwise the browser lays out the page for each label.
  const sizes = new Map(chips.map((element) => [Number(element.dataset.region), [element.offsetWidth, element.offsetHeight]]));
  const taken = [];
  for (const element of chips.sort((a, b) => regions.score[b.dataset.region] - regions.score[a.dataset.region])) {
    const region = Number(element.dataset.region);
    const [width, height] = sizes.get(region);
    const unit = regions.box.subarray(4 * region, 4 * region + 4);
    const pixels = [...unit].map((value, k) => (value / UNIT) * (k % 2 ? clientHeight : clientWidth));
    let best = [];
    let least = Infinity;
    for (let [left, top] of spots(pixels, width, height)) {
      left = Math.max(Math.min(left, clientWidth - width), 0);
      top = Math.max(Math.min(top, clientHeight - height), 0);
      const hidden = taken.reduce((sum, [x, y, w, h]) => sum + overlap(left, width, x, w) * overlap(top, height, y, h), 0);
      if (hidden < least) [best, least] = [[left, top], hidden];
    }
    element.style.left = `${best[0]}px`;
    element.style.top = `${best[1]}px`;
    const crowded = least > width * height * MOST_HIDDEN;
    element.classList.toggle("crowded", crowded);
    if (!crowded) taken.push([...best, width, height]);
  }
}
