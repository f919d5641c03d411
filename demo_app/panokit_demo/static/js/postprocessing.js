/**
 * Raw heads to a panoptic map, bit for bit as docs/port.md says. No dependencies; browsers and Node
 * alike. `panokit vectors` and check_vectors.js prove it.
 *
 * Heads are row-major and channels last: semantic [h][w][C] logits, center [h][w] logits, offset
 * [h][w][2] (dy, dx) in input pixels. All arithmetic is float32, each operation rounded: a product,
 * sum or difference of two float32 computed in double and passed to Math.fround is exactly that.
 */

const f32 = Math.fround;
const LIMIT = f32(1e38); // larger magnitudes could overflow when subtracted from one another
/** @type {Record<Panokit.HeadName, number>} */
const HEADS = { semantic: 3, center: 2, offset: 3 };

/** A head that cannot be decoded; `head` and `position` say where. */
export class HeadError extends Error {
  /**
   * @param {string} head
   * @param {string} reason
   * @param {number[]} position
   */
  constructor(head, reason, position = []) {
    super(`head '${head}': ${reason}`);
    this.head = head;
    this.position = position;
  }
}

/**
 * Real float32 values of one head: (q - zero_point)·scale for whole numbers, else as they are.
 * @param {Panokit.Numbers} data
 * @param {Panokit.Quantization | undefined} quantization
 */
export function dequantize(data, quantization) {
  if (!quantization) return data instanceof Float32Array ? data : Float32Array.from(data);
  const scale = f32(quantization.scale);
  const zero = quantization.zero_point ?? 0;
  return Float32Array.from(data).map((q) => (q - zero) * scale);
}

/**
 * Heads by name from tensors `{shape, data}` with or without a batch axis; checks every value.
 * @param {Record<string, Panokit.NumberTensor>} tensors
 * @param {Record<string, Panokit.Quantization>} quantization
 * @returns {Panokit.Heads}
 */
export function makeHeads(tensors, quantization = {}) {
  const heads = /** @type {Panokit.Heads} */ ({});
  for (const name of /** @type {Panokit.HeadName[]} */ (Object.keys(HEADS))) {
    if (!tensors[name]) throw new HeadError(name, "is missing");
    let { shape, data } = tensors[name];
    if (shape.length === 4 && shape[0] === 1) shape = shape.slice(1);
    if (name === "center" && shape.length === 3 && shape[2] === 1) shape = shape.slice(0, 2);
    if (shape.length !== HEADS[name]) throw new HeadError(name, `has the shape [${shape}]`);
    const values = dequantize(data, quantization[name]);
    const bad = values.findIndex((v) => !(Math.abs(v) <= LIMIT)); // NaN compares false: bad too
    if (bad >= 0) {
      /** @type {number[]} */
      const position = [];
      for (let i = shape.length - 1, rest = bad; i >= 0; i--) {
        position.unshift(rest % shape[i]);
        rest = Math.floor(rest / shape[i]);
      }
      throw new HeadError(name, `expected finite numbers, got ${values[bad]}`, position);
    }
    heads[name] = values;
    if (name === "semantic") [heads.h, heads.w, heads.channels] = shape;
    const last = { semantic: heads.channels, center: 1, offset: 2 }[name];
    if (shape[0] !== heads.h || shape[1] !== heads.w || values.length !== heads.h * heads.w * last) {
      throw new HeadError(name, `has the shape [${shape}]`);
    }
  }
  return heads;
}

/**
 * Half-pixel bilinear taps of one axis: two inputs and the second one's weight.
 * @param {number} nIn
 * @param {number} nOut
 */
function axisTaps(nIn, nOut) {
  const low = new Int32Array(nOut);
  const high = new Int32Array(nOut);
  const f = new Float32Array(nOut);
  for (let i = 0; i < nOut; i++) {
    const at = Math.min(Math.max((i + 0.5) * (nIn / nOut) - 0.5, 0), nIn - 1);
    low[i] = Math.floor(at);
    high[i] = Math.min(low[i] + 1, nIn - 1);
    f[i] = at - low[i];
  }
  return { low, high, f };
}

/** @type {(a: number, b: number, f: number) => number} */
const mix = (a, b, f) => f32(a + f32(f32(b - a) * f));

