// One frozen state, swapped whole: what is drawn, listed and downloaded belongs together.
//
// picture: see pictures.js. question: the one that `result` answers, { model, words, background,
// refine }. result: see result.js. edits: corrections of regions, [{ x, y, from, word }].
// look: settings of the view; threshold applies before the edits.

const LOOK = Object.freeze({
  view: "words", opacity: 0.5, threshold: 0, names: true, picked: "", region: null,
});
export const EMPTY = Object.freeze({
  picture: null, question: null, result: null, edits: Object.freeze([]), look: LOOK,
});

let state = EMPTY;
const listeners = [];

export const current = () => state;

export function subscribe(listener) {
  listeners.push(listener);
}

export function swap(changes) {
  const before = state;
  state = Object.freeze({ ...state, ...changes });
  for (const listener of listeners) listener(state, before);
}

export function swapLook(changes) {
  swap({ look: Object.freeze({ ...state.look, ...changes }) });
}

export function swapEdits(edits) {
  const look = Object.freeze({ ...state.look, region: null });
  swap({ edits: Object.freeze([...edits]), look });
}

// A turn is one course of reading, sending and asking. A newer turn ends it: its requests are
// aborted, and whatever still arrives for it is dropped by `check`.
let generation = 0, controller = null;

export function beginTurn() {
  controller?.abort();
  controller = new AbortController();
  const own = ++generation, { signal } = controller;
  const isCurrent = () => own === generation && !signal.aborted;
  return {
    signal,
    isCurrent,
    check() {
      if (!isCurrent()) throw new DOMException("a newer request replaces this one", "AbortError");
    },
  };
}

export function endTurn() {
  controller?.abort();
}
