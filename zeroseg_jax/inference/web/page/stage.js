// The picture on the page: drawing, zoom and pan, and reading out what is under a point.

import { $, coarse } from "./dom.js";
import { paint } from "./paint.js";
import { findCentres, findRegion, labelled } from "./result.js";
import { current, subscribe, swapLook } from "./state.js";
import { MOST_ZOOM, WHOLE, panBy, placePicture, reveal, toPicture, zoomAt } from "./view.js";

const canvas = $("canvas"), pen = canvas.getContext("2d"), frame = $("frame"), tip = $("tip");
const CLICK_PX = 6;      // a pointer that moves further drags
let view = WHOLE;
let cross = null;        // { x, y } as fractions, moved by keys
let due = false;         // a drawing is waiting for the next frame
const pointers = new Map();
let dragged = false;

export function startStage() {
  new ResizeObserver(fitCanvas).observe(canvas);
  subscribe((state, before) => {
    if (state.picture !== before.picture || !sameShape(state, before)) {
      if (state.picture !== before.picture) { view = WHOLE; cross = null; }
      shape(state);
    }
    if (state.result !== before.result || state.picture !== before.picture) tip.hidden = true;
    redraw();
  });
  canvas.addEventListener("pointerdown", press);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); });
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") tip.hidden = true;
  });
  canvas.addEventListener("wheel", turnWheel, { passive: false });
  canvas.addEventListener("keydown", pressKey);
  canvas.addEventListener("blur", () => { cross = null; tip.hidden = true; redraw(); });
  $("zoom-in").addEventListener("click", () => zoomBy(1.6));
  $("zoom-out").addEventListener("click", () => zoomBy(1 / 1.6));
  $("zoom-whole").addEventListener("click", () => setView(WHOLE));
}

// Units of the transform: pixels of the maps, or of the picture while there are none.
function sizeOf({ picture, result }) {
  if (result) return { width: result.width, height: result.height };
  const { bitmap } = picture;
  return bitmap ? { width: bitmap.width, height: bitmap.height } : { width: 4, height: 3 };
}

const sameShape = (one, other) => Boolean(one.result) === Boolean(other.result);

function shape(state) {
  frame.classList.toggle("full", Boolean(state.picture));
  canvas.hidden = $("zoom").hidden = $("tools").hidden = !state.picture;
  $("empty").hidden = Boolean(state.picture);
  $("undrawn").hidden = !state.result || Boolean(state.picture.bitmap);
  frame.style.aspectRatio = "";
  if (!state.picture) return;
  const { width, height } = sizeOf(state);
  frame.style.aspectRatio = `${width} / ${height}`;
  fitCanvas();
}

function fitCanvas() {
  const density = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const width = Math.round(box.width * density), height = Math.round(box.height * density);
  if (!width || !height || (canvas.width === width && canvas.height === height)) return;
  canvas.width = width;
  canvas.height = height;
  draw();  // at once: setting the size has cleared the canvas
}

export function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; draw(); });
}

function draw() {
  const state = current();
  if (!state.picture || !canvas.width) return;
  const scene = sceneOf(state), size = sizeOf(state);
  paint(pen, { ...scene, cross }, placePicture(view, size, canvas), density());
  $("zoom-level").textContent = `${Math.round(100 * view.zoom)} %`;
  $("zoom-out").disabled = $("zoom-whole").disabled = view.zoom === 1;
  $("zoom-in").disabled = view.zoom >= MOST_ZOOM;
  canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
  canvas.classList.toggle("zoomed", view.zoom > 1);
}

// Returns what paint.js draws of a state, without the cross.
export function sceneOf(state) {
  const { picture, result, look, edits } = state;
  return {
    bitmap: picture.bitmap, ...sizeOf(state), result, look,
    labelled: result && labelled(result, look.threshold, edits),
  };
}

const density = () => canvas.width / Math.max(1, canvas.clientWidth);

function setView(next) {
  view = next;
  tip.hidden = true;
  redraw();
}

function zoomBy(factor, x = canvas.width / 2, y = canvas.height / 2) {
  setView(zoomAt(view, factor, x, y, sizeOf(current()), canvas));
}

// Returns a pointer's place in pixels of the canvas.
function place(event) {
  const box = canvas.getBoundingClientRect();
  return { x: (event.clientX - box.left) * density(), y: (event.clientY - box.top) * density() };
}

function press(event) {
  if (event.button > 0) return;
  canvas.setPointerCapture(event.pointerId);
  if (!pointers.size) dragged = false;
  pointers.set(event.pointerId, { ...place(event), fromX: event.clientX, fromY: event.clientY });
}

