// A result of the server as arrays, and the labels that threshold and edits make of it.

export const LEAST_SHARE = 0.002;  // of the picture; a word with less was not found
const BACKGROUND = "background";

// Returns a frozen { width, height, words, colours, spare, hasBackground, word, score, segment }.
export async function readResult(answer) {
  const bytes = Uint8Array.from(atob(answer.maps), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }),
    { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = answer, count = width * height;
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  const data = pen.getImageData(0, 0, width, height).data;
  const word = new Uint8Array(count), score = new Uint8Array(count), segment = new Uint8Array(count);
  for (let i = 0, at = 0; i < count; i++, at += 4) {
    word[i] = data[at];
    score[i] = data[at + 1];
    segment[i] = data[at + 2];
  }
  return Object.freeze({
    width, height, word, score, segment,
    words: Object.freeze(answer.words),
    colours: Object.freeze(answer.colours),
    spare: Object.freeze(answer.spare_colours),
    hasBackground: answer.has_background,
  });
}

// Returns what threshold and edits make of a result, as the server does it for downloads:
// { width, height, words, colours, background, labels, counts, scores, edits }. labels index
// words; background is the index of the background, or -1; edits are those that apply.
export function label(result, threshold, edits) {
  const { width, height } = result, count = width * height;
  const words = [...result.words], colours = [...result.colours];
  let background = result.hasBackground || words[0] === BACKGROUND ? 0 : -1;
  const addBackground = () => {
    if (background < 0) {
      background = words.push(BACKGROUND) - 1;
      colours.push("#000000");
    }
  };
  const labels = result.word.slice(), sure = new Float32Array(count);
  for (let i = 0; i < count; i++) sure[i] = result.score[i] / 255;
  if (threshold > 0) {
    addBackground();
    for (let i = 0; i < count; i++) if (sure[i] < threshold) labels[i] = background;
  }
  const applied = [];
  let spare = 0;
  for (const edit of edits) {
    const at = Math.floor(edit.y * height) * width + Math.floor(edit.x * width);
    // The region was of another word when it was corrected: leave what is there now.
    if (words[labels[at]] !== edit.from) continue;
    if (!edit.word) addBackground();
    const wanted = edit.word || BACKGROUND;
    let to = words.indexOf(wanted);
    if (to < 0) {
      to = words.push(wanted) - 1;
      colours.push(result.spare[spare++ % result.spare.length]);
    }
    const { inside } = findRegion(labels, width, height, at);
    for (let i = 0; i < count; i++) if (inside[i]) { labels[i] = to; sure[i] = 1; }
    applied.push(edit);
  }
  const counts = new Array(words.length).fill(0), scores = new Array(words.length).fill(0);
  for (let i = 0; i < count; i++) { counts[labels[i]]++; scores[labels[i]] += sure[i]; }
  for (let w = 0; w < words.length; w++) scores[w] = counts[w] ? scores[w] / counts[w] : null;
  return { width, height, words, colours, background, labels, counts, scores, sure, edits: applied };
}

// Returns { inside, count } of the pixels that have the label of one and touch it by their sides.
export function findRegion(labels, width, height, at) {
  const inside = new Uint8Array(width * height), wanted = labels[at], waiting = [at];
  let count = 0;
  while (waiting.length) {
    const start = waiting.pop();
    if (inside[start]) continue;
    const row = start - start % width;
    let left = start, right = start;
    while (left > row && labels[left - 1] === wanted) left--;
    while (right < row + width - 1 && labels[right + 1] === wanted) right++;
    for (let i = left; i <= right; i++) {
      inside[i] = 1;
      count++;
      if (i >= width && labels[i - width] === wanted && !inside[i - width] &&
          (i === left || labels[i - width - 1] !== wanted)) waiting.push(i - width);
      if (i + width < inside.length && labels[i + width] === wanted && !inside[i + width] &&
          (i === left || labels[i + width - 1] !== wanted)) waiting.push(i + width);
    }
  }
  return { inside, count };
}

// Returns of each label { at, depth, count }: the pixel that is deepest inside it, in steps to
// another label or the rim, how deep, and the number of its pixels.
export function findCentres(labels, width, height) {
  const total = labels.length, depth = new Int32Array(total), centres = new Map();
  for (let i = 0, x = 0; i < total; i++) {
    const own = labels[i];
    const left = x && labels[i - 1] === own ? depth[i - 1] : 0;
    const above = i >= width && labels[i - width] === own ? depth[i - width] : 0;
    depth[i] = (left < above ? left : above) + 1;
    if (++x === width) x = 0;
  }
  const best = new Int32Array(256).fill(-1), counts = new Int32Array(256);
  for (let i = total - 1, x = width - 1; i >= 0; i--) {
    const own = labels[i];
    const right = x < width - 1 && labels[i + 1] === own ? depth[i + 1] : 0;
    const below = i < total - width && labels[i + width] === own ? depth[i + width] : 0;
    const near = (right < below ? right : below) + 1;
    if (near < depth[i]) depth[i] = near;
    counts[own]++;
    if (best[own] < 0 || depth[i] > depth[best[own]]) best[own] = i;
    if (x-- === 0) x = width - 1;
  }
  for (let own = 0; own < 256; own++) {
    if (counts[own]) {
      centres.set(own, { at: best[own], depth: depth[best[own]], count: counts[own] });
    }
  }
  return centres;
}

// Keeps the last value of a function, for arguments that are the same objects.
export function memo(make) {
  let last = null, value;
  return (...given) => {
    if (!last || given.some((one, i) => one !== last[i])) {
      value = make(...given);
      last = given;
    }
    return value;
  };
}

export const labelled = memo(label);
