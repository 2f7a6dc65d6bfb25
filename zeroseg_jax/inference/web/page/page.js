"use strict";
// All text from people or the server goes in by textContent: words are words, never markup.
const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), pen = canvas.getContext("2d", { willReadFrequently: true });
const LEAST_SHARE = 0.002;  // of the picture; a word under it is not there
let limits = null;      // of the server
let model = 0;          // number of the chosen model
let begun = "";         // words that the page began with
let source = null;      // the picture: { blob, name, bitmap }
let held = null;        // its name on the server
let result = null;      // see readMaps
let picked = -1;        // the word that the table holds up
let cross = null;       // { x, y } in result pixels, moved by keys
let asking = null, timer = 0;

function complain(sentence) {
  $("error").textContent = sentence;
  $("error").hidden = !sentence;
}

async function post(path, body, signal) {
  const json = !(body instanceof Blob);
  return call(path, {
    method: "POST", signal, body: json ? JSON.stringify(body) : body,
    headers: { "Content-Type": json ? "application/json" : "application/octet-stream" },
  });
}

// Behind "#" the token stays out of logs.
const token = new URLSearchParams(location.hash.slice(1)).get("token");

async function call(path, options = {}) {
  let answer;
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  try {
    answer = await fetch(`.${path}`, { ...options, headers }); // relative: a proxy may add a path
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; is it still running?");
  }
  if (answer.ok) return answer;
  let sentence = `The server answers ${answer.status}.`;
  try { sentence = (await answer.json()).error || sentence; } catch { /* not JSON: keep the status */ }
  throw Object.assign(new Error(sentence), { status: answer.status });
}

function question() {
  return {
    picture: held, words: $("words").value, background: $("behind").value,
    refine: $("refine").checked, name: source ? source.name.slice(0, 200) : "",
  };
}

async function take(blob, name) {
  if (blob.size > limits.upload_bytes) {
    complain(`${name}: ${blob.size} bytes are more than the limit of ${limits.upload_bytes}.`);
    return;
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    bitmap = null;      // kinds that only the server can read; it will say if not
  }
  source = { blob, name, bitmap };
  held = null;
  await ask();
}

async function ask() {
  clearTimeout(timer);
  if (!source) return;
  if (asking) asking.abort();
  const mine = asking = new AbortController();
  $("busy").hidden = false;
  try {
    let answer = null;
    for (let attempt = 0; !answer; attempt++) {
      if (!held) {
        const path = `/pictures?model=${model}`;
        const sent = await (await post(path, source.blob, mine.signal)).json();
        if (mine !== asking) return;    // of another model, or another picture
        held = sent.picture;
      }
      try {
        answer = await (await post("/segment", question(), mine.signal)).json();
      } catch (error) {
        if (error.status !== 410 || attempt) throw error;
        held = null;    // others pushed it out: send it again, once
      }
    }
    const read = await readMaps(answer);
    if (mine !== asking) return;
    result = read;
    cross = null;
    picked = -1;
    complain("");
    show();
  } catch (error) {
    if (error.name === "AbortError") return;
    complain(error.message);
  } finally {
    if (mine === asking) $("busy").hidden = true;
  }
}

async function readMaps(answer) {
  const bytes = Uint8Array.from(atob(answer.maps), (c) => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }),
    { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = answer;
  const sheet = new OffscreenCanvas(width, height).getContext("2d");
  sheet.drawImage(bitmap, 0, 0);
  const data = sheet.getImageData(0, 0, width, height).data;
  const word = new Uint8Array(width * height), score = new Uint8Array(width * height);
  const segment = new Uint8Array(width * height);
  for (let i = 0; i < word.length; i++) {
    word[i] = data[4 * i]; score[i] = data[4 * i + 1]; segment[i] = data[4 * i + 2];
  }
  const words = [...answer.words], colours = answer.colours.map(parseColour);
  let backgroundAt = 0;
  if (!answer.has_background) {
    backgroundAt = words.length;
    words.push("background");
    colours.push([0, 0, 0]);
  }
  // asked: background words were given, so their row is shown even where they own nothing.
  const asked = answer.has_background;
  return { width, height, words, colours, backgroundAt, asked, word, score, segment };
}

