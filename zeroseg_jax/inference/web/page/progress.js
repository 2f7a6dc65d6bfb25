// Progress of a turn over the picture: what is done, for how long, and a button that cancels it.

import { $ } from "./dom.js";

const SLOW_SECONDS = 3;
let ticking = 0, began = 0;

export function report(sentence) {
  if (!ticking) {
    began = performance.now();
    ticking = setInterval(tick, 200);
    tick();
  }
  if ($("doing").textContent !== sentence) $("doing").textContent = sentence;
  $("progress").hidden = false;
  $("results").classList.add("stale");
  $("frame").setAttribute("aria-busy", "true");
}

export function finish() {
  clearInterval(ticking);
  ticking = 0;
  $("progress").hidden = $("slow").hidden = true;
  $("results").classList.remove("stale");
  $("frame").removeAttribute("aria-busy");
}

function tick() {
  const seconds = (performance.now() - began) / 1000;
  $("seconds").textContent = seconds < 1 ? "" : `${Math.floor(seconds)} s`;
  $("slow").hidden = seconds < SLOW_SECONDS;
}