/**
 * Rows of values [h][w][n] resized to H×W: `row(y)` gives [W][n], along x first, then y.
 * @param {Float32Array} values
 * @param {number} h
 * @param {number} w
 * @param {number} n
 * @param {number} H
 * @param {number} W
 * @returns {(y: number) => Float32Array}
 */
function makeResizer(values, h, w, n, H, W) {
  if (h === H && w === W) return (y) => values.subarray(y * w * n, (y + 1) * w * n);
  const xs = axisTaps(w, W);
  const ys = axisTaps(h, H);
  const wide = new Float32Array(h * W * n);
  for (let y = 0, at = 0; y < h; y++) {
    for (let x = 0; x < W; x++) {
      const left = (y * w + xs.low[x]) * n;
      const right = (y * w + xs.high[x]) * n;
      for (let c = 0; c < n; c++) wide[at++] = mix(values[left + c], values[right + c], xs.f[x]);
    }
  }
  return (y) => {
    const out = new Float32Array(W * n);
    const upper = ys.low[y] * W * n;
    const lower = ys.high[y] * W * n;
    for (let i = 0; i < out.length; i++) out[i] = mix(wide[upper + i], wide[lower + i], ys.f[y]);
    return out;
  };
}

/**
 * One axis of a grid of n cells: centres in input pixels, and the cells [from, to) on the photo.
 * @param {number} n
 * @param {number} size
 * @param {number} start
 * @param {number} length
 * @returns {Panokit.Axis}
 */
function axis(n, size, start, length) {
  const step = f32(size / n);
  const centers = Float32Array.from({ length: n }, (_, i) => f32(i + 0.5) * step);
  /** @type {(i: number) => boolean} */
  const inside = (i) =>
    (2 * i + 1) * size >= 2 * n * start && (2 * i + 1) * size < 2 * n * (start + length);
  let from = 0;
  while (from < n && !inside(from)) from++;
  let to = from;
  while (to < n && inside(to)) to++;
  return { centers, from, to };
}

/**
 * Both axes of an h×w grid over the input of a transform record.
 * @param {Panokit.Transform} transform
 * @param {number} h
 * @param {number} w
 * @returns {Panokit.Grid}
 */
export function makeGrid({ input_wh: [W, H], content_wh: [cw, ch], ...transform }, h, w) {
  return { h, w, y: axis(h, H, transform.top, ch), x: axis(w, W, transform.left, cw) };
}

/**
 * Decode heads. `taxonomy` is an array of `{id, isthing}`, one per channel; `transform` a transform
 * record; `config` the manifest's postprocessing parameters. Gives `ids` (Int32Array [H][W], 0 =
 * void), `shape`, `segments` and the intermediates; `explain` adds the resized heads (large).
 * @param {Panokit.Heads} heads
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.Transform} transform
 * @param {Panokit.Postprocessing} config
 * @param {boolean} explain
 * @returns {Panokit.Decoding}
 */
export function postprocess(heads, taxonomy, transform, config, explain = false) {
  if (heads.channels !== taxonomy.length) {
    throw new HeadError("semantic", `expected ${taxonomy.length} channels, got ${heads.channels}`);
  }
  const cells = makeGrid(transform, heads.h, heads.w);
  const [W, H] = transform.input_wh;
  const grid = config.grid === "head" ? cells : makeGrid(transform, H, W);
  /** @type {(n: number) => Float32Array} */
  const plane = (n) => new Float32Array(grid.h * grid.w * n);
  const resized = explain ? { semantic: plane(heads.channels), offset: plane(2) } : null;
  const classes = classify(heads, grid, resized);
  const scores = Float32Array.from(heads.center, sigmoid);
  const centers = findCenters(scores, cells, config);
  const votes = vote(heads, grid, classes.channel, taxonomy, centers, resized);
  const found = assemble(grid, classes, votes, centers, taxonomy, config);
  const details = { class_map: classes.channel, scores, centers, votes, resized };
  return { shape: [grid.h, grid.w], ...found, ...details };
}

/** @param {number} x */
function sigmoid(x) {
  return 1 / (1 + Math.exp(-Math.min(Math.max(x, -700), 700))); // rounded once, when it is stored
}

/**
 * First channel with the highest logit (-1 off the photo), that logit, and the sum of exponents.
 * @param {Panokit.Heads} heads
 * @param {Panokit.Grid} grid
 * @param {Panokit.Resized | null} resized
 * @returns {Panokit.Classes}
 */
