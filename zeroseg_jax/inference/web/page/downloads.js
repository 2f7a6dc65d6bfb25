// Files of the state that is shown, named after the picture, at the picture's own size.

import { askAbout } from "./api.js";
import { limits } from "./asking.js";
import { $, complain, save } from "./dom.js";
import { paint } from "./paint.js";
import { decodeWhole, downloadSize, stem } from "./pictures.js";
import { labelled } from "./result.js";
import { sceneOf } from "./stage.js";
import { current, subscribe } from "./state.js";

const MOST_DRAWN_PX = 4096;   // long side of the overlay; some phones allow no larger canvas
const LINES_FOR_PX = 1000;    // long side for which lines and letters have their size of the page

const FILES = [  // button, route, end of the file's name, further fields
  ["get-mask", "/mask", "_mask.png", {}],
  ["get-record", "/record", ".json", {}],
  ["get-geojson", "/polygons", ".geojson", { polygons: "geojson" }],
  ["get-coco", "/polygons", "_coco.json", { polygons: "coco" }],
];

export function startDownloads() {
  for (const [id, path, ending, fields] of FILES) {
    const button = $(id);
    button.addEventListener("click", () => give(button, async (state) => {
      const answer = await fetchFor(state, path, fields);
      save(await answer.blob(), stem(state.picture.name) + ending);
    }));
  }
  $("get-overlay").addEventListener("click", () => give($("get-overlay"), drawOverlay));
  subscribe((state, before) => { if (state.result !== before.result) describeSize(state); });
}

// Everything belongs to the state at the click, whatever the page shows when the file is ready.
async function give(button, job) {
  const state = current();
  if (!state.result || button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await job(state);
    complain("");
  } catch (error) {
    complain(error.message);
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

function fetchFor(state, path, fields) {
  const { picture, question, result, look } = state;
  const { edits } = labelled(result, look.threshold, state.edits);
  return askAbout(path, picture, question, {
    ...fields, threshold: look.threshold, ...downloadSize(picture, limits()),
    edits: edits.map(({ x, y, word }) => ({ x, y, word })),
  });
}

async function drawOverlay(state) {
  const scene = sceneOf(state), whole = await decodeWhole(state.picture);
  const full = downloadSize(state.picture, limits());
  const shrunk = Math.min(1, MOST_DRAWN_PX / Math.max(full.width, full.height));
  const width = Math.round(full.width * shrunk), height = Math.round(full.height * shrunk);
  const sheet = new OffscreenCanvas(width, height);
  const plain = { ...scene, bitmap: whole, look: { ...scene.look, region: null } };
  const unit = Math.max(1, Math.max(width, height) / LINES_FOR_PX);
  paint(sheet.getContext("2d"), plain, { scale: width / scene.width, x: 0, y: 0 }, unit);
  whole?.close();
  save(await sheet.convertToBlob({ type: "image/png" }), `${stem(state.picture.name)}_overlay.png`);
}

// The server holds no picture: it sends the opacity, and the picture is cut here.
export function cutOut(word, button) {
  return give(button, async (state) => {
    const whole = await decodeWhole(state.picture);
    const answer = await fetchFor(state, "/alpha", { word });
    const alpha = await createImageBitmap(await answer.blob());
    const sheet = new OffscreenCanvas(alpha.width, alpha.height), pen = sheet.getContext("2d");
    pen.drawImage(whole, 0, 0, alpha.width, alpha.height);
    whole.close();
    pen.globalCompositeOperation = "destination-in";
    pen.drawImage(alpha, 0, 0);
    const name = word.replace(/[^\p{L}\p{N}_-]+/gu, "-").replace(/^-+|-+$/g, "") || "class";
    const file = await sheet.convertToBlob({ type: "image/png" });
    save(file, `${stem(state.picture.name)}_cutout_${name}.png`);
  });
}

function describeSize({ picture, result }) {
  if (!result) return;
  const { width, height } = downloadSize(picture, limits());
  const smaller = picture.width > width;
  $("size").textContent = `Files have ${width} × ${height} pixels` +
    (smaller ? `, the most that this server allows. The picture has ${picture.width} × ${picture.height}.` : ".");
}
