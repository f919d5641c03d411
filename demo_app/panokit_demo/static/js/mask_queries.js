/**
 * The contract `mask-queries`, bit for bit as docs/contracts.md says: classes [Q][K] and mask logits
 * [h][w][Q] to a panoptic map. `panokit vectors` and check_vectors.js prove it.
 */

import {
  alignedTaps, axisTaps, checkNumbers, f32, HeadError, onInput, planeOf, readTensor, resizePlane,
  rowOf, sigmoid, softmax, tapsAt, wholeVector, widen,
} from "./kernels.js";

const LIMIT = 1e38;
const MOST_QUERIES = 4096;

/**
 * Decode heads: tensors by name, the taxonomy as `{id, isthing}` by channel, the transform record and
 * the manifest's settings. Gives `ids` (0 = void) of `shape`, `segments`, and the intermediates.
 * @param {Panokit.HeadTensors} tensors
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.Transform} transform
 * @param {Panokit.MaskQueriesSettings} settings
 * @returns {Panokit.ContractDecoding}
 */
export function decodeMaskQueries(tensors, taxonomy, transform, settings) {
  const heads = readHeads(tensors, settings.classes === "labels");
  const queries = findQueries(heads, taxonomy, settings);
  const plan = makePlan(heads, transform, settings);
  const find = settings.owner === "first" ? firstOwners : bestOwners;
  const owners = find(heads, queries, plan, settings);
  const { segments, idOfRank } = makeSegments(queries, owners, taxonomy, settings);
  const painted = settings.painted === "inside" ? owners.inside : null;
  const ids = owners.rank.map((k, i) => (k >= 0 && (!painted || painted[i]) ? idOfRank[k] : 0));
  const onPhoto = settings.grid === "photo";
  /** @type {(values: Int32Array, outside: number) => Int32Array} */
  const onGrid = (values, outside) => (onPhoto ? values : onInput(values, transform, outside));
  const [W, H] = onPhoto ? transform.photo_wh : transform.input_wh;
  return {
    ids: onGrid(ids, 0),
    shape: [H, W],
    onPhoto,
    segments,
    details: {
      queries: wholeVector(queries.map((q) => q.index)),
      query_scores: { shape: [queries.length], data: Float32Array.from(queries, (q) => q.score) },
      owners: { shape: [H, W], data: onGrid(owners.rank, -1) },
      owned: wholeVector(owners.owned),
      held: wholeVector(owners.held),
      both: wholeVector(owners.both),
    },
  };
}

/**
 * @param {Panokit.HeadTensors} tensors
 * @param {boolean} labelled
 */
function readHeads(tensors, labelled) {
  const classes = labelled ? sideBySide(tensors) : readTensor(tensors, "classes", 2);
  const masks = readTensor(tensors, "masks", 3);
  const [n, columns] = classes.shape;
  const [h, w, of] = masks.shape;
  if (!n || !columns || n > MOST_QUERIES) throw new HeadError("classes", `has the shape [${n},${columns}]`);
  if (of !== n || !h || !w) throw new HeadError("masks", `has the shape [${h},${w},${of}]`);
  checkNumbers("classes", classes, LIMIT, true);
  checkNumbers("masks", masks, LIMIT);
  return { classes: classes.data, masks: masks.data, n, columns, h, w };
}

/**
 * A label and its confidence for each query, as two columns.
 * @param {Panokit.HeadTensors} tensors
 * @returns {Panokit.FloatTensor}
 */
function sideBySide(tensors) {
  const [labels, confidence] = ["classes", "confidence"].map((name) => readTensor(tensors, name, 1));
  const [n] = labels.shape;
  if (confidence.shape[0] !== n) throw new HeadError("confidence", `has the shape [${confidence.shape}]`);
  const data = Float32Array.from({ length: 2 * n }, (_, i) => (i % 2 ? confidence : labels).data[i >> 1]);
  return { shape: [n, 2], data };
}

/** @typedef {ReturnType<typeof readHeads>} Heads */
/** @typedef {{ index: number, channel: number, score: number }} Query */

/**
 * The queries that say something: best class not "nothing", and its score above the threshold.
 * @param {Heads} heads
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.MaskQueriesSettings} settings
 */
