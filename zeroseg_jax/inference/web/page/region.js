// Corrections: the selected region gets another word, or becomes background.

import { limits } from "./asking.js";
import { $, coarse, complain } from "./dom.js";
import { labelled } from "./result.js";
import { current, subscribe, swapEdits, swapLook } from "./state.js";

const MOST_EDITS = 32;  // the server's limit

export function startRegions() {
  subscribe((state, before) => {
    const { region } = state.look;
    if (region && !state.result) return swapLook({ region: null });
    if (region !== before.look.region) showRegion(region);
    if (state.edits !== before.edits || state.result !== before.result ||
        state.look.threshold !== before.look.threshold) countEdits(state);
    if (state.picture && state.edits !== before.edits) state.picture.entry.edits = state.edits;
  });
  $("region").addEventListener("submit", (event) => {
    event.preventDefault();
    const word = $("region-word").value.trim();
    if (word) correct(word);
  });
  $("region-drop").addEventListener("click", () => correct(""));
  $("region-close").addEventListener("click", () => close());
  $("region").addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  $("undo").addEventListener("click", () => undo(current().edits.slice(0, -1)));
  $("undo-all").addEventListener("click", () => undo([]));
}

function undo(edits) {
  swapEdits(edits);
  if (!edits.length) $("canvas").focus({ preventScroll: true });
}

function close() {
  swapLook({ region: null });
  $("canvas").focus({ preventScroll: true });
}

function showRegion(region) {
  $("region").hidden = !region;
  if (!region) return;
  const { words, background } = labelled(current().result, current().look.threshold, current().edits);
  $("region-name").textContent = region.word;
  $("region-share").textContent = `${(100 * region.share).toFixed(1)} % of the picture`;
  $("region-word").value = "";
  $("region-word").maxLength = limits().letters;
  $("region-words").replaceChildren(...words.map((word) => new Option(word, word)));
  $("region-drop").disabled = background >= 0 && words[background] === region.word;
  // On a phone the keyboard would cover the picture.
  if (region.byKey || !coarse()) $("region-word").focus({ preventScroll: !region.byKey });
}

function correct(word) {
  const { look: { region }, edits } = current();
  if (!region || word === region.word) return close();
  if (edits.length >= MOST_EDITS) {
    return complain(`A picture can have ${MOST_EDITS} corrections. Undo one first.`);
  }
  const { x, y, word: from } = region;
  swapEdits([...edits, Object.freeze({ x, y, from, word })]);
  $("canvas").focus({ preventScroll: true });
}

function countEdits({ result, look, edits }) {
  $("corrections").hidden = !edits.length || !result;
  if (!edits.length || !result) return;
  const applied = labelled(result, look.threshold, edits).edits.length;
  const count = edits.length === 1 ? "1 correction" : `${edits.length} corrections`;
  $("corrections-text").textContent =
    applied === edits.length ? count : `${count}, of which ${applied} fit these words`;
}
