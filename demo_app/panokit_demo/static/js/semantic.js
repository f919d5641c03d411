/**
 * The contract `semantic`, bit for bit as docs/contracts.md says: logits or probabilities [h][w][C],
 * or labels [h][w], to a panoptic map. `panokit vectors` and check_vectors.js prove it.
 */

import {
  alignedTaps, axisTaps, checkNumbers, HeadError, onInput, partOf, planeOf, readTensor, rowOf, widen,
} from "./kernels.js";

const LIMIT = 1e38;

/**
 * Decode heads: each class in the photo is one segment. Arguments and result as of
 * `decodeMaskQueries`.
 * @param {Panokit.HeadTensors} tensors
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.Transform} transform
 * @param {Panokit.SemanticSettings} settings
 * @returns {Panokit.ContractDecoding}
 */
export function decodeSemantic(tensors, taxonomy, transform, settings) {
  const { column, channel, probability, below } = findClasses(tensors, taxonomy, transform, settings);
  const { areas, sums } = measure(channel, probability, taxonomy.length);
  /** @type {Panokit.Decoded[]} */
  const segments = [];
  const idOfChannel = new Int32Array(taxonomy.length);
  for (const c of byCategory(taxonomy)) {
    const area = areas[c];
    if (!area || area < settings.min_area) continue;
    idOfChannel[c] = segments.length + 1;
    const { id: category_id, isthing } = taxonomy[c];
    segments.push({ id: idOfChannel[c], category_id, isthing, area, score: sums[c] / area, center_yx: null });
  }
  /** @type {Map<number, number>} */
  const unmapped = new Map();
  column.forEach((c, i) => channel[i] < 0 && !below[i] && unmapped.set(c, (unmapped.get(c) ?? 0) + 1));
  const pairs = [...unmapped].sort(([a], [b]) => a - b);
  const [W, H] = transform.input_wh;
  /** @type {Panokit.Pair} */
  const shape = [H, W];
  const ids = channel.map((c) => (c < 0 ? 0 : idOfChannel[c]));
  return {
    ids: onInput(ids, transform, 0),
    shape,
    onPhoto: false,
    segments,
    details: {
      class_map: { shape, data: onInput(channel, transform, -1) },
      columns: { shape, data: onInput(column, transform, -1) },
      probability: { shape, data: onInput(probability, transform, 0) },
      unmapped: { shape: [pairs.length, 2], data: Int32Array.from(pairs.flat()) },
    },
  };
}

/**
 * Of each pixel of the photo's part of the input: the class as the network counts (`column`) and as
 * the taxonomy does (`channel`, -1 = none), its probability, and whether its value is below the
 * threshold, which makes it void.
 * @param {Panokit.HeadTensors} tensors
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.Transform} transform
 * @param {Panokit.SemanticSettings} settings
 */
export function findClasses(tensors, taxonomy, transform, settings) {
  const table = settings.columns.length ? settings.columns : [...taxonomy.keys()];
  const isLabels = settings.input === "labels";
  const { column, probability, below } = isLabels
    ? readLabels(tensors, transform, settings)
    : classify(tensors, table.length, transform, settings);
  const channel = column.map((c, i) => (c >= 0 && c < table.length && !below[i] ? table[c] : -1));
  return { column, channel, probability, below };
}

/**
 * The nearest label of each pixel, in whole numbers so that no rounding can differ.
 * @param {Panokit.HeadTensors} tensors
 * @param {Panokit.Transform} transform
 * @param {Panokit.SemanticSettings} settings
 */