function findQueries({ classes, n, columns }, taxonomy, settings) {
  const table = settings.columns.length ? settings.columns : [...taxonomy.keys()];
  const labelled = settings.classes === "labels";
  const count = labelled ? table.length : columns - Number(settings.no_object);
  if (count < 1 || count !== table.length || Math.max(...table) >= taxonomy.length) {
    throw new HeadError("classes", `expected ${table.length} classes, got ${count}`);
  }
  // Where queries take what is left, "nothing" only takes its share of the probability.
  const asked = settings.owner === "first" ? count : columns;
  /** @type {Query[]} */
  const found = [];
  for (let q = 0; q < n; q++) {
    const own = classes.subarray(q * columns, (q + 1) * columns);
    const { best, score } = labelled ? { best: Math.floor(own[0] + 0.5), score: own[1] } : bestOf(own);
    if (!(best >= 0 && best < count)) continue;
    const channel = table[best];
    const isThing = channel >= 0 && taxonomy[channel].isthing;
    const least = isThing ? settings.threshold : (settings.stuff_threshold ?? settings.threshold);
    if (score > f32(least)) found.push({ index: q, channel, score });
  }
  return settings.order === "score" ? found.sort((a, b) => b.score - a.score) : found; // stable

  /** @param {Float32Array} logits */
  function bestOf(logits) {
    const p = probabilities(logits, settings.classes).subarray(0, asked);
    let best = p.some(Number.isNaN) ? -1 : 0;
    for (let c = 1; c < asked; c++) if (p[c] > p[best]) best = c;
    return { best, score: p[best] };
  }
}

/**
 * @param {Float32Array} logits
 * @param {string} kind
 */
function probabilities(logits, kind) {
  if (kind === "probabilities") return logits;
  if (kind === "sigmoid") return Float32Array.from(logits, sigmoid);
  const p = new Float32Array(logits.length);
  softmax(p.length, (i) => logits[i], (i, v) => (p[i] = v));
  return p;
}

/**
 * From which rows and columns of which grid each pixel of the photo's part is taken.
 * @param {Heads} heads
 * @param {Panokit.Transform} transform
 * @param {Panokit.MaskQueriesSettings} settings
 */
function makePlan({ h, w }, { photo_wh, input_wh: [W, H], content_wh, left, top }, settings) {
  const corners = settings.align_corners && W % 2 === 1;
  const taps = corners ? alignedTaps : axisTaps;
  const grid = settings.mask_grid;
  const [toW, toH] = grid === "head" ? [w, h] : grid === "input" ? [W, H] : grid;
  const same = toW === w && toH === h;
  const [outW, outH] = settings.grid === "photo" ? photo_wh : content_wh;
  const crop = settings.crop_first;
  /** @type {(n: number, size: number, start: number, length: number, out: number) => Panokit.Mix | null} */
  const mix = (...axis) => (settings.antialias ? shrunk(...axis) : null);
  return {
    first: same ? null : { rows: taps(h, toH), cols: taps(w, toW) },
    width: toW,
    rows: region(toH, H, top, content_wh[1], outH, crop, corners),
    cols: region(toW, W, left, content_wh[0], outW, crop, corners),
    rowMix: mix(toH, H, top, content_wh[1], outH),
    colMix: mix(toW, W, left, content_wh[0], outW),
    count: outW * outH,
    outW,
    outH,
  };
}

/** @typedef {ReturnType<typeof makePlan>} Plan */

/**
 * Taps of an axis from a grid of n cells over an input of `size` pixels to `out` pixels over its part
 * from `start` on. `crop`: n is size, and values come from that part alone.
 * @param {number} n
 * @param {number} size
 * @param {number} start
 * @param {number} length
 * @param {number} out
 * @param {boolean} crop
 * @param {boolean} corners
 */
function region(n, size, start, length, out, crop, corners) {
  const last = start + length - 1;
  if (corners) {
    const step = out > 1 ? (length - 1) / (out - 1) : 0;
    if (crop) return tapsAt(out, (i) => i * step + start, start, last);
    const cells = size > 1 ? (n - 1) / (size - 1) : 0;
    return tapsAt(out, (i) => (i * step + start) * cells, 0, n - 1);
  }
  /** @type {(i: number) => number} */
  const position = (i) => (i + 0.5) * (length / out);
  if (crop) return tapsAt(out, (i) => position(i) - 0.5 + start, start, last);
  return tapsAt(out, (i) => (position(i) + start) * (n / size) - 0.5, 0, n - 1);
}

