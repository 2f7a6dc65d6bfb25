// Drawing of a state on a canvas: picture, colours, borders, names, cross, all under one transform.

import { traceOutlines, traceRegion } from "./outlines.js";
import { findCentres, findRegion, memo } from "./result.js";

const LEAST_NAMED = 1 / 250;  // of the picture; smaller words get no name in it
const FONT = 'system-ui, "DejaVu Sans", sans-serif';
// Dark blue to yellow (cividis): readable without colour vision, and in grey. style.css has them too.
export const SCORE_COLOURS = [
  [0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56],
];

const outlines = memo((labels, width, height) => ({
  ...traceOutlines(labels, width, height), centres: findCentres(labels, width, height),
}));
const selection = memo((labels, width, height, at) =>
  traceRegion(findRegion(labels, width, height, at).inside, width, height));
const heat = memo((result) => paintScores(result));

// Draws. scene: { bitmap, width, height, result, labelled, look, cross }, width and height in units
// of the transform. place: { scale, x, y } from those units to pixels of the canvas. unit: pixels
// of the canvas in one CSS pixel.
export function paint(pen, scene, place, unit) {
  const { bitmap, result, labelled, look } = scene;
  const { width: wide, height: high } = pen.canvas;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, wide, high);
  pen.setTransform(place.scale, 0, 0, place.scale, place.x, place.y);
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "high";
  if (bitmap) pen.drawImage(bitmap, 0, 0, scene.width, scene.height);
  else {
    pen.fillStyle = "#8a929a";
    pen.fillRect(0, 0, scene.width, scene.height);
  }
  if (!result) return;
  const shown = look.view === "segments" ? result.segment : labelled.labels;
  const { fills, borders, centres } = outlines(shown, result.width, result.height);
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, scene.width, scene.height);
  pen.clip();
  if (look.view === "scores") drawScores(pen, result, look.opacity);
  else drawFills(pen, fills, labelled, look);
  const strength = Math.min(1, 3 * look.opacity);
  pen.lineJoin = pen.lineCap = "round";
  strokeTwice(pen, borders, unit / place.scale, [3, `rgba(0, 0, 0, ${0.45 * strength})`],
    [1.3, `rgba(255, 255, 255, ${0.95 * strength})`]);
  if (look.region) {
    const path = selection(labelled.labels, result.width, result.height, look.region.at);
    strokeTwice(pen, path, unit / place.scale, [5, "#000"], [2.5, "#ffd400"]);
  }
  pen.restore();
  pen.setTransform(1, 0, 0, 1, 0, 0);
  if (look.names && look.view !== "scores") {
    drawNames(pen, centres, scene, place, unit);
  }
  if (scene.cross) drawCross(pen, scene, place, unit);
}

function drawFills(pen, fills, labelled, look) {
  for (const [own, path] of fills) {
    const segments = look.view === "segments";
    pen.fillStyle = segments ? segmentColour(own) : labelled.colours[own];
    const faint = !segments && look.picked && labelled.words[own] !== look.picked;
    pen.globalAlpha = faint ? 0.15 * look.opacity : look.opacity;
    pen.fill(path, "evenodd");
  }
  pen.globalAlpha = 1;
}

// Colours of segments: far apart on the circle of hues, for any number of segments.
export const segmentColour = (id) => `hsl(${(id * 137.508) % 360} 75% 50%)`;

// The picture is made grey, so that the colours can be compared with the scale.
function drawScores(pen, result, opacity) {
  pen.globalCompositeOperation = "saturation";
  pen.fillStyle = "#808080";
  pen.fillRect(0, 0, result.width, result.height);
  pen.globalCompositeOperation = "source-over";
  pen.globalAlpha = Math.min(1, 1.6 * opacity);
  pen.drawImage(heat(result), 0, 0);
  pen.globalAlpha = 1;
}

