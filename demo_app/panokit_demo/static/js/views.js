/**
 * What was found, drawn: the map in colours, outlines, boxes and names.
 *
 * A result is `{segments, counts, colors, taxonomy, ids, size}`: `ids` Int32Array [h][w] on the
 * shown photo, 0 = no class; `colors` by segment id as "#rrggbb".
 */

import { idsOnPhoto } from "./postprocessing.js";
import { known, readable } from "./page.js";

/**
 * A result of the server's (or of this device's) ready to draw on a photo of `size` [w, h].
 * @param {Panokit.Answer} answer
 * @param {Panokit.Category[]} taxonomy
 * @param {Panokit.Pair} size
 * @returns {Panokit.Result}
 */
export function makeResult(answer, taxonomy, size) {
  const ids = idsOnPhoto(unpack(answer.map), answer.map.shape, answer.transform);
  const categories = new Map(taxonomy.map((c) => [c.id, c]));
  const segments = measured(answer.segments, ids, size[0]);
  const byId = new Map(segments.map((s) => [s.id, s]));
  return { ...answer, segments, ids, size, categories, byId };
}

/**
 * Segments with their area and box on the photo; those that no photo pixel shows are left out.
 * @param {Panokit.FoundSegment[]} segments
 * @param {Int32Array} ids
 * @param {number} w
 * @returns {Panokit.Segment[]}
 */
function measured(segments, ids, w) {
  if (segments.every((s) => s.box_xyxy)) return /** @type {Panokit.Segment[]} */ (segments);
  const boxes = new Map(segments.map((s) => [s.id, { area: 0, x0: w, y0: Infinity, x1: 0, y1: 0 }]));
  for (let i = 0; i < ids.length; i++) {
    const box = boxes.get(ids[i]);
    if (!box) continue;
    const [x, y] = [i % w, Math.floor(i / w)];
    box.area++;
    box.x0 = Math.min(box.x0, x);
    box.x1 = Math.max(box.x1, x + 1);
    box.y0 = Math.min(box.y0, y);
    box.y1 = y + 1;
  }
  return segments
    .map((s) => ({ s, box: known(boxes.get(s.id)) }))
    .filter(({ box }) => box.area > 0)
    .map(({ s, box }) => ({ ...s, area: box.area, box_xyxy: [box.x0, box.y0, box.x1, box.y1] }));
}

/**
 * Colours for a result in those of another one: the nth of a class has the nth one's colour.
 * @param {Panokit.Segment[]} segments
 * @param {Panokit.Result} other
 * @returns {Record<number, string>}
 */
export function colorsLike(segments, other) {
  const nth = new Map();
  /** @type {(s: Panokit.Segment, counts: Map<number, number>) => string} */
  const keyOf = (s, counts) => {
    counts.set(s.category_id, (counts.get(s.category_id) ?? -1) + 1);
    return `${s.category_id}:${counts.get(s.category_id)}`;
  };
  const colors = new Map(other.segments.map((s) => [keyOf(s, nth), other.colors[s.id]]));
  const counts = new Map();
  /** @type {(c: number[]) => string} */
  const plain = (c) => `#${c.map((v) => v.toString(16).padStart(2, "0")).join("")}`;
  return Object.fromEntries(
    segments.map((s) => [
      s.id,
      colors.get(keyOf(s, counts)) ?? plain(known(other.categories.get(s.category_id)).color),
    ])
  );
}

/** @param {Panokit.PackedMap} map */
function unpack({ dtype, data }) {
  if (typeof data !== "string") return data;
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  return Int32Array.from(dtype === "U8" ? bytes : new Uint16Array(bytes.buffer));
}

/**
 * The id of the segment at a point of the photo in 0..1, or 0.
 * @param {Panokit.Result} result
 * @param {number} x
 * @param {number} y
 */
export function idAt({ ids, size: [w, h] }, x, y) {
  if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return 0;
  return ids[Math.floor(y * h) * w + Math.floor(x * w)];
}

/**
 * Colours of the segments in a view, as [r, g, b] by id; those that it leaves out are missing.
 * @param {Panokit.Result} result
 * @param {Panokit.View} view
 * @returns {Map<number, [number, number, number]>}
 */