/**
 * Where an axis becomes shorter and its resize antialiases: the first cell of each pixel and the
 * weights of the cells from there on, a triangle of one pixel to each side; they add up to 1.
 * @param {number} n
 * @param {number} size
 * @param {number} start
 * @param {number} length
 * @param {number} out
 * @returns {Panokit.Mix | null}
 */
function shrunk(n, size, start, length, out) {
  const cells = (length / out) * (n / size);
  if (cells <= 1) return null;
  return Array.from({ length: out }, (_, i) => {
    const center = ((i + 0.5) * (length / out) + start) * (n / size);
    const all = [...Array(n).keys()].map((j) => Math.max(1 - Math.abs(j + 0.5 - center) / cells, 0));
    const sum = all.reduce((a, b) => a + b);
    const first = all.findIndex((v) => v > 0);
    return { first, weights: all.slice(first).filter((v) => v > 0).map((v) => v / sum) };
  });
}

/**
 * A plane [h][w] whose rows are mixed to shorter ones.
 * @param {Float32Array} plane
 * @param {number} w
 * @param {Panokit.Mix} mix
 */
function mixColumns(plane, w, mix) {
  const out = new Float32Array((plane.length / w) * mix.length);
  for (let from = 0, at = 0; from < plane.length; from += w) {
    for (const { first, weights } of mix) {
      out[at++] = weights.reduce((sum, weight, j) => sum + weight * plane[from + first + j], 0);
    }
  }
  return out;
}

/**
 * One row of a plane [h][w] mixed of several.
 * @param {Float32Array} plane
 * @param {number} w
 * @param {Panokit.Mix[number]} mix
 */
function mixRow(plane, w, { first, weights }) {
  return Float32Array.from({ length: w }, (_, x) =>
    weights.reduce((sum, weight, j) => sum + weight * plane[(first + j) * w + x], 0)
  );
}

/**
 * Mask probabilities: `row(y)` gives a row [outW] for each of the queries.
 * @param {Heads} heads
 * @param {Query[]} queries
 * @param {Plan} plan
 * @param {Panokit.MaskQueriesSettings} settings
 * @returns {(y: number) => Float32Array[]}
 */
function makeRows({ masks, n, w }, queries, plan, { activation, activate_last: last }) {
  const every = activation === "softmax"; // over all queries, also those that are not kept
  const chosen = every ? [...Array(n).keys()] : queries.map((q) => q.index);
  const wide = chosen.map((q) => planeOf(masks, n, q));
  const { first } = plan;
  if (first) wide.forEach((p, k) => (wide[k] = resizePlane(p, w, first.rows, first.cols)));
  if (!last) activate(wide, activation);
  const { colMix, rowMix } = plan;
  wide.forEach((p, k) => {
    wide[k] = colMix ? mixColumns(p, plan.width, colMix) : widen(p, plan.width, plan.cols);
  });
  return (y) => {
    const rows = wide.map((p) =>
      rowMix ? mixRow(p, plan.outW, rowMix[y]) : rowOf(p, plan.outW, plan.rows, y)
    );
    if (last) activate(rows, activation);
    return every ? queries.map((q) => rows[q.index]) : rows;
  };
}

/**
 * Logits to probabilities, in place.
 * @param {Float32Array[]} planes
 * @param {string} activation
 */
function activate(planes, activation) {
  if (activation === "sigmoid") {
    for (const p of planes) p.forEach((v, i) => (p[i] = sigmoid(v)));
    return;
  }
  for (let i = 0; i < planes[0].length; i++) {
    softmax(planes.length, (k) => planes[k][i], (k, v) => (planes[k][i] = v));
  }
}

/**
 * A pixel belongs to the query with the highest score × probability, the first of equals.
 * @param {Heads} heads
 * @param {Query[]} queries
 * @param {Plan} plan
 * @param {Panokit.MaskQueriesSettings} settings
 */
