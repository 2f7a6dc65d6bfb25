// Zoom and pan of the picture: zoom 1 shows all of it; the centre is a point of the picture, as
// fractions of its width and height.

export const MOST_ZOOM = 16;
export const WHOLE = Object.freeze({ zoom: 1, x: 0.5, y: 0.5 });

// Returns the transform { scale, x, y } of a picture of `size` on a canvas of `box`.
export function placePicture(view, size, box) {
  const scale = fitScale(size, box) * view.zoom;
  const offset = (centre, side, room) => room / 2 - centre * side * scale;
  return { scale, x: offset(view.x, size.width, box.width), y: offset(view.y, size.height, box.height) };
}

const fitScale = (size, box) => Math.min(box.width / size.width, box.height / size.height);

// Returns a view without room at a side that the picture could fill.
function clampView({ zoom, x, y }, size, box) {
  const scale = fitScale(size, box) * zoom;
  const clamp = (centre, side, room) => {
    const half = room / 2 / (side * scale);
    return half >= 0.5 ? 0.5 : Math.min(Math.max(centre, half), 1 - half);
  };
  return Object.freeze({
    zoom, x: clamp(x, size.width, box.width), y: clamp(y, size.height, box.height),
  });
}

// Zooms by a factor; the point (x, y) of the canvas stays where it is.
export function zoomAt(view, factor, x, y, size, box) {
  const zoom = Math.min(Math.max(view.zoom * factor, 1), MOST_ZOOM);
  const point = toPicture(x, y, view, size, box), scale = fitScale(size, box) * zoom;
  return clampView({
    zoom,
    x: point.x - (x - box.width / 2) / (size.width * scale),
    y: point.y - (y - box.height / 2) / (size.height * scale),
  }, size, box);
}

export function panBy(view, dx, dy, size, box) {
  const scale = fitScale(size, box) * view.zoom;
  return clampView({
    zoom: view.zoom, x: view.x - dx / (size.width * scale), y: view.y - dy / (size.height * scale),
  }, size, box);
}

// Moves the view so that a point of the picture, in fractions, is not too near the rim.
export function reveal(view, point, size, box) {
  const place = placePicture(view, size, box), room = 0.12;
  const overshoot = (at, side) => Math.max(0, at - side * (1 - room)) + Math.min(0, at - side * room);
  const dx = overshoot(place.x + point.x * size.width * place.scale, box.width);
  const dy = overshoot(place.y + point.y * size.height * place.scale, box.height);
  return dx || dy ? panBy(view, -dx, -dy, size, box) : view;
}

// Returns the point of the picture under a point of the canvas, as fractions.
export function toPicture(x, y, view, size, box) {
  const place = placePicture(view, size, box);
  return {
    x: (x - place.x) / (size.width * place.scale), y: (y - place.y) / (size.height * place.scale),
  };
}
