// The steps, one below the other.
const DATA = JSON.parse($("data").textContent);
const text = (tag, className, textContent) => make(tag, { className, textContent });

function head(step) {
  return make("div", { className: "head" },
    text("h2", "", step.name),
    text("code", "", `vlray ${step.command}`),
    text("span", "badge", step.state),
    text("span", "took", step.took && `${step.took}, began ${step.began}`));
}

function links(step) {
  const anchors = step.links.map(([word, place]) => make("a", { href: place, textContent: word }));
  if (!anchors.length && step.output) return [text("p", "why", `output: ${step.output}`)];
  return anchors.length ? [make("nav", { className: "links", ariaLabel: `Files of ${step.name}` }, ...anchors)] : [];
}

function body(step) {
  const parts = [];
  if (step.figures.length) {
    parts.push(table(["", "Value", "95 % interval", "n"], step.figures, "figures-table"));
  }
  if (step.curves) {
    parts.push(make("img", { className: "curves", src: step.curves, alt: `Curves of ${step.name}` }));
  }
  return parts.length ? [make("div", { className: "body" }, ...parts)] : [];
}

function why(step) {
  const words = [];
  if (step.why) words.push(`run because: ${step.why}`);
  if (step.after.length) words.push(`reads from ${step.after.join(", ")}`);
  return words.length ? [text("p", "why", words.join("; "))] : [];
}

function drawStep(step) {
  const element = make("li", { className: "step" },
    head(step),
    ...(step.result ? [text("p", "result", step.result)] : []),
    ...why(step),
    ...links(step),
    ...body(step),
    make("details", {},
      text("summary", "", "Settings"),
      table(["Setting", "Value"], step.settings, "text"),
      text("p", "line", step.line)));
  element.dataset.state = step.state;
  return element;
}

$("pipeline").textContent = DATA.name;
$("subtitle").textContent = DATA.subtitle;
$("totals").append(...DATA.totals.map(([title, value]) => make("div", {}, text("dt", "", title), text("dd", "", value))));
$("steps").append(...DATA.steps.map(drawStep));