function paintScores(result) {
  const { width, height, score } = result;
  const sheet = new OffscreenCanvas(width, height), pen = sheet.getContext("2d");
  const pixels = pen.createImageData(width, height), last = SCORE_COLOURS.length - 1;
  const table = Array.from({ length: 256 }, (_, value) => {
    const at = value / 255 * last, low = Math.min(Math.floor(at), last - 1), part = at - low;
    return SCORE_COLOURS[low].map((c, i) => c + part * (SCORE_COLOURS[low + 1][i] - c));
  });
  for (let i = 0; i < score.length; i++) {
    const colour = table[score[i]];
    pixels.data[4 * i] = colour[0];
    pixels.data[4 * i + 1] = colour[1];
    pixels.data[4 * i + 2] = colour[2];
    pixels.data[4 * i + 3] = 255;
  }
  pen.putImageData(pixels, 0, 0);
  return sheet;
}

function strokeTwice(pen, path, pixel, ...lines) {
  for (const [wide, colour] of lines) {
    pen.lineWidth = wide * pixel;
    pen.strokeStyle = colour;
    pen.stroke(path);
  }
}

// The largest come first; a name that would cover another is moved below it, or left out.
function drawNames(pen, centres, { result, labelled, look, width, height }, place, unit) {
  const size = 13.5 * unit, pad = 6 * unit, dot = 9 * unit, box = size + pad;
  const edge = { wide: Math.min(pen.canvas.width, place.x + width * place.scale),
    high: Math.min(pen.canvas.height, place.y + height * place.scale) };
  const least = { x: Math.max(0, place.x), y: Math.max(0, place.y) }, taken = [];
  pen.font = `600 ${size}px ${FONT}`;
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  const found = [...centres].sort((a, b) => b[1].count - a[1].count);
  for (const [own, { at, count }] of found) {
    const segments = look.view === "segments";
    const word = segments ? String(own + 1) : labelled.words[own];
    if (count < LEAST_NAMED * result.word.length) continue;
    if (!segments && look.picked && word !== look.picked) continue;
    const text = word.length > 26 ? `${word.slice(0, 25)}…` : word;
    const wide = pen.measureText(text).width + 2 * pad + dot + 4 * unit;
    const atX = place.x + (at % result.width + 0.5) * place.scale;
    const atY = place.y + (Math.floor(at / result.width) + 0.5) * place.scale;
    if (atX < 0 || atY < 0 || atX > pen.canvas.width || atY > pen.canvas.height) continue;
    const x = Math.max(Math.min(atX - wide / 2, edge.wide - wide - 2 * unit), least.x + 2 * unit);
    let y = Math.max(Math.min(atY - box / 2, edge.high - box - 2 * unit), least.y + 2 * unit);
    const covers = (other) => x < other.x + other.wide && other.x < x + wide &&
      y < other.y + box && other.y < y + box;
    const hit = taken.find(covers);
    if (hit) y = hit.y + box + unit;
    if (hit && (taken.some(covers) || y + box > edge.high)) continue;
    taken.push({ x, y, wide });
    pen.fillStyle = "rgba(15, 18, 22, .82)";
    pen.beginPath();
    pen.roundRect(x, y, wide, box, box / 2);
    pen.fill();
    pen.fillStyle = segments ? segmentColour(own) : labelled.colours[own];
    pen.strokeStyle = "#fff";
    pen.lineWidth = unit;
    pen.beginPath();
    pen.arc(x + pad + dot / 2, y + box / 2, dot / 2, 0, 2 * Math.PI);
    pen.fill();
    pen.stroke();
    pen.fillStyle = "#fff";
    pen.fillText(text, x + pad + dot + 4 * unit, y + box / 2 + 0.5 * unit);
  }
}

function drawCross(pen, { cross, width, height }, place, unit) {
  const x = place.x + cross.x * width * place.scale, y = place.y + cross.y * height * place.scale;
  const path = new Path2D(), arm = 12 * unit, gap = 3 * unit;
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    path.moveTo(x + gap * dx, y + gap * dy);
    path.lineTo(x + arm * dx, y + arm * dy);
  }
  pen.lineCap = "round";
  strokeTwice(pen, path, unit, [5, "#000"], [2.5, "#fff"]);
}
