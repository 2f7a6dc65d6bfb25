// The words that were found, largest first, and in one folded line those that were not.

import { $, make } from "./dom.js";
import { LEAST_SHARE, labelled } from "./result.js";
import { current, subscribe, swapLook } from "./state.js";

// cutOut: receives the word of a button "Cut out".
export function startTable(cutOut) {
  subscribe((state, before) => {
    const { look, result, edits } = state;
    if (result !== before.result || edits !== before.edits || look.threshold !== before.look.threshold) {
      list(state, cutOut);
    }
    if (look.picked !== before.look.picked) press();
    if (look.view !== before.look.view) $("scale").hidden = look.view !== "scores" || !result;
    if (result !== before.result) $("scale").hidden = look.view !== "scores" || !result;
  });
}

function list({ result, look, edits, picture }, cutOut) {
  $("results").hidden = !result;
  if (!result) return;
  const { words, colours, counts, scores, background, labels } = labelled(result, look.threshold, edits);
  const order = words.map((_, w) => w).sort((a, b) => counts[b] - counts[a]);
  const share = (w) => counts[w] / labels.length, isFound = (w) => share(w) >= LEAST_SHARE;
  const rows = order.filter(isFound).map((w) => {
    const picked = make("button", { type: "button", className: "word" });
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = colours[w];
    picked.append(swatch, make("span", {}, words[w]));
    picked.dataset.word = words[w];
    picked.addEventListener("click", () =>
      swapLook({ picked: current().look.picked === words[w] ? "" : words[w] }));
    const bar = make("span", { className: "share" });
    bar.style.width = `${100 * share(w)}%`;
    bar.style.background = colours[w];
    const score = scores[w] === null ? "–" : scores[w].toFixed(2);
    const row = make("tr", {}, make("th", { scope: "row" }, picked),
      make("td", { className: "area" }, `${(100 * share(w)).toFixed(1)} %`,
        make("span", { className: "track" }, bar)),
      make("td", {}, score), make("td", {}));
    if (w !== background && picture.bitmap) {
      const cut = make("button", { type: "button", className: "small" }, "Cut out");
      cut.setAttribute("aria-label", `Cut out ${words[w]}`);
      cut.addEventListener("click", () => cutOut(words[w], cut));
      row.lastChild.append(cut);
    }
    return row;
  });
  $("shares").tBodies[0].replaceChildren(...rows);
  press();
  const asked = (w) => w !== background || result.hasBackground;
  const missing = order.filter((w) => !isFound(w) && asked(w) && w < result.words.length);
  $("missing").hidden = !missing.length;
  $("missing-count").textContent =
    missing.length === 1 ? "1 word was not found" : `${missing.length} words were not found`;
  $("missing-words").textContent = missing.map((w) => words[w]).join(", ");
  $("none").hidden = order.some((w) => w !== background && isFound(w));
  $("shares").hidden = !rows.length;
}

function press() {
  const { picked } = current().look;
  for (const button of $("shares").querySelectorAll("button.word")) {
    button.setAttribute("aria-pressed", String(button.dataset.word === picked));
  }
}