function bestOwners(heads, queries, plan, settings) {
  const least = f32(settings.mask_threshold);
  const rank = new Int32Array(plan.count).fill(-1);
  const inside = new Uint8Array(plan.count);
  const [owned, held, both] = [0, 1, 2].map(() => new Int32Array(queries.length));
  const row = queries.length ? makeRows(heads, queries, plan, settings) : null;
  for (let y = 0; row && y < plan.outH; y++) {
    const p = row(y);
    for (let x = 0, i = y * plan.outW; x < plan.outW; x++, i++) {
      let [owner, most, isInside] = [-1, 0, false];
      for (let k = 0; k < queries.length; k++) {
        const strength = f32(queries[k].score * p[k][x]);
        const value = settings.weighted ? strength : p[k][x];
        const holds = value > least || (value === least && settings.mask_rule !== "above");
        if (holds) held[k]++;
        if (owner < 0 || strength > most) [owner, most, isInside] = [k, strength, holds];
      }
      rank[i] = owner;
      inside[i] = Number(isInside);
      owned[owner]++;
      both[owner] += inside[i];
    }
  }
  return { rank, inside, owned, held, both, order: queries.map((_, k) => k) };
}

/**
 * Queries by score × mean probability in their mask, the best first, take what is left.
 * @param {Heads} heads
 * @param {Query[]} queries
 * @param {Plan} plan
 * @param {Panokit.MaskQueriesSettings} settings
 * @returns {ReturnType<typeof bestOwners>}
 */
function firstOwners(heads, queries, plan, settings) {
  const least = f32(settings.mask_threshold);
  const masks = queries.map(() => new Uint8Array(plan.count));
  const held = new Int32Array(queries.length);
  const sums = new Float64Array(queries.length);
  const row = queries.length ? makeRows(heads, queries, plan, settings) : null;
  for (let y = 0; row && y < plan.outH; y++) {
    row(y).forEach((p, k) => {
      for (let x = 0; x < plan.outW; x++) {
        if (!(p[x] > least)) continue;
        masks[k][y * plan.outW + x] = 1;
        held[k]++;
        sums[k] += p[x];
      }
    });
  }
  const worth = queries.map((q, k) => f32(q.score * f32(sums[k] / Math.max(held[k], 1))));
  const order = queries.map((_, k) => k).sort((a, b) => worth[b] - worth[a]); // stable
  const rank = new Int32Array(plan.count).fill(-1);
  const owned = new Int32Array(queries.length);
  for (const k of order) {
    const mask = masks[k];
    for (let i = 0; i < rank.length; i++) if (mask[i] && rank[i] < 0) owned[k]++;
    if (!isEnough(owned[k], held[k], settings)) continue;
    for (let i = 0; i < rank.length; i++) if (mask[i] && rank[i] < 0) rank[i] = k;
  }
  return { rank, inside: Uint8Array.from(rank, (k) => Number(k >= 0)), owned, held, both: owned, order };
}

/**
 * Whether a query owns enough of what its mask holds. The rules differ at the limit.
 * @param {number} owned
 * @param {number} held
 * @param {Panokit.MaskQueriesSettings} settings
 */
function isEnough(owned, held, { overlap, overlap_rule: rule }) {
  if (!owned || !held) return false;
  if (rule === "at-least") return owned / held >= overlap;
  if (rule === "ratio-above") return f32(f32(owned) / f32(held)) > overlap;
  return f32(owned) > f32(f32(held) * f32(overlap));
}

/**
 * Ids count from 1 in the owners' order; stuff of a class that is there already joins it.
 * @param {Query[]} queries
 * @param {ReturnType<typeof bestOwners>} owners
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.MaskQueriesSettings} settings
 */
function makeSegments(queries, owners, taxonomy, settings) {
  const painted = settings.painted === "inside" ? owners.both : owners.owned;
  /** @type {Panokit.Decoded[]} */
  const segments = [];
  /** @type {Map<number, Panokit.Decoded>} */
  const stuff = new Map();
  const idOfRank = new Int32Array(queries.length);
  for (const k of owners.order) {
    const { channel, score } = queries[k];
    const area = painted[k];
    if (channel < 0 || !area || !isEnough(owners.owned[k], owners.held[k], settings)) continue;
    const { id: category_id, isthing } = taxonomy[channel];
    if (area < (isthing ? settings.min_thing_area : settings.min_stuff_area)) continue;
    let segment = isthing ? undefined : stuff.get(channel);
    if (segment) {
      segment.area += area;
    } else {
      segment = { id: segments.length + 1, category_id, isthing, area, score, center_yx: null };
      segments.push(segment);
      if (!isthing) stuff.set(channel, segment);
    }
    idOfRank[k] = segment.id;
  }
  return { segments, idOfRank };
}