function move(event) {
  const state = current(), held = pointers.get(event.pointerId), now = place(event);
  if (!held) {
    if (event.pointerType === "mouse" && state.result) tell(toPoint(now));
    return;
  }
  const size = sizeOf(state);
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const spread = (at) => Math.hypot(at.x - other.x, at.y - other.y);
    const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
    dragged = true;
    view = panBy(view, (now.x - held.x) / 2, (now.y - held.y) / 2, size, canvas);
    setView(zoomAt(view, spread(now) / Math.max(1, spread(held)), middle.x, middle.y, size, canvas));
  } else if (dragged || Math.hypot(event.clientX - held.fromX, event.clientY - held.fromY) > CLICK_PX) {
    dragged = true;
    if (view.zoom > 1) setView(panBy(view, now.x - held.x, now.y - held.y, size, canvas));
  }
  Object.assign(held, now);
}

function release(event) {
  const clicked = pointers.delete(event.pointerId) && !dragged && !pointers.size;
  if (!clicked || !current().result) return;
  const point = toPoint(place(event));
  tell(point);
  select(point);
}

// At the whole picture the wheel scrolls the page, downwards and back to its top.
function turnWheel(event) {
  const scrolls = view.zoom === 1 && !event.ctrlKey && (event.deltaY > 0 || window.scrollY > 0);
  if (!current().picture || scrolls) return;
  event.preventDefault();
  const lines = event.deltaMode ? 16 : 1, { x, y } = place(event);
  zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015)), x, y);
}

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function pressKey(event) {
  const state = current(), way = WAYS[event.key];
  if (!state.picture || event.altKey || event.ctrlKey || event.metaKey) return;
  const zooms = { "+": 1.6, "=": 1.6, "-": 1 / 1.6 }[event.key];
  if (zooms) zoomBy(zooms, ...crossPlace());
  else if (event.key === "0") setView(WHOLE);
  else if (event.key === "Escape") swapLook({ region: null, picked: "" });
  else if (event.key === "Enter" && cross && state.result) select(cross, true);
  else if (way && state.result) {
    const step = (event.shiftKey ? 0.1 : 0.02) / view.zoom, from = cross || { x: view.x, y: view.y };
    const clamp = (at) => Math.min(Math.max(at, 0), 0.9999);
    cross = { x: clamp(from.x + way[0] * step), y: clamp(from.y + way[1] * step) };
    view = reveal(view, cross, sizeOf(state), canvas);
    redraw();
    $("heard").textContent = tell(cross);
  } else return;
  event.preventDefault();
}

function crossPlace() {
  if (!cross) return [];
  const size = sizeOf(current()), { scale, x, y } = placePicture(view, size, canvas);
  return [x + cross.x * size.width * scale, y + cross.y * size.height * scale];
}

const toPoint = ({ x, y }) => toPicture(x, y, view, sizeOf(current()), canvas);
const isInside = ({ x, y }) => x >= 0 && y >= 0 && x < 1 && y < 1;

// Shows a point's word, score and segment beside it; returns the text.
function tell(point) {
  const state = current(), { result } = state;
  tip.hidden = !isInside(point);
  if (tip.hidden) return "";
  const { labels, words, sure } = labelled(result, state.look.threshold, state.edits);
  const at = indexAt(point, result), size = sizeOf(state);
  tip.textContent = `${words[labels[at]]} · score ${sure[at].toFixed(2)} · segment ${result.segment[at] + 1}`;
  const { scale, x, y } = placePicture(view, size, canvas), gap = coarse() ? 26 : 14;
  const left = (x + point.x * size.width * scale) / density() + gap;
  const top = (y + point.y * size.height * scale) / density() + gap;
  tip.style.left = `${Math.max(4, Math.min(left, frame.clientWidth - tip.offsetWidth - 6))}px`;
  tip.style.top = `${Math.max(4, Math.min(top, frame.clientHeight - tip.offsetHeight - 6))}px`;
  return tip.textContent;
}

const indexAt = ({ x, y }, { width, height }) =>
  Math.floor(y * height) * width + Math.floor(x * width);

// Selects the region at a point. Edits name a region by its deepest pixel, which is inside it at
// the size of the downloads too.
function select(point, byKey = false) {
  const state = current(), { result } = state;
  if (!isInside(point)) return;
  const { labels, words, width, height } = labelled(result, state.look.threshold, state.edits);
  const { inside, count } = findRegion(labels, width, height, indexAt(point, result));
  const { at } = findCentres(inside, width, height).get(1);
  const x = (at % width + 0.5) / width, y = (Math.floor(at / width) + 0.5) / height;
  const region = { at, x, y, word: words[labels[at]], share: count / labels.length, byKey };
  swapLook({ region: Object.freeze(region) });
}