const parseColour = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));

function wordAt(i) {
  const threshold = Number($("threshold").value) / 100;
  return result.score[i] / 255 < threshold ? result.backgroundAt : result.word[i];
}

// Colours of segments: far apart on the circle of hues, whatever their number.
function segmentColour(id) {
  const hue = (id * 137.5) % 360 / 60, x = 1 - Math.abs(hue % 2 - 1);
  const [r, g, b] = [[1, x, 0], [x, 1, 0], [0, 1, x], [0, x, 1], [x, 0, 1], [1, 0, x]][Math.floor(hue)];
  return [60 + 170 * r, 60 + 170 * g, 60 + 170 * b];
}

// Dark blue to yellow, told apart by colour-blind eyes and in grey.
const scoreColour = (v) => [255 * v, 32 + 202 * v, 77 - 7 * v];

function show() {
  canvas.width = result.width;
  canvas.height = result.height;
  canvas.hidden = false;
  $("empty").hidden = true;
  $("another").hidden = false;
  $("drop").classList.add("full");
  $("downloads").hidden = false;
  draw();
  list();
}

function draw() {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  $("threshold-value").textContent = (Number($("threshold").value) / 100).toFixed(2);
  if (!result) return;
  const { width, height } = result;
  const view = document.querySelector("input[name=view]:checked").value;
  const opacity = Number($("opacity").value) / 100;
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  if (source.bitmap) pen.drawImage(source.bitmap, 0, 0, width, height);
  const pixels = pen.getImageData(0, 0, width, height), data = pixels.data;
  const owner = new Int16Array(width * height);
  for (let i = 0; i < owner.length; i++) owner[i] = view === "segments" ? result.segment[i] : wordAt(i);
  for (let i = 0; i < owner.length; i++) {
    let colour, share = opacity;
    if (view === "segments") colour = segmentColour(owner[i]);
    else if (view === "scores") colour = scoreColour(result.score[i] / 255);
    else colour = result.colours[owner[i]];
    if (picked >= 0 && view !== "segments" && owner[i] !== picked) share = opacity * 0.25;
    const border = (i % width && owner[i] !== owner[i - 1]) || (i >= width && owner[i] !== owner[i - width]);
    for (let c = 0; c < 3; c++) {
      const mixed = data[4 * i + c] * (1 - share) + colour[c] * share;
      data[4 * i + c] = border && opacity ? mixed * 0.25 : mixed;
    }
  }
  pen.putImageData(pixels, 0, 0);
  if ($("names").checked && view !== "segments") drawNames(owner);
  if (cross) drawCross();
}

