// Shared by the pages with a grid, filters and a large view.

/** Call `over` while the pointer is over a frame of an element, and `left` when it leaves the frame. */
function watchFrames(element, isOn, over, left = () => {}) {
  let seen = null;
  const leave = () => {
    if (seen) mark(seen, -1);
    seen = null;
    showTip();
    left();
  };
  element.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const box = event.target.closest(".frame");
    if (box !== seen) leave();
    if (!box || !isOn()) return;
    seen = box;
    over(box, event);
  });
  element.addEventListener("pointerleave", leave);
}

/** Open the filters in windows that are wide enough to have them beside the grid. */
function setUpFolding() {
  const wide = matchMedia("(min-width: 800px)");
  const fold = () => { document.querySelector(".filters").open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  $("filters").addEventListener("submit", (event) => event.preventDefault());
}

/**
 * Set up the buttons of the large view; a click outside of it closes it.
 * `closed` returns the element of the grid that gets the focus, or null.
 */
function setUpDialog(step, closed) {
  const dialog = $("large");
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    const element = closed();
    // The event can come after the next key press: do not take the focus from a field reached by "/".
    if (!document.activeElement?.matches("input, select")) element?.focus({ focusVisible: false });
  });
}

/** Show the position in the grid of the item in the large view; -1: it is filtered out. */
function showPosition(at, total) {
  $("position").textContent = at < 0 ? "" : `${number(at + 1)} / ${number(total)}`;
  $("previous").disabled = at <= 0;
  $("next").disabled = at < 0 || at === total - 1;
}

/** "3 images", or "1 of 3 images" if the filters exclude some. */
const someOf = (count, total, word) =>
  count === total ? plural(total, word) : `${number(count)} of ${plural(total, word)}`;