function classify({ semantic, h, w, channels: n }, grid, resized) {
  const count = grid.h * grid.w;
  const channel = new Int32Array(count).fill(-1);
  const peak = new Float32Array(count);
  const total = new Float64Array(count);
  const row = makeResizer(semantic, h, w, n, grid.h, grid.w);
  for (let y = resized ? 0 : grid.y.from; y < (resized ? grid.h : grid.y.to); y++) {
    const logits = row(y);
    if (resized) resized.semantic.set(logits, y * grid.w * n);
    if (y < grid.y.from || y >= grid.y.to) continue;
    for (let x = grid.x.from; x < grid.x.to; x++) {
      const at = x * n;
      let best = 0;
      for (let c = 1; c < n; c++) if (logits[at + c] > logits[at + best]) best = c;
      let sum = 0;
      for (let c = 0; c < n; c++) sum += Math.exp(logits[at + c] - logits[at + best]);
      const i = y * grid.w + x;
      channel[i] = best;
      peak[i] = logits[at + best];
      total[i] = sum;
    }
  }
  return { channel, peak, total, row };
}

/**
 * Centres, best first: cell (row, column), its score and its position in input pixels.
 * @param {Float32Array} scores
 * @param {Panokit.Grid} cells
 * @param {Panokit.Postprocessing} config
 */
function findCenters(scores, cells, { threshold, window, top_k: most }) {
  const r = (window - 1) / 2;
  const least = f32(threshold);
  /** @type {Panokit.Center[]} */
  const found = [];
  for (let y = cells.y.from; y < cells.y.to; y++) {
    for (let x = cells.x.from; x < cells.x.to; x++) {
      const i = y * cells.w + x;
      if (scores[i] >= least && isPeak(scores, cells, y, x, r)) {
        found.push({ cell: [y, x], score: scores[i], y: cells.y.centers[y], x: cells.x.centers[x] });
      }
    }
  }
  found.sort((a, b) => b.score - a.score); // stable: equals stay in raster order
  return found.slice(0, most);
}

/**
 * @param {Float32Array} scores
 * @param {Panokit.Grid} cells
 * @param {number} y
 * @param {number} x
 * @param {number} r
 */
function isPeak(scores, { h, w }, y, x, r) {
  const i = y * w + x;
  for (let v = Math.max(0, y - r); v <= Math.min(h - 1, y + r); v++) {
    for (let u = Math.max(0, x - r); u <= Math.min(w - 1, x + r); u++) {
      const j = v * w + u;
      if (scores[j] > scores[i] || (scores[j] === scores[i] && j < i)) return false;
    }
  }
  return true;
}

/**
 * For every thing pixel the rank of the centre nearest to its position plus offset, else -1.
 * @param {Panokit.Heads} heads
 * @param {Panokit.Grid} grid
 * @param {Int32Array} channel
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.Center[]} centers
 * @param {Panokit.Resized | null} resized
 */
function vote({ offset, h, w }, grid, channel, taxonomy, centers, resized) {
  const votes = new Int32Array(grid.h * grid.w).fill(-1);
  const row = makeResizer(offset, h, w, 2, grid.h, grid.w);
  const centerY = Float32Array.from(centers, (c) => c.y);
  const centerX = Float32Array.from(centers, (c) => c.x);
  for (let y = 0; y < grid.h; y++) {
    const shift = row(y);
    if (resized) resized.offset.set(shift, y * grid.w * 2);
    for (let x = 0; x < grid.w && centers.length; x++) {
      const i = y * grid.w + x;
      if (channel[i] < 0 || !taxonomy[channel[i]].isthing) continue;
      const py = f32(grid.y.centers[y] + shift[2 * x]);
      const px = f32(grid.x.centers[x] + shift[2 * x + 1]);
      let best = Infinity;
      votes[i] = 0; // distances may all overflow to infinity: then the first
      for (let k = 0; k < centerY.length; k++) {
        const dy = f32(py - centerY[k]);
        const dx = f32(px - centerX[k]);
        const distance = f32(f32(dy * dy) + f32(dx * dx));
        if (distance < best) {
          best = distance;
          votes[i] = k;
        }
      }
    }
  }
  return votes;
}