function drawNames(owner) {
  // At the pixel of a word that is deepest inside it, in steps to another word or the rim.
  const { width, height } = result, count = owner.length;
  const depth = new Int32Array(count), area = new Map(), best = new Map();
  const reach = (i, inside, step) => (inside && owner[i + step] === owner[i] ? depth[i + step] : 0) + 1;
  for (let i = 0; i < count; i++) {
    depth[i] = Math.min(reach(i, i % width, -1), reach(i, i >= width, -width));
    area.set(owner[i], (area.get(owner[i]) || 0) + 1);
  }
  for (let i = count - 1; i >= 0; i--) {
    depth[i] = Math.min(
      depth[i], reach(i, i % width < width - 1, 1), reach(i, i < count - width, width));
    if (!best.has(owner[i]) || depth[i] > depth[best.get(owner[i])]) best.set(owner[i], i);
  }
  const size = Math.max(13, Math.round(width / 28));
  pen.font = `600 ${size}px system-ui, "DejaVu Sans", sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  for (const [w, i] of best) {
    if (area.get(w) < count / 70) continue;
    const text = result.words[w].slice(0, 24), half = pen.measureText(text).width / 2 + 4;
    const x = Math.min(Math.max(i % width, half), Math.max(width - half, half));
    const y = Math.min(Math.max(Math.floor(i / width), size), height - size);
    pen.lineWidth = size / 4;
    pen.strokeStyle = "rgba(0, 0, 0, .8)";
    pen.strokeText(text, x, y);
    pen.fillStyle = "#fff";
    pen.fillText(text, x, y);
  }
}

function drawCross() {
  const { x, y } = cross, arm = Math.max(8, result.width / 40);
  for (const [colour, wide] of [["#000", 4], ["#fff", 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = wide;
    pen.beginPath();
    pen.moveTo(x - arm, y); pen.lineTo(x + arm, y);
    pen.moveTo(x, y - arm); pen.lineTo(x, y + arm);
    pen.stroke();
  }
}

function list() {
  const count = new Array(result.words.length).fill(0), total = result.word.length;
  const sum = new Array(result.words.length).fill(0);
  for (let i = 0; i < total; i++) { const w = wordAt(i); count[w]++; sum[w] += result.score[i] / 255; }
  const body = $("shares").tBodies[0];
  body.replaceChildren();
  result.words.map((word, w) => w).sort((a, b) => count[b] - count[a]).forEach((w) => {
    if (w === result.backgroundAt && !count[w] && !result.asked) return;
    const row = body.insertRow();
    const button = document.createElement("button"), swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = `rgb(${result.colours[w].join(",")})`;
    button.type = "button";
    button.append(swatch, result.words[w]);
    button.setAttribute("aria-pressed", String(picked === w));
    button.addEventListener("click", () => {
      picked = picked === w ? -1 : w;
      for (const other of body.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(picked === w));
      draw();
    });
    row.insertCell().append(button);
    row.insertCell().textContent = `${(100 * count[w] / total).toFixed(1)} %`;
    row.insertCell().textContent = count[w] ? (sum[w] / count[w]).toFixed(2) : "–";
  });
  $("shares").hidden = false;
  const found = count.some((n, w) => w !== result.backgroundAt && n >= LEAST_SHARE * total);
  $("none").hidden = found;
}

function tell(x, y) {
  const i = y * result.width + x, w = wordAt(i);
  $("tip").textContent =
    `${result.words[w]} · score ${(result.score[i] / 255).toFixed(2)} · segment ${result.segment[i] + 1}`;
  $("tip").hidden = false;
  // The canvas keeps its ratio inside its box.
  const box = canvas.getBoundingClientRect(), frame = $("drop").getBoundingClientRect();
  const scale = Math.min(box.width / result.width, box.height / result.height);
  const left = box.left - frame.left + (box.width - scale * result.width) / 2 + x * scale;
  const top = box.top - frame.top + (box.height - scale * result.height) / 2 + y * scale;
  const tip = $("tip");
  tip.style.left = `${Math.max(4, Math.min(left + 14, frame.width - tip.offsetWidth - 6))}px`;
  tip.style.top = `${Math.max(4, Math.min(top + 14, frame.height - tip.offsetHeight - 6))}px`;
}

canvas.addEventListener("pointermove", (event) => {
  if (!result) return;
  const box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width / result.width, box.height / result.height);
  const x = Math.floor((event.clientX - box.left - (box.width - scale * result.width) / 2) / scale);
  const y = Math.floor((event.clientY - box.top - (box.height - scale * result.height) / 2) / scale);
  if (x < 0 || y < 0 || x >= result.width || y >= result.height) { $("tip").hidden = true; return; }
  tell(x, y);
});
canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
canvas.addEventListener("blur", () => { cross = null; $("tip").hidden = true; draw(); });
canvas.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way || !result) return;
  event.preventDefault();
  const step = Math.max(1, Math.round(result.width * (event.shiftKey ? 0.1 : 0.02)));
  const from = cross || { x: Math.floor(result.width / 2), y: Math.floor(result.height / 2) };
  cross = {
    x: Math.min(Math.max(from.x + way[0] * step, 0), result.width - 1),
    y: Math.min(Math.max(from.y + way[1] * step, 0), result.height - 1),
  };
  draw();
  tell(cross.x, cross.y);
});

for (const id of ["words", "behind"]) {
  $(id).addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(ask, 500); });
  $(id).addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); ask(); }
  });
}
$("refine").addEventListener("change", ask);
$("names").addEventListener("change", draw);
for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", draw);
$("opacity").addEventListener("input", draw);
$("threshold").addEventListener("input", () => { draw(); if (result) list(); });

$("file").addEventListener("change", () => {
  if ($("file").files.length) take($("file").files[0], $("file").files[0].name);
  $("file").value = "";
});
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const file = event.dataTransfer.files[0];
  if (file) take(file, file.name);
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
  if (file) take(file, file.name || "pasted picture");
});

async function download(path, name, more = {}) {
  try {
    const threshold = Number($("threshold").value) / 100;
    const blob = await (await post(path, { ...question(), threshold, ...more })).blob();
    give(blob, name);
  } catch (error) { complain(error.message); }
}

function give(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

$("get-mask").addEventListener("click", () => download("/mask", "mask.png"));
$("get-cutout").addEventListener("click", cutOut);
$("get-record").addEventListener("click", () => download("/record", "segmentation.json"));
for (const [polygons, name] of [["geojson", "polygons.geojson"], ["coco", "polygons_coco.json"]]) {
  $(`get-${polygons}`).addEventListener("click", () => download("/polygons", name, { polygons }));
}

// The server has no picture: it sends the opaque pixels, and the cut is made here, at full size.
async function cutOut() {
  const count = new Map(), named = (w) => w !== result.backgroundAt;
  for (let i = 0; i < result.word.length; i++) count.set(wordAt(i), (count.get(wordAt(i)) || 0) + 1);
  const largest = [...count.keys()].filter(named).sort((a, b) => count.get(b) - count.get(a))[0];
  const at = picked >= 0 ? picked : largest;
  if (at === undefined || !source.bitmap) return complain("There is nothing to cut out.");
  try {
    const threshold = Number($("threshold").value) / 100, word = result.words[at];
    const answer = await post("/alpha", { ...question(), threshold, word });
    const alpha = await createImageBitmap(await answer.blob());
    const sheet = new OffscreenCanvas(alpha.width, alpha.height), brush = sheet.getContext("2d");
    brush.drawImage(source.bitmap, 0, 0, alpha.width, alpha.height);
    brush.globalCompositeOperation = "destination-in";
    brush.drawImage(alpha, 0, 0);
    give(await sheet.convertToBlob({ type: "image/png" }), `cutout_${word.replace(/\W+/g, "_")}.png`);
  } catch (error) { complain(error.message); }
}

async function begin() {
  draw();
  const about = await (await call("/about")).json();
  limits = about.limits;
  about.models.forEach((name, i) => $("models").append(new Option(name, i)));
  $("models").value = "0";
  $("choice").hidden = about.models.length < 2;
  introduce(about);
}

// Another model needs the picture again, and may load for some seconds.
async function choose() {
  const wanted = $("models").value;
  $("models").disabled = true;
  $("busy").hidden = false;
  if (asking) asking.abort();
  asking = null;
  try {
    const about = await (await call(`/about?model=${wanted}`)).json();
    model = Number(wanted);
    held = null;
    introduce(about);
    complain("");
    await ask();
  } catch (error) {
    $("models").value = String(model);
    complain(error.message);
  } finally {
    $("models").disabled = false;
    if (!asking) $("busy").hidden = true;
  }
}

// Shows the model, and its words and examples; words that somebody typed stay.
function introduce(about) {
  if ($("words").value === begun) $("words").value = about.words;
  begun = about.words;
  const { name, megabytes, licence, protocol, revision, note } = about.model;
  $("model").textContent = [name, `${megabytes} MB`, licence, protocol, revision]
    .filter(Boolean).join(" · ");
  $("note").textContent = note && note[0].toUpperCase() + note.slice(1) + ".";
  $("note").hidden = !note;
  $("examples").replaceChildren(...(about.examples.length ? ["Examples:"] : []));
  about.examples.forEach((words, i) => {
    const button = document.createElement("button"), picture = document.createElement("img");
    button.type = "button";
    button.className = "example";
    const fetched = call(`/examples/${i}.png`).then((answer) => answer.blob());
    fetched.then((blob) => { picture.src = URL.createObjectURL(blob); }).catch((error) => complain(error.message));
    picture.alt = `Example ${i + 1}: ${words}`;
    button.append(picture);
    button.addEventListener("click", async () => {
      $("words").value = words;
      take(await fetched, `example-${i + 1}.png`);
    });
    $("examples").append(button);
  });
}

$("models").addEventListener("change", choose);
begin();
