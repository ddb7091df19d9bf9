// The failures tab: reasons, filtered by error, and lists to copy.

const FAILURE_ROWS = 500;
const COLUMNS = ["Image", "Path", "Split", "Stage", "Error", "Reason"]; // of DATA.failures
const SHOWN = [0, 5, 4, 3, 1, 2]; // the reason beside the image
const KIND = 4;

const failures = { kind: "" };

const chosenFailures = () => DATA.failures.filter((row) => !failures.kind || row[KIND] === failures.kind);

/** Copy a text; pages of plain http have no clipboard object, but may copy a selection. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

function copyButton(text, list) {
  const button = make("button", { type: "button", className: "toggle", textContent: text });
  button.addEventListener("click", async () => {
    const rows = chosenFailures();
    const copied = await copy(list(rows));
    $("copied").textContent = copied ? `${plural(rows.length, "line")} copied` : "copying is not allowed here";
  });
  return button;
}

// A tab or a line break inside a value would add a column or a row.
const tabSeparated = (rows) => [COLUMNS, ...rows]
  .map((row) => row.map((value) => String(value ?? "").replace(/\s+/g, " ")).join("\t")).join("\n");

function drawFailures() {
  const rows = chosenFailures();
  const columns = SHOWN.filter((column) => DATA.failures.some((row) => row[column]));
  const shown = rows.slice(0, FAILURE_ROWS);
  $("failure-list").replaceChildren(table(
    columns.map((column) => COLUMNS[column]), shown.map((row) => columns.map((column) => row[column])), "text failure-table"));
  const left = failures.kind ? rows.length - shown.length : DATA.totals.failures - shown.length;
  if (left > 0) {
    $("failure-list").append(make("p", {
      className: "quiet", textContent: `${number(left)} more are listed in the output's failures/ folder`,
    }));
  }
  for (const button of document.querySelectorAll("[data-kind]")) {
    button.setAttribute("aria-pressed", button.dataset.kind === failures.kind);
  }
  $("copied").textContent = "";
}

function setUpFailures() {
  if (!DATA.failures.length) {
    $("failures").append(make("p", { className: "empty", textContent: "No image failed." }));
    return;
  }
  const kinds = new Map();
  for (const row of DATA.failures) kinds.set(row[KIND], (kinds.get(row[KIND]) || 0) + 1);
  const buttons = [...kinds].sort((a, b) => b[1] - a[1]).map(([kind, count]) => {
    const button = make("button", { type: "button", className: "toggle", textContent: `${kind} ${number(count)}`, "data-kind": kind });
    button.addEventListener("click", () => {
      failures.kind = failures.kind === kind ? "" : kind;
      drawFailures();
    });
    return button;
  });
  $("failures").append(
    make("div", { className: "bar" },
      make("div", { className: "toggles", role: "group", "aria-label": "Errors" }, ...buttons),
      make("div", { className: "toggles" },
        make("span", { id: "copied", className: "quiet", role: "status" }),
        copyButton("Copy list", tabSeparated),
        copyButton("Copy paths", (rows) => rows.map((row) => row[1]).join("\n")))),
    make("div", { id: "failure-list" }));
  drawFailures();
}