/**
 * Ids and segments: things in centre order, then stuff by category id.
 * @param {Panokit.Grid} grid
 * @param {Panokit.Classes} classes
 * @param {Int32Array} votes
 * @param {Panokit.Center[]} centers
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.Postprocessing} config
 */
function assemble(grid, classes, votes, centers, taxonomy, config) {
  const n = taxonomy.length;
  const { channel } = classes;
  const counts = centers.map(() => new Int32Array(n));
  const areas = new Int32Array(n);
  channel.forEach((c, i) => {
    if (votes[i] >= 0) counts[votes[i]][c]++;
    else if (c >= 0 && !taxonomy[c].isthing) areas[c]++;
  });
  const byId = [...taxonomy.keys()].sort((a, b) => taxonomy[a].id - taxonomy[b].id);
  const top = counts.map((of) => byId.reduce((best, c) => (of[c] > of[best] ? c : best)));
  const sums = probabilitySums(grid, classes, votes, top, n);
  /** @type {Panokit.Decoded[]} */
  const segments = [];
  const idOfRank = new Int32Array(centers.length);
  const idOfChannel = new Int32Array(n);
  /** @type {(c: number, area: number, score: number, center_yx: Panokit.Pair | null) => number} */
  const add = (c, area, score, center_yx) => {
    const { id: category_id, isthing } = taxonomy[c];
    return segments.push({ id: segments.length + 1, category_id, isthing, area, score, center_yx });
  };
  centers.forEach((center, k) => {
    const area = counts[k].reduce((a, b) => a + b, 0);
    if (area === 0 || area < config.min_thing_area) return;
    const score = (center.score * sums.rank[k]) / area;
    if (score < (config.min_thing_score ?? 0)) return;
    idOfRank[k] = add(top[k], area, score, [center.y, center.x]);
  });
  for (const c of byId) {
    if (areas[c] === 0 || areas[c] < config.min_stuff_area) continue;
    idOfChannel[c] = add(c, areas[c], sums.channel[c] / areas[c], null);
  }
  const ids = channel.map((c, i) => (votes[i] >= 0 ? idOfRank[votes[i]] : (idOfChannel[c] ?? 0)));
  return { ids, segments };
}

/**
 * Sums of the segments' class probabilities, by centre rank and by channel of stuff.
 * @param {Panokit.Grid} grid
 * @param {Panokit.Classes} classes
 * @param {Int32Array} votes
 * @param {number[]} top
 * @param {number} n
 */
function probabilitySums(grid, { channel, peak, total, row }, votes, top, n) {
  const sums = { rank: new Float64Array(top.length), channel: new Float64Array(n) };
  for (let y = grid.y.from; y < grid.y.to; y++) {
    let logits = null; // of this row, made only where a voter differs from its instance's class
    for (let x = grid.x.from; x < grid.x.to; x++) {
      const i = y * grid.w + x;
      const k = votes[i];
      if (k < 0) {
        sums.channel[channel[i]] += 1 / total[i];
      } else if (channel[i] === top[k]) {
        sums.rank[k] += 1 / total[i];
      } else {
        logits ??= row(y);
        sums.rank[k] += Math.exp(logits[x * n + top[k]] - peak[i]) / total[i];
      }
    }
  }
  return sums;
}

/**
 * The ids on the photo, Int32Array [h0][w0]: the pixel that holds each photo pixel's centre.
 * @param {Int32Array} ids
 * @param {Panokit.Pair} shape
 * @param {Panokit.Transform} transform
 */
export function idsOnPhoto(ids, [h, w], transform) {
  const [w0, h0] = transform.photo_wh;
  const [W, H] = transform.input_wh;
  const [cw, ch] = transform.content_wh;
  /** @type {(n0: number, content: number, start: number, size: number, n: number) => Int32Array} */
  const along = (n0, content, start, size, n) =>
    Int32Array.from({ length: n0 }, (_, i) => {
      const at = start + Math.floor(((2 * i + 1) * content) / (2 * n0));
      return n === size ? at : Math.floor(((2 * at + 1) * n) / (2 * size));
    });
  const rows = along(h0, ch, transform.top, H, h);
  const cols = along(w0, cw, transform.left, W, w);
  const out = new Int32Array(w0 * h0);
  for (let y = 0, i = 0; y < h0; y++) {
    for (let x = 0; x < w0; x++) out[i++] = ids[rows[y] * w + cols[x]];
  }
  return out;
}
