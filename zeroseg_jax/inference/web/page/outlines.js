// Outlines of labels as smooth paths, so that they stay sharp at any zoom and pixel density.
//
// Each region's border is followed along the sides of its pixels, clockwise, the region at the
// right hand. The midpoints of the sides are smoothed; those on the rim of the picture stay.

const STEP_X = [1, 0, -1, 0], STEP_Y = [0, 1, 0, -1];  // east, south, west, north
const SMOOTHING = 3;
const LEAST_BORDER = 0.02;  // of width and height; shorter borders have no line, crumbs would glare

// Returns { fills, borders }: a closed path of each label, and the lines between labels.
export function traceOutlines(labels, width, height) {
  const fills = new Map(), borders = new Path2D(), least = LEAST_BORDER * (width + height);
  forEachLoop(labels, width, height, (own, loop) => {
    if (!fills.has(own)) fills.set(own, new Path2D());
    smooth(loop);
    addClosed(fills.get(own), loop);
    if (loop.count >= least) addBorders(borders, loop, own);
  });
  return { fills, borders };
}

// Returns the outline of one region without its small holes. inside: 1 for its pixels, else 0.
export function traceRegion(inside, width, height) {
  const path = new Path2D();
  let longest = 0;
  forEachLoop(inside, width, height, (own, { count }) => {
    if (own) longest = Math.max(longest, count);
  });
  const least = Math.min(longest, LEAST_BORDER * (width + height));
  forEachLoop(inside, width, height, (own, loop) => {
    if (!own || loop.count < least) return;
    smooth(loop);
    addClosed(path, loop);
  });
  return path;
}

// Calls use(label, { count, x, y, other }): midpoints of the sides in order, and the label on the
// far side of each; -1 for the rim.
function forEachLoop(labels, width, height, use) {
  const seen = new Uint8Array(width * height);  // pixels whose upper side was followed
  let x = new Float32Array(1024), y = new Float32Array(1024), other = new Int16Array(1024);
  const at = (px, py) => px < 0 || py < 0 || px >= width || py >= height ? -1 : labels[py * width + px];
  for (let start = 0; start < labels.length; start++) {
    const own = labels[start];
    if (seen[start] || (start >= width && labels[start - width] === own)) continue;
    const x0 = start % width, y0 = (start - x0) / width;
    let vx = x0, vy = y0, way = 0, count = 0;
    do {
      if (way === 0) seen[vy * width + vx] = 1;
      if (count === x.length) [x, y, other] = [x, y, other].map(double);
      x[count] = vx + STEP_X[way] / 2;
      y[count] = vy + STEP_Y[way] / 2;
      // The pixel at the left hand of this side.
      other[count++] = at(vx - (way === 2 || way === 3 ? 1 : 0), vy - (way === 0 || way === 3 ? 1 : 0));
      vx += STEP_X[way];
      vy += STEP_Y[way];
      // Pixels ahead, at the right hand and at the left hand.
      const right = at(vx - (way === 1 || way === 2 ? 1 : 0), vy - (way === 2 || way === 3 ? 1 : 0));
      const left = at(vx - (way === 2 || way === 3 ? 1 : 0), vy - (way === 0 || way === 3 ? 1 : 0));
      if (right !== own) way = (way + 1) % 4;
      else if (left === own) way = (way + 3) % 4;
    } while (vx !== x0 || vy !== y0 || way !== 0);
    use(own, { count, x, y, other });
  }
}

function double(array) {
  const larger = new array.constructor(2 * array.length);
  larger.set(array);
  return larger;
}

function smooth({ count, x, y, other }) {
  if (count < 6) return;
  for (let pass = 0; pass < SMOOTHING; pass++) {
    const firstX = x[0], firstY = y[0];
    let beforeX = x[count - 1], beforeY = y[count - 1];
    for (let i = 0; i < count; i++) {
      const ownX = x[i], ownY = y[i], last = i === count - 1;
      if (other[i] >= 0) {
        x[i] = (beforeX + 2 * ownX + (last ? firstX : x[i + 1])) / 4;
        y[i] = (beforeY + 2 * ownY + (last ? firstY : y[i + 1])) / 4;
      }
      beforeX = ownX;
      beforeY = ownY;
    }
  }
}

// True where a point is on the line between its neighbours and may be left out.
function isStraight(x, y, before, i, after) {
  const ax = x[i] - x[before], ay = y[i] - y[before];
  return Math.abs(ax * (y[after] - y[i]) - ay * (x[after] - x[i])) < 1e-3;
}

function addClosed(path, { count, x, y }) {
  let kept = 0;
  path.moveTo(x[0], y[0]);
  for (let i = 1; i < count; i++) {
    if (isStraight(x, y, kept, i, (i + 1) % count)) continue;
    path.lineTo(x[i], y[i]);
    kept = i;
  }
  path.closePath();
}

// Adds each line once: of the two regions at its sides, the one with the smaller label draws it.
function addBorders(path, { count, x, y, other }, own) {
  const drawn = (i) => other[i] > own;
  for (let i = 0; i < count; i++) {
    const before = (i + count - 1) % count, after = (i + 1) % count;
    if (!drawn(i)) continue;
    if (i === 0 || !drawn(before)) {
      path.moveTo(x[before], y[before]);
      path.lineTo(x[i], y[i]);
    } else if (!isStraight(x, y, before, i, after)) {
      path.lineTo(x[i], y[i]);
    }
    if (!drawn(after) || i === count - 1) path.lineTo(x[after], y[after]);
  }
}
