// Pictures from files: decoded upright, and made smaller before they are sent.

export const LONG_SIDE_PX = 2048;
// What the server reads as well; others, for example AVIF, are sent as PNG or JPEG.
const SENT_AS_THEY_ARE = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"];

// entry: { file, name, held, size, edits }. Returns { entry, name, bitmap, sent, width, height }: bitmap
// is null where only the server can read the file, and width and height are those of the file.
export async function readPicture(entry, limits) {
  const { file, name } = entry;
  let whole;
  try {
    whole = await createImageBitmap(file);  // upright, by the orientation in its EXIF data
  } catch {
    if (file.size > limits.upload_bytes) throw new Error(describeSize(name, file.size, limits));
    return Object.freeze({ entry, name, bitmap: null, sent: file, width: 0, height: 0 });
  }
  const { width, height } = whole, scale = LONG_SIDE_PX / Math.max(width, height);
  const bitmap = scale < 1 ? await shrink(whole, scale) : whole;
  let sent = file;
  if (scale < 1 || !SENT_AS_THEY_ARE.includes(file.type)) sent = await encode(bitmap, file.type);
  if (sent.size > limits.upload_bytes) sent = await encode(bitmap, "image/jpeg");
  if (sent.size > limits.upload_bytes) throw new Error(describeSize(name, sent.size, limits));
  return Object.freeze({ entry, name, bitmap, sent, width, height });
}

async function shrink(whole, scale) {
  const resizeWidth = Math.max(1, Math.round(whole.width * scale));
  const resizeHeight = Math.max(1, Math.round(whole.height * scale));
  const small = await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
  whole.close();
  return small;
}

// Pictures without losses stay without losses.
function encode(bitmap, kind) {
  const sheet = new OffscreenCanvas(bitmap.width, bitmap.height), pen = sheet.getContext("2d");
  const type = ["image/png", "image/gif", "image/bmp"].includes(kind) ? "image/png" : "image/jpeg";
  if (type === "image/jpeg") {
    pen.fillStyle = "#fff";  // JPEG has no transparency
    pen.fillRect(0, 0, bitmap.width, bitmap.height);
  }
  pen.drawImage(bitmap, 0, 0);
  return sheet.convertToBlob({ type, quality: 0.92 });
}

function describeSize(name, bytes, limits) {
  const megabytes = (size) => (size / 1e6).toFixed(1);
  return `${name}: ${megabytes(bytes)} MB are more than the limit of ` +
    `${megabytes(limits.upload_bytes)} MB. Choose a smaller file.`;
}

// Returns width and height of downloads: those of the file, or the most that the server allows.
export function downloadSize(picture, limits) {
  const { width, height } = picture.width ? picture : picture.entry.size;
  const scale = Math.min(1, Math.sqrt(limits.pixels / (width * height)));
  if (scale === 1) return { width, height };
  return { width: Math.floor(width * scale), height: Math.floor(height * scale) };
}

export async function decodeWhole(picture) {
  return picture.bitmap ? createImageBitmap(picture.entry.file) : null;
}

// Returns a small picture as a blob, or null where the browser cannot decode the file.
export async function makeThumbnail(file, side) {
  let whole;
  try {
    whole = await createImageBitmap(file);
  } catch {
    return null;
  }
  const part = Math.min(whole.width, whole.height);
  const sheet = new OffscreenCanvas(side, side), pen = sheet.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(whole, (whole.width - part) / 2, (whole.height - part) / 2, part, part, 0, 0, side, side);
  whole.close();
  return sheet.convertToBlob({ type: "image/png" });
}

// Returns the file's name without its last ending and without what file systems refuse.
export function stem(name) {
  const plain = name.replace(/\.[^.]*$/, "").replace(/[\\/:*?"<>|\u0000-\u001f]+/g, "_").trim();
  return plain.slice(0, 100) || "picture";
}
