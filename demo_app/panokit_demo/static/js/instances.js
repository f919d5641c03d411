/**
 * The contract `instances`, bit for bit as docs/contracts.md says: boxes, scores and masks to
 * instances, and to a panoptic map. `panokit vectors` and check_vectors.js prove it.
 *
 * Boxes are (x0, y0, x1, y1) in input pixels. The anchor is the first axis of detections, boxes,
 * scores and coefficients, whatever `anchors_last` says of the file.
 */

import {
  axisTaps, checkNumbers, f32, HeadError, partOf, readTensor, rowOf, sigmoid, softmax, widen,
  wholeVector,
} from "./kernels.js";

const LIMIT = 1e38;
const LIMITS = {
  boxes: 1e9, scores: LIMIT, labels: LIMIT, objectness: LIMIT, coefficients: 1e15, prototypes: 1e15,
  masks: LIMIT,
};
const MAY_BE_NAN = ["scores", "labels", "objectness"]; // NaN drops the anchor
const MOST_ANCHORS = 1_000_000;

/**
 * Decode heads to a map: the best instance first, each where nothing is yet. Arguments and result as
 * of `decodeMaskQueries`.
 * @param {Panokit.HeadTensors} tensors
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.Transform} transform
 * @param {Panokit.InstancesSettings} settings
 * @returns {Panokit.ContractDecoding}
 */
export function decodeInstances(tensors, taxonomy, transform, settings) {
  const { found, kept, instances } = findInstances(tensors, taxonomy, transform, settings);
  const order = [...instances.keys()];
  const painted = paint(instances, transform, order, 1);
  const { segments, idOfRank } = segmentsOf(instances, painted, order, taxonomy);
  const [W, H] = transform.input_wh;
  return {
    ids: painted.rank.map((k) => (k < 0 ? 0 : idOfRank[k])),
    shape: [H, W],
    onPhoto: false,
    segments,
    details: {
      detections: wholeVector(found.map((d) => d.index)),
      columns: wholeVector(found.map((d) => d.column)),
      scores: { shape: [found.length], data: Float32Array.from(found, (d) => d.score) },
      boxes: { shape: [found.length, 4], data: Float32Array.from(found.flatMap((d) => d.box)) },
      kept: wholeVector(kept.map((d) => d.index)),
      kept_columns: wholeVector(kept.map((d) => d.column)),
      instances: wholeVector(instances.map((i) => i.index)),
      areas: wholeVector(instances.map((i) => i.area)),
      ranks: { shape: [H, W], data: painted.rank },
    },
  };
}

/**
 * The stages up to the instances, best first; their masks may overlap.
 * @param {Panokit.HeadTensors} tensors
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.Transform} transform
 * @param {Panokit.InstancesSettings} settings
 */
export function findInstances(tensors, taxonomy, transform, settings) {
  const things = [...taxonomy.keys()].filter((c) => taxonomy[c].isthing);
  const table = settings.columns.length ? settings.columns : things;
  const heads = readHeads(tensors, settings);
  const found = detect(heads, table, transform, settings);
  const kept = suppress(found, settings);
  const instances = kept.flatMap((d) => makeInstance(heads, d, transform, settings) ?? []);
  return { found, kept, instances };
}

/**
 * Parts of the tensors, as the settings read them.
 * @param {Panokit.HeadTensors} tensors
 * @param {Panokit.InstancesSettings} settings
 */
function readHeads(tensors, settings) {
  const direct = settings.masks === "direct";
  const grid = readTensor(tensors, direct ? "masks" : "prototypes", 3);
  /** @type {Record<string, Panokit.FloatTensor>} */
  const parts = {};
  if (direct || settings.tensors === "split") {
    for (const name of ["boxes", "scores", ...(direct ? [] : ["coefficients"])]) {
      parts[name] = readTensor(tensors, name, 2);
    }
  } else {
    const joined = readTensor(tensors, "detections", 2);
    const [k, m] = [joined.shape[1], grid.shape[2]];
    const rows = settings.tensors === "rows";
    const from = 4 + Number(settings.objectness);
    const classes = rows ? 1 : k - from - m;
    if (classes < 1 || (rows && k !== 6 + m)) {
      throw new HeadError("detections", `has ${k} numbers an anchor for ${m} prototypes`);
    }
    parts.boxes = columnsOf(joined, 0, 4);
    parts.scores = columnsOf(joined, from, from + classes);
    if (rows) parts.labels = vectorOf(joined, 5);
    if (settings.objectness) parts.objectness = vectorOf(joined, 4);
    parts.coefficients = columnsOf(joined, k - m, k);
  }
  parts[direct ? "masks" : "prototypes"] = grid;
  checkShapes(parts, direct);
  for (const [name, limit] of Object.entries(LIMITS)) {
    if (parts[name]) checkNumbers(name, parts[name], limit, MAY_BE_NAN.includes(name));
  }
  const { boxes, scores, labels, objectness, coefficients } = parts;
  return {
    n: boxes.shape[0], boxes: boxes.data, scores: scores.data, columns: scores.shape[1],
    labels: labels?.data, objectness: objectness?.data, coefficients: coefficients?.data,
    grid: grid.data, h: grid.shape[0], w: grid.shape[1], channels: grid.shape[2],
  };
}

