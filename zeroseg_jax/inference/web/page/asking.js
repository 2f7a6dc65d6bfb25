// From a picture and words to a result: reading, sending, asking; errors, cancelling.

import { askAbout } from "./api.js";
import { $, complain } from "./dom.js";
import { readPicture } from "./pictures.js";
import { finish, report } from "./progress.js";
import { readResult } from "./result.js";
import { beginTurn, current, endTurn, swap } from "./state.js";

const TYPING_MS = 350, COMPLAINT_MS = 1200;
let server = { limits: null, model: 0, refused: () => {}, discard: () => {} };
let typing = 0, complaining = 0;
let opening = null;  // the entry of the strip that is being read; until then the old one is shown

// about: { limits, model, refused, discard }. refused() handles a missing token, discard(entry) a
// picture that nobody can read.
export function setServer(about) {
  server = { ...server, ...about };
}

export const limits = () => server.limits;

function readQuestion() {
  return Object.freeze({
    model: server.model, words: $("words").value, background: $("behind").value,
    refine: $("refine").checked,
  });
}

const plainLook = () => Object.freeze({ ...current().look, picked: "", region: null });

// Shows a picture of the strip and asks about it.
export async function openPicture(entry) {
  const turn = startTurn();
  opening = entry;
  complain("");
  await run(turn, 0, async () => {
    report("Reading the picture");
    const picture = await readPicture(entry, server.limits);
    turn.check();
    opening = null;
    swap({ picture, question: null, result: null, edits: entry.edits, look: plainLook() });
    await answer(turn, picture);
  });
}

// Asks about the picture that is shown. wait: milliseconds until an error is shown.
export async function ask(wait = 0) {
  const { picture } = current();
  if (opening) return openPicture(opening);
  if (!picture) return;
  const turn = startTurn();
  await run(turn, wait, () => answer(turn, picture));
}

export function askSoon() {
  clearTimeout(typing);
  clearTimeout(complaining);
  typing = setTimeout(() => ask(COMPLAINT_MS), TYPING_MS);
}

export function cancel() {
  endTurn();
  opening = null;
  clearTimeout(typing);
  finish();
  complain("");
  $("cancelled").hidden = false;
}

export function closePicture() {
  endTurn();
  opening = null;
  finish();
  complain("");
  const look = plainLook();
  swap({ picture: null, question: null, result: null, edits: Object.freeze([]), look });
}

function startTurn() {
  clearTimeout(typing);
  clearTimeout(complaining);
  $("cancelled").hidden = true;
  return beginTurn();
}

async function answer(turn, picture) {
  const question = readQuestion();
  report("Segmenting");
  const extra = {}, tell = (sentence) => { if (turn.isCurrent()) report(sentence); };
  const got = await askAbout("/segment", picture, question, extra, turn.signal, tell);
  const result = await readResult(await got.json());
  turn.check();
  if (current().picture !== picture) return;  // the answer belongs to another picture
  const { look } = current(), picked = result.words.includes(look.picked) ? look.picked : "";
  swap({ question, result, look: Object.freeze({ ...look, picked, region: null }) });
  complain("");
}

// A refused question leaves no old answer beside its error.
async function run(turn, wait, job) {
  try {
    await job();
  } catch (error) {
    if (!turn.isCurrent() || error.name === "AbortError") return;
    opening = null;
    if (error.status === 401) server.refused();
    const show = () => {
      const { picture, result } = current();
      if (result) swap({ question: null, result: null, look: plainLook() });
      else if (picture && !picture.bitmap && error.status === 422) server.discard(picture.entry);
      complain(error.message);
    };
    if (wait) complaining = setTimeout(show, wait);
    else show();
  } finally {
    if (turn.isCurrent()) finish();
  }
}
