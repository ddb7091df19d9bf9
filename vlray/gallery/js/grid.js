// The grid of thumbnails and its pages.

const PAGE = 60;

function drawGrid() {
  const pages = Math.max(Math.ceil(matches.length / PAGE), 1);
  state.page = Math.min(Math.max(state.page, 0), pages - 1);
  const from = state.page * PAGE;
  const onPage = matches.slice(from, from + PAGE);
  waiting.clear();
  showTip();
  if (onPage.length) $("grid").replaceChildren(...onPage.map(card));
  else $("grid").replaceChildren(make("p", { className: "empty", textContent: "No image matches the filters." }));
  const range = pages > 1 ? `, ${number(from + 1)} to ${number(from + onPage.length)} on this page` : "";
  $("count").textContent = someOf(matches.length, images.length, "image") + range;
  drawPager(pages);
}

function card(i) {
  const image = images[i];
  const list = visibleRegions(i);
  const ratio = Math.min(Math.max(image.width / image.height, 0.6), 2.4);
  const best = [];
  for (const region of list) {
    if (best.length === 3 || regions.label[region] === NONE) break;
    best.push(titleAndScore(region));
  }
  const element = make("button", {
    type: "button", className: "card",
    "aria-label": `${image.id}, ${plural(list.length, "region")}${best.length ? `: ${best.join(", ")}` : ""}`,
  },
  make("span", { className: "thumb" }, frame(i, list)),
  make("span", { className: "caption" },
    make("span", { className: "id", textContent: image.id, title: image.path }),
    make("span", { className: "quiet", textContent: number(list.length) })),
  make("span", { className: "best", textContent: best.join(" \u00b7 ") }));
  element.style.setProperty("--share", ratio);
  element.dataset.image = i;
  return element;
}

function drawPager(pages) {
  const pager = $("pager");
  if (pages === 1) {
    pager.replaceChildren();
    return;
  }
  const linked = [...new Set([0, state.page - 1, state.page, state.page + 1, pages - 1])]
    .filter((page) => page >= 0 && page < pages);
  const items = [step("Previous page", "\u2039", state.page - 1, pages)];
  linked.forEach((page, k) => {
    if (k && page - linked[k - 1] > 1) items.push(make("span", { className: "quiet", textContent: "\u2026" }));
    const button = make("button", { type: "button", textContent: number(page + 1), "aria-label": `Page ${page + 1}` });
    if (page === state.page) button.setAttribute("aria-current", "page");
    button.dataset.page = page;
    items.push(button);
  });
  items.push(step("Next page", "\u203a", state.page + 1, pages));
  pager.replaceChildren(...items);
}

function step(name, text, page, pages) {
  const button = make("button", { type: "button", textContent: text, "aria-label": name });
  button.disabled = page < 0 || page >= pages;
  button.dataset.page = page;
  return button;
}

function goTo(page) {
  const pages = Math.ceil(matches.length / PAGE);
  if (page < 0 || page >= pages) return;
  state.page = page;
  drawGrid();
  const top = document.querySelector(".results").getBoundingClientRect().top;
  if (top < 0) scrollBy(0, top - 12);
}

/** Move the focus with arrow keys: between cards, and past the edge to the next page. */
function walk(event, current) {
  const cards = [...$("grid").children];
  const index = cards.indexOf(current);
  const middle = (element) => {
    const area = element.getBoundingClientRect();
    return [area.left + area.width / 2, area.top];
  };
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const to = index + (event.key === "ArrowLeft" ? -1 : 1);
    if (cards[to]) cards[to].focus();
    else {
      const before = state.page;
      goTo(before + (to < 0 ? -1 : 1));
      if (state.page !== before) (to < 0 ? $("grid").lastElementChild : $("grid").firstElementChild).focus();
    }
  } else {
    const down = event.key === "ArrowDown";
    const [x, y] = middle(current);
    const rows = cards.filter((element) => (down ? middle(element)[1] > y + 4 : middle(element)[1] < y - 4));
    if (!rows.length) return;
    const tops = rows.map((element) => middle(element)[1]);
    const row = down ? Math.min(...tops) : Math.max(...tops);
    rows.filter((_, k) => Math.abs(tops[k] - row) < 4)
      .sort((a, b) => Math.abs(middle(a)[0] - x) - Math.abs(middle(b)[0] - x))[0].focus();
  }
  event.preventDefault();
}

function setUpGrid() {
  const grid = $("grid");
  watchFrames(grid, () => boxDisplay.on, (box, event) => {
    const region = hit(box, event);
    markOnTop(box, region);
    tipOf(region, event);
  });
  grid.addEventListener("click", (event) => {
    const element = event.target.closest(".card");
    if (element) openLarge(Number(element.dataset.image));
  });
  grid.addEventListener("keydown", (event) => {
    const element = event.target.closest(".card");
    if (element && event.key.startsWith("Arrow")) walk(event, element);
  });
  $("pager").addEventListener("click", (event) => {
    if (event.target.dataset.page !== undefined) goTo(Number(event.target.dataset.page));
  });
}