/** @typedef {ReturnType<typeof readHeads>} Heads */

/**
 * @param {Record<string, Panokit.FloatTensor>} parts
 * @param {boolean} direct
 */
function checkShapes({ boxes, scores, coefficients, prototypes, masks }, direct) {
  const [n, four] = boxes.shape;
  if (four !== 4 || n > MOST_ANCHORS) throw new HeadError("boxes", `has the shape [${boxes.shape}]`);
  if (scores.shape[0] !== n || !scores.shape[1]) {
    throw new HeadError("scores", `has the shape [${scores.shape}]`);
  }
  const [h, w, m] = (direct ? masks : prototypes).shape;
  if (!direct && (coefficients.shape[0] !== n || coefficients.shape[1] !== m)) {
    throw new HeadError("coefficients", `has the shape [${coefficients.shape}]`);
  }
  const fits = h && w && (direct ? m === n : m);
  if (!fits) throw new HeadError(direct ? "masks" : "prototypes", `has the shape [${h},${w},${m}]`);
}

/**
 * Columns [from, to) of a tensor [A][k].
 * @param {Panokit.FloatTensor} tensor
 * @param {number} from
 * @param {number} to
 * @returns {Panokit.FloatTensor}
 */
function columnsOf({ shape: [n, k], data }, from, to) {
  const out = new Float32Array(n * (to - from));
  for (let a = 0; a < n; a++) out.set(data.subarray(a * k + from, a * k + to), a * (to - from));
  return { shape: [n, to - from], data: out };
}

/**
 * @param {Panokit.FloatTensor} tensor
 * @param {number} column
 * @returns {Panokit.FloatTensor}
 */
function vectorOf(tensor, column) {
  return { shape: [tensor.shape[0]], data: columnsOf(tensor, column, column + 1).data };
}

/**
 * Probabilities of an anchor's classes, times its objectness; the background left out.
 * @param {Heads} heads
 * @param {number} a
 * @param {Panokit.InstancesSettings} settings
 */
function classScores({ scores, columns, objectness }, a, { classes, background }) {
  let p = scores.slice(a * columns, (a + 1) * columns);
  if (classes === "sigmoid") p = p.map(sigmoid);
  if (classes === "softmax") {
    const logits = p;
    p = new Float32Array(columns);
    softmax(columns, (c) => logits[c], (c, v) => (p[c] = v));
  }
  if (background !== "none") p = background === "first" ? p.subarray(1) : p.subarray(0, columns - 1);
  return objectness ? p.map((v) => v * objectness[a]) : p;
}

/** @typedef {{ index: number, column: number, channel: number, score: number, box: number[] }} Detection */

/**
 * What scores above the threshold, the best first; equals by anchor, then by column.
 * @param {Heads} heads
 * @param {number[]} table
 * @param {Panokit.Transform} transform
 * @param {Panokit.InstancesSettings} settings
 * @returns {Detection[]}
 */
function detect(heads, table, transform, settings) {
  const least = f32(settings.threshold);
  const classes = heads.columns - Number(settings.background !== "none");
  if (!heads.labels && classes !== table.length) {
    throw new HeadError("scores", `expected ${table.length} classes, got ${classes}`);
  }
  /** @type {{ index: number, column: number, score: number }[]} */
  const found = [];
  for (let index = 0; index < heads.n; index++) {
    if (heads.objectness && !(heads.objectness[index] > least)) continue;
    const p = classScores(heads, index, settings);
    if (settings.choice === "pairs") {
      p.forEach((score, column) => score > least && found.push({ index, column, score }));
    } else if (!p.some(Number.isNaN)) {
      let column = 0;
      for (let c = 1; c < p.length; c++) if (p[c] > p[column]) column = c;
      if (p[column] > least) found.push({ index, column, score: p[column] });
    }
  }
  const named = heads.labels ? withLabels(found, heads.labels, table.length) : found;
  named.sort((a, b) => b.score - a.score); // stable
  const boxes = makeBoxes(heads, transform, settings);
  return named
    .slice(0, settings.top_k ?? heads.n)
    .map((d) => ({ ...d, channel: table[d.column], box: boxes(d.index) }));
}