function palette({ segments, colors, categories }, view) {
  const shown = new Map();
  for (const s of segments) {
    if (view === "semantic") shown.set(s.id, known(categories.get(s.category_id)).color);
    else if (view === "panoptic" || (view === "instances" && s.isthing)) {
      const n = parseInt(colors[s.id].slice(1), 16);
      shown.set(s.id, [n >> 16, (n >> 8) & 255, n & 255]);
    }
  }
  return shown;
}

/**
 * Fill a canvas with a view of a result; what it leaves out stays transparent.
 * @param {HTMLCanvasElement} canvas
 * @param {Panokit.Result} result
 * @param {Panokit.View} view
 */
export function paintOverlay(canvas, result, view) {
  const [w, h] = result.size;
  canvas.width = w;
  canvas.height = h;
  const context = known(canvas.getContext("2d"));
  const image = context.createImageData(w, h);
  const out = new Uint32Array(image.data.buffer);
  const most = result.segments.reduce((m, s) => Math.max(m, s.id), 0);
  const fill = new Uint32Array(most + 1);
  const edge = new Uint32Array(most + 1);
  const group = Uint32Array.from({ length: most + 1 }, (_, i) => i);
  /** @type {(color: [number, number, number], k: number) => number} */
  const pack = ([r, g, b], k) =>
    ((255 << 24) | (Math.round(b * k) << 16) | (Math.round(g * k) << 8) | Math.round(r * k)) >>> 0;
  for (const [id, color] of palette(result, view)) {
    fill[id] = pack(color, 1);
    edge[id] = pack(color, 0.5);
    if (view === "semantic") group[id] = known(result.byId.get(id)).category_id;
  }
  const { ids } = result;
  const width = Math.max(1, Math.round(Math.min(w, h) / 400));
  for (let y = 0, i = 0; y < h; y++) {
    for (let x = 0; x < w; x++, i++) {
      const id = ids[i];
      if (!fill[id]) continue;
      const right = x + width < w ? ids[i + width] : id;
      const below = y + width < h ? ids[i + width * w] : id;
      const border = group[right] !== group[id] || group[below] !== group[id];
      out[i] = border ? edge[id] : fill[id];
    }
  }
  context.putImageData(image, 0, 0);
}

/**
 * A segment's outline (and a veil over it), as a canvas of its box, or null.
 * @param {Panokit.Result} result
 * @param {number} id
 * @param {{ veil?: number }} options
 */
export function outline(result, id, { veil = 0 } = {}) {
  const segment = result.byId.get(id);
  if (!segment) return null;
  const [w, h] = result.size;
  const around = Math.max(2, Math.round(Math.min(w, h) / 250));
  const x0 = Math.max(0, segment.box_xyxy[0] - around);
  const y0 = Math.max(0, segment.box_xyxy[1] - around);
  const x1 = Math.min(w, segment.box_xyxy[2] + around);
  const y1 = Math.min(h, segment.box_xyxy[3] + around);
  const canvas = new OffscreenCanvas(Math.max(1, x1 - x0), Math.max(1, y1 - y0));
  const context = known(canvas.getContext("2d"));
  const image = context.createImageData(canvas.width, canvas.height);
  const out = new Uint32Array(image.data.buffer);
  /** @type {(x: number, y: number) => boolean} */
  const isIn = (x, y) => x >= 0 && y >= 0 && x < w && y < h && result.ids[y * w + x] === id;
  const white = 0xffffffff;
  const dark = 0xd0000000;
  const glass = ((veil << 24) | 0xffffff) >>> 0;
  const half = Math.ceil(around / 2);
  for (let y = y0, i = 0; y < y1; y++) {
    for (let x = x0; x < x1; x++, i++) {
      const inside = isIn(x, y);
      /** @type {(d: number) => boolean} */
      const near = (d) =>
        isIn(x - d, y) !== inside || isIn(x + d, y) !== inside ||
        isIn(x, y - d) !== inside || isIn(x, y + d) !== inside;
      if (inside) out[i] = near(around) ? white : veil ? glass : 0;
      else if (near(half)) out[i] = dark;
    }
  }
  context.putImageData(image, 0, 0);
  return { canvas, x: x0, y: y0 };
}

/**
 * A pixel of the segment near its middle, as a point in 0..1.
 * @param {Panokit.Result} result
 * @param {number} id
 * @returns {Panokit.Pair}
 */
