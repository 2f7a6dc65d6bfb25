// The strip of pictures: each can be shown again, and keeps its corrections.

import { closePicture, openPicture } from "./asking.js";
import { $, make } from "./dom.js";
import { makeThumbnail } from "./pictures.js";
import { current, subscribe } from "./state.js";

const MOST_PICTURES = 50, SIDE_PX = 128;
let entries = [];

export function startStrip() {
  subscribe((state, before) => { if (state.picture !== before.picture) mark(); });
  $("remove").addEventListener("click", () => {
    const { picture } = current();
    if (picture) remove(picture.entry);
  });
}

// Adds files and shows the first of them.
export function addFiles(files) {
  const room = MOST_PICTURES - entries.length;
  if (!files.length) return;
  $("strip-full").hidden = files.length <= room;
  if (room <= 0) return;
  const added = [...files].slice(0, room).map((file) => ({
    file, name: file.name || "picture.png", held: new Map(), size: null,
    edits: Object.freeze([]), button: null,
  }));
  entries = [...entries, ...added];
  for (const entry of added) addButton(entry);
  mark();
  openPicture(added[0]);
  drawThumbnails(added);
}

// Adds an example, or shows it again.
export function addExample(file) {
  const known = entries.find((entry) => entry.file === file);
  if (known) openPicture(known);
  else addFiles([file]);
}

function addButton(entry) {
  entry.button = make("button", { type: "button", className: "thumbnail", title: entry.name });
  entry.button.setAttribute("aria-label", entry.name);
  entry.button.append(make("span", {}, entry.name));
  entry.button.addEventListener("click", () => openPicture(entry));
  $("strip").append(make("li", {}, entry.button));
}

// One after the other: each decodes a whole picture.
async function drawThumbnails(added) {
  for (const entry of added) {
    const small = await makeThumbnail(entry.file, SIDE_PX);
    if (!small || !entries.includes(entry)) continue;
    entry.address = URL.createObjectURL(small);
    entry.button.replaceChildren(make("img", { src: entry.address, alt: "" }));
  }
}

export function remove(entry) {
  const at = entries.indexOf(entry);
  if (at < 0) return;
  const focused = document.activeElement === $("remove");
  entries = entries.filter((other) => other !== entry);
  entry.button.parentElement.remove();
  if (entry.address) URL.revokeObjectURL(entry.address);
  if (current().picture?.entry === entry) {
    const next = entries[Math.min(at, entries.length - 1)];
    if (next) openPicture(next);
    else closePicture();
  }
  mark();
  if (focused && !entries.length) $("choose").focus();
}

function mark() {
  const shown = current().picture?.entry;
  for (const entry of entries) {
    if (entry === shown) entry.button.setAttribute("aria-current", "true");
    else entry.button.removeAttribute("aria-current");
  }
  $("strip").hidden = entries.length < 2;
  $("pictures").hidden = !entries.length;
  shown?.button?.scrollIntoView({ block: "nearest", inline: "nearest" });
}
