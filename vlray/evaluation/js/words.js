// Texts of an example: question, answers of the model, right answers.

function asked(example) {
  const element = make("p", { className: "asked" });
  // Python counts code points, JavaScript UTF-16 units: split by code points to use the spans.
  const letters = [...example.text];
  let end = 0;
  example.phrases.map((phrase, p) => [phrase.span, p]).sort(([a], [b]) => a[0] - b[0]).forEach(([[first, last], p]) => {
    if (first < end) return;
    const phrase = make("mark", { textContent: letters.slice(first, last).join(""), "data-phrase": p });
    phrase.style.setProperty("--phrase", PHRASES[p % PHRASES.length]);
    phrase.title = example.phrases[p].hit === null ? "" : example.phrases[p].hit ? "found" : "missed";
    element.append(letters.slice(end, first).join(""), phrase);
    end = last;
  });
  element.append(letters.slice(end).join("") || (end ? "" : "(no text)"));
  return element;
}

function answers(example) {
  const rows = example.candidates.map(([name, share, score], k) => {
    const judged = judge(score);
    const meter = make("span", { className: "meter" });
    meter.style.setProperty("--score", share);
    return make("li", { className: `${k ? "" : "first"} ${judged}` },
      make("span", { className: "sign", textContent: { right: "\u2713", partly: "\u223c", wrong: k ? "" : "\u2717", "": k ? "" : "\u203a" }[judged] }),
      make("span", { className: "answer", textContent: name, title: name }), meter,
      make("span", { className: "share", textContent: percent(share) }));
  });
  return rows.length ? [make("ol", { className: "answers" }, ...rows)] : [];
}

function rightAnswers(example) {
  if (!example.truth.length) return [];
  const words = example.truth.flatMap(([name, note], k) => [k ? ", " : "", make("b", { textContent: name }), note ? ` ${note}` : ""]);
  return [make("p", { className: "right-answers" }, make("span", { className: "quiet", textContent: "Right answer: " }), ...words)];
}

function facts(example) {
  const kinds = example.about.filter((value) => value);
  return make("p", { className: "about", textContent: [example.id, ...kinds].join(" \u00b7 ") });
}

function badge(example) {
  if (!example.judged) return [];
  const text = example.judged === "partly" ? percent(example.score) : JUDGED[example.judged];
  return [make("span", { className: `badge ${example.judged}`, textContent: text })];
}

function card(example) {
  const shots = make("button", { type: "button", className: `shots of-${example.images.length}`, "aria-label": `Enlarge example ${example.id}` },
    ...example.images.map((image) => shot(example, image)), ...badge(example));
  const element = make("article", { className: `example ${example.judged}`, "data-example": example.k }, shots,
    make("div", { className: "words" }, asked(example), ...answers(example), ...rightAnswers(example), facts(example)));
  pointAtPhrases(element, element);
  return element;
}

/** Pointing at a phrase dims the boxes of all other phrases. */
function pointAtPhrases(words, pictures) {
  const point = (phrase) => {
    for (const one of [words, pictures]) {
      for (const element of one.querySelectorAll("[data-phrase]")) {
        element.classList.toggle("marked", element.dataset.phrase === phrase);
        element.classList.toggle("faint", phrase !== undefined && element.dataset.phrase !== phrase && element.tagName !== "MARK");
      }
    }
  };
  words.addEventListener("pointerover", (event) => point(event.target.closest("mark")?.dataset.phrase));
  words.addEventListener("pointerleave", () => point(undefined));
}