/**
 * The class columns of finished detections: the nearest whole number. NaN drops the row.
 * @param {{ index: number, column: number, score: number }[]} found
 * @param {Float32Array} labels
 * @param {number} count
 */
function withLabels(found, labels, count) {
  return found.flatMap((d) => {
    const label = labels[d.index];
    if (Number.isNaN(label)) return [];
    const column = Math.floor(label + 0.5);
    if (column >= 0 && column < count) return [{ ...d, column }];
    throw new HeadError("labels", `expected class columns below ${count}, got ${label}`, [d.index]);
  });
}

/**
 * The box of an anchor, in float32.
 * @param {Heads} heads
 * @param {Panokit.Transform} transform
 * @param {Panokit.InstancesSettings} settings
 * @returns {(anchor: number) => number[]}
 */
function makeBoxes({ boxes, n }, { input_wh: [W, H] }, settings) {
  if (settings.box === "distances") {
    const cells = makeCells(n, W, H, settings.strides);
    return (a) => {
      const { x, y, stride } = cells[a];
      const [left, top, right, bottom] = boxes.subarray(4 * a, 4 * a + 4);
      return [x - left, y - top, x + right, y + bottom].map((v) => f32(f32(v) * stride));
    };
  }
  const unit = settings.box_unit === "input" ? [W, H, W, H] : [1, 1, 1, 1];
  return (a) => {
    const [p, q, r, s] = unit.map((size, i) => f32(boxes[4 * a + i] * size));
    if (settings.box === "corners") return [p, q, r, s];
    const [w, h] = [f32(r / 2), f32(s / 2)];
    return [f32(p - w), f32(q - h), f32(p + w), f32(q + h)];
  };
}

/**
 * Centres of the anchors' cells, in strides.
 * @param {number} n
 * @param {number} W
 * @param {number} H
 * @param {number[]} strides
 */
function makeCells(n, W, H, strides) {
  const cells = strides.flatMap((stride) => {
    const cols = Math.floor(W / stride);
    return Array.from({ length: Math.floor(H / stride) * cols }, (_, i) => ({
      x: (i % cols) + 0.5, y: Math.floor(i / cols) + 0.5, stride,
    }));
  });
  if (cells.length !== n || strides.some((s) => W % s || H % s)) {
    throw new HeadError("boxes", `expected the anchors of strides ${strides}, got ${n}`);
  }
  return cells;
}

/**
 * Going down from the best, a detection that stays drops all later ones that it overlaps by an IoU
 * above `nms`; areas and IoU are float32.
 * @param {Detection[]} found
 * @param {Panokit.InstancesSettings} settings
 */