export function insidePoint(result, id) {
  const { box_xyxy: [x0, y0, x1, y1] } = known(result.byId.get(id));
  const [w, h] = result.size;
  const step = Math.max(1, Math.round(Math.max(x1 - x0, y1 - y0) / 64));
  /** @type {Panokit.Pair[]} */
  const found = [];
  let [sx, sy] = [0, 0];
  for (let y = y0; y < y1; y += step) {
    for (let x = x0; x < x1; x += step) {
      if (result.ids[y * w + x] !== id) continue;
      found.push([x, y]);
      sx += x;
      sy += y;
    }
  }
  if (!found.length) {
    const i = result.ids.indexOf(id);
    return [((i % w) + 0.5) / w, (Math.floor(i / w) + 0.5) / h];
  }
  const [cx, cy] = [sx / found.length, sy / found.length];
  /** @type {(point: Panokit.Pair) => number} */
  const distance = ([x, y]) => (x - cx) ** 2 + (y - cy) ** 2;
  const [x, y] = found.reduce((best, p) => (distance(p) < distance(best) ? p : best));
  return [(x + 0.5) / w, (y + 0.5) / h];
}

/** @param {Panokit.FoundSegment} segment */
export const title = (segment) => readable(segment.category);

/**
 * Names (and boxes in that view) on a canvas of any size over the photo.
 * @param {CanvasRenderingContext2D} context
 * @param {Panokit.Result} result
 * @param {Panokit.View} view
 * @param {number} scale
 */
export function drawNames(context, result, view, scale) {
  const [w, h] = result.size;
  const [sx, sy] = [context.canvas.width / w, context.canvas.height / h];
  const size = 12.5 * scale;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  /** @type {Panokit.Box[]} */
  const taken = [];
  const seen = new Set();
  for (const s of [...result.segments].sort((a, b) => b.area - a.area)) {
    if (view !== "panoptic" && view !== "semantic" && !s.isthing) continue;
    if (view === "semantic" && seen.has(s.category_id)) continue;
    seen.add(s.category_id);
    const [x0, y0, x1, y1] = s.box_xyxy;
    if (view === "boxes") drawBox(context, [x0 * sx, y0 * sy, x1 * sx, y1 * sy], result.colors[s.id], scale);
    else if (s.area < 0.004 * w * h) continue;
    const scored = s.isthing && view !== "semantic";
    const text = scored ? `${title(s)} ${Math.round(100 * s.score)} %` : title(s);
    /** @type {Panokit.Pair} */
    const at = view === "boxes" ? [x0 * sx, y0 * sy + size] : insidePoint(result, s.id);
    const color = view === "semantic" ? rgb(known(result.categories.get(s.category_id)).color) : result.colors[s.id];
    drawName(context, text, view === "boxes" ? at : [at[0] * w * sx, at[1] * h * sy], color, {
      size, taken, centered: view !== "boxes",
    });
  }
}

/** @param {[number, number, number]} color */
const rgb = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Panokit.Box} box
 * @param {string} color
 * @param {number} scale
 */
function drawBox(context, [x0, y0, x1, y1], color, scale) {
  context.lineWidth = 4 * scale;
  context.strokeStyle = "#000a";
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.lineWidth = 2 * scale;
  context.strokeStyle = color;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {Panokit.Pair} at
 * @param {string} color
 * @param {{ size: number, taken: Panokit.Box[], centered: boolean }} look
 */
function drawName(context, text, [x, y], color, { size, taken, centered }) {
  const pad = size * 0.45;
  const dot = size * 0.65;
  const width = context.measureText(text).width + 2 * pad + dot + pad * 0.7;
  const height = size * 1.6;
  let left = centered ? x - width / 2 : x;
  let top = y - height / 2;
  left = Math.min(Math.max(left, 2), Math.max(2, context.canvas.width - width - 2));
  top = Math.min(Math.max(top, 2), Math.max(2, context.canvas.height - height - 2));
  /** @type {(box: Panokit.Box) => boolean} */
  const over = ([l, t, r, b]) => left < r && l < left + width && top < b && t < top + height;
  if (taken.some(over)) return;
  taken.push([left, top, left + width, top + height]);
  context.fillStyle = "#000000b8";
  context.beginPath();
  context.roundRect(left, top, width, height, height / 2);
  context.fill();
  context.fillStyle = color;
  context.strokeStyle = "#fffc";
  context.lineWidth = size * 0.08;
  context.beginPath();
  context.arc(left + pad + dot / 2, top + height / 2, dot / 2, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
  context.fillStyle = "#fff";
  context.fillText(text, left + pad + dot + pad * 0.7, top + height / 2 + size * 0.05);
}