function readLabels({ semantic }, { input_wh: [W, H], content_wh: [cw, ch], left, top }, settings) {
  if (!semantic) throw new HeadError("semantic", "is missing");
  let { shape } = semantic;
  if (shape.length >= 3 && shape[shape.length - 1] === 1) shape = shape.slice(0, -1);
  if (shape.length === 3 && shape[0] === 1) shape = shape.slice(1);
  const [h, w] = shape;
  if (shape.length !== 2 || !h || !w) throw new HeadError("semantic", `has the shape [${shape}]`);
  const given = /** @type {ArrayLike<number | bigint>} */ (semantic.data);
  const labels = Float64Array.from({ length: given.length }, (_, i) => Math.floor(Number(given[i]) + 0.5));
  const bad = labels.findIndex((v) => !(v >= -(2 ** 31) && v < 2 ** 31));
  if (bad >= 0) {
    throw new HeadError("semantic", "expected labels of 32 bits", [Math.floor(bad / w), bad % w]);
  }
  const rows = nearestCells(h, H, settings.align_corners);
  const cols = nearestCells(w, W, settings.align_corners);
  const column = new Int32Array(cw * ch);
  for (let y = 0; y < ch; y++) {
    for (let x = 0; x < cw; x++) column[y * cw + x] = labels[rows[top + y] * w + cols[left + x]];
  }
  return { column, probability: new Float32Array(cw * ch).fill(1), below: new Uint8Array(cw * ch) };
}

/**
 * For each of nOut pixels the cell that holds its centre, or with aligned corners the nearest one.
 * @param {number} nIn
 * @param {number} nOut
 * @param {boolean} aligned
 */
function nearestCells(nIn, nOut, aligned) {
  const steps = Math.max(1, nOut - 1);
  return Int32Array.from({ length: nOut }, (_, i) =>
    aligned
      ? Math.floor((2 * i * (nIn - 1) + steps) / (2 * steps))
      : Math.floor(((2 * i + 1) * nIn) / (2 * nOut))
  );
}

/**
 * The highest of the resized values, the lowest column of equals.
 * @param {Panokit.HeadTensors} tensors
 * @param {number} count
 * @param {Panokit.Transform} transform
 * @param {Panokit.SemanticSettings} settings
 */
function classify(tensors, count, { input_wh: [W, H], content_wh: [cw, ch], left, top }, settings) {
  const head = readTensor(tensors, "semantic", 3);
  const [h, w, n] = head.shape;
  if (!h || !w || !n) throw new HeadError("semantic", `has the shape [${head.shape}]`);
  checkNumbers("semantic", head, LIMIT);
  if (n !== count) throw new HeadError("semantic", `expected ${count} classes, got ${n}`);
  const taps = settings.align_corners ? alignedTaps : axisTaps;
  const same = h === H && w === W; // then every tap is a cell of its own
  const rows = partOf((same ? axisTaps : taps)(h, H), top, top + ch);
  const cols = partOf((same ? axisTaps : taps)(w, W), left, left + cw);
  const wide = Array.from({ length: n }, (_, c) => widen(planeOf(head.data, n, c), w, cols));
  const column = new Int32Array(cw * ch);
  const probability = new Float32Array(cw * ch);
  const below = new Uint8Array(cw * ch);
  const least = Math.fround(settings.threshold ?? -Infinity);
  for (let y = 0; y < ch; y++) {
    const values = wide.map((plane) => rowOf(plane, cw, rows, y));
    for (let x = 0; x < cw; x++) {
      let best = 0;
      for (let c = 1; c < n; c++) if (values[c][x] > values[best][x]) best = c;
      const peak = values[best][x];
      let total = 0;
      for (let c = 0; c < n; c++) total += Math.exp(values[c][x] - peak);
      column[y * cw + x] = best;
      below[y * cw + x] = Number(peak < least);
      probability[y * cw + x] = settings.input === "probabilities" ? peak : 1 / total;
    }
  }
  return { column, probability, below };
}

/**
 * Pixels of each channel, and the sum of their probabilities.
 * @param {Int32Array} channel
 * @param {Float32Array} probability
 * @param {number} count
 */
export function measure(channel, probability, count) {
  const areas = new Int32Array(count);
  const sums = new Float64Array(count);
  channel.forEach((c, i) => {
    if (c < 0) return;
    areas[c]++;
    sums[c] += probability[i];
  });
  return { areas, sums };
}

/**
 * Channels in the order of their category ids.
 * @param {Panokit.Class[]} taxonomy
 */
export function byCategory(taxonomy) {
  return [...taxonomy.keys()].sort((a, b) => taxonomy[a].id - taxonomy[b].id);
}