function suppress(found, { nms, class_wise: classWise, max_count: most }) {
  if (nms === null) return found.slice(0, most);
  const limit = f32(nms);
  const areas = found.map(({ box: [x0, y0, x1, y1] }) => f32(f32(x1 - x0) * f32(y1 - y0)));
  const dropped = new Uint8Array(found.length);
  /** @type {Detection[]} */
  const kept = [];
  for (let i = 0; i < found.length && kept.length < most; i++) {
    if (dropped[i]) continue;
    const { box: a, column } = found[i];
    kept.push(found[i]);
    for (let j = i + 1; j < found.length; j++) {
      if (dropped[j] || (classWise && found[j].column !== column)) continue;
      const b = found[j].box;
      const w = f32(Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
      const h = f32(Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
      const shared = f32(Math.max(w, 0) * Math.max(h, 0));
      // 0 / 0 is NaN, which is above nothing.
      if (f32(shared / f32(f32(areas[i] + areas[j]) - shared)) > limit) dropped[j] = 1;
    }
  }
  return kept;
}

/** @typedef {{ from: number, to: number }} Span */

/**
 * The numbers of a span that lie in start ≤ number < end; an empty part begins where the span does.
 * @param {Span} span
 * @param {number} start
 * @param {number} end
 * @returns {Span}
 */
function within({ from, to }, start, end) {
  const part = { from: Math.max(from, Math.ceil(start)), to: Math.min(to, Math.ceil(end)) };
  return part.from < part.to ? part : { from, to: from };
}

/**
 * A detection with its mask, or null: no class, an empty mask, or one that is too small.
 * @param {Heads} heads
 * @param {Detection} detection
 * @param {Panokit.Transform} transform
 * @param {Panokit.InstancesSettings} settings
 * @returns {Panokit.Instance | null}
 */
function makeInstance(heads, detection, transform, settings) {
  const { index, channel, score, box } = detection;
  const { input_wh: [W, H], content_wh: [w, h], left, top } = transform;
  let [rows, cols] = [{ from: top, to: top + h }, { from: left, to: left + w }];
  const low = [cols.from, rows.from];
  const high = [cols.to, rows.to];
  if (settings.crop === "after") {
    rows = within(rows, box[1], box[3]);
    cols = within(cols, box[0], box[2]);
  }
  if (channel < 0 || rows.from === rows.to || cols.from === cols.to) return null;
  const [yTaps, xTaps] = [axisTaps(heads.h, H), axisTaps(heads.w, W)];
  const cellRows = { from: yTaps.low[rows.from], to: yTaps.high[rows.to - 1] + 1 };
  const cellCols = { from: xTaps.low[cols.from], to: xTaps.high[cols.to - 1] + 1 };
  const cells = cellValues(heads, detection, [cellRows, cellCols], [W, H], settings);
  const [height, width] = [rows.to - rows.from, cols.to - cols.from];
  const wide = widen(cells, cellCols.to - cellCols.from, partOf(xTaps, cols.from, cols.to, cellCols.from));
  const down = partOf(yTaps, rows.from, rows.to, cellRows.from);
  const least = f32(settings.mask_threshold);
  const mask = new Uint8Array(height * width);
  let area = 0;
  for (let y = 0; y < height; y++) {
    rowOf(wide, width, down, y).forEach((v, x) => {
      if (v > least) area += mask[y * width + x] = 1;
    });
  }
  if (!area || area < settings.min_area) return null;
  const cut = box.map((v, i) => Math.min(Math.max(v, low[i % 2]), high[i % 2]));
  return { index, channel, score, box: cut, y: rows.from, x: cols.from, height, width, mask, area };
}

/**
 * What a detection has in a part of the mask's cells, before the resize.
 * @param {Heads} heads
 * @param {Detection} detection
 * @param {[Span, Span]} part
 * @param {Panokit.Pair} size
 * @param {Panokit.InstancesSettings} settings
 */
function cellValues(heads, { index, box }, [rows, cols], [W, H], settings) {
  const { grid, channels: m, h, w, coefficients } = heads;
  const out = new Float32Array((rows.to - rows.from) * (cols.to - cols.from));
  let inside = [rows, cols];
  if (settings.crop === "before") {
    const [sx, sy] = [f32(w / W), f32(h / H)];
    const [x0, y0, x1, y1] = box.map((v, i) => f32(v * (i % 2 ? sy : sx)));
    inside = [within(rows, y0, y1), within(cols, x0, x1)];
  }
  for (let y = inside[0].from; y < inside[0].to; y++) {
    for (let x = inside[1].from; x < inside[1].to; x++) {
      const at = (y * w + x) * m;
      let value = 0;
      if (coefficients) {
        for (let c = 0; c < m; c++) value += grid[at + c] * coefficients[index * m + c];
        value = f32(value);
      } else {
        value = grid[at + index];
      }
      if (settings.activation === "sigmoid") value = sigmoid(value);
      out[(y - rows.from) * (cols.to - cols.from) + x - cols.from] = value;
    }
  }
  return out;
}

/**
 * Paint instances in the given order, each where nothing is yet. One of which more than the share
 * `overlap` of its whole mask is taken is left out.
 * @param {Panokit.Instance[]} instances
 * @param {Panokit.Transform} transform
 * @param {number[]} order
 * @param {number} overlap
 */
export function paint(instances, { input_wh: [W, H] }, order, overlap) {
  const rank = new Int32Array(W * H).fill(-1);
  const areas = new Int32Array(instances.length);
  for (const k of order) {
    const { mask, y: top, x: left, width, area: whole } = instances[k];
    const free = [];
    for (let i = 0; i < mask.length; i++) {
      const at = (top + Math.floor(i / width)) * W + left + (i % width);
      if (mask[i] && rank[at] < 0) free.push(at);
    }
    if (!free.length || (whole - free.length) / whole > overlap) continue;
    areas[k] = free.length;
    for (const at of free) rank[at] = k;
  }
  return { rank, areas };
}

/**
 * A segment for each instance that has pixels; ids count from 1 in the order of painting.
 * @param {Panokit.Instance[]} instances
 * @param {{ areas: Int32Array }} painted
 * @param {number[]} order
 * @param {Panokit.Class[]} taxonomy
 */
export function segmentsOf(instances, { areas }, order, taxonomy) {
  /** @type {Panokit.Decoded[]} */
  const segments = [];
  const idOfRank = new Int32Array(instances.length);
  for (const k of order.filter((i) => areas[i])) {
    const { channel, score, box: [x0, y0, x1, y1] } = instances[k];
    const { id: category_id, isthing } = taxonomy[channel];
    idOfRank[k] = segments.length + 1;
    segments.push({
      id: idOfRank[k], category_id, isthing, area: areas[k], score,
      center_yx: [(y0 + y1) / 2, (x0 + x1) / 2],
    });
  }
  return { segments, idOfRank };
}
