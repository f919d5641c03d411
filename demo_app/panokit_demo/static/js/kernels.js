/**
 * What the ports of several contracts share: reading heads, resizing, sigmoid and softmax. No
 * dependencies; browsers and Node alike.
 *
 * Tensors are row-major, channels last, anchors first. A sum, difference, product or quotient of two
 * float32 computed in double and passed to Math.fround is that of float32. Exponentials are computed
 * in double and rounded once.
 */

export const f32 = Math.fround;

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
 * A tensor by name with so many axes, without its batch axis; `data` are float32 values.
 * @param {Panokit.HeadTensors} tensors
 * @param {string} name
 * @param {number} axes
 * @returns {Panokit.FloatTensor}
 */
export function readTensor(tensors, name, axes) {
  if (!tensors[name]) throw new HeadError(name, "is missing");
  const { data } = tensors[name];
  let { shape } = tensors[name];
  if (shape.length === axes + 1) {
    if (shape[0] !== 1) throw new HeadError(name, `expected a batch of 1, got ${shape[0]}`);
    shape = shape.slice(1);
  }
  if (shape.length !== axes) throw new HeadError(name, `has the shape [${shape}]`);
  return { shape, data: data instanceof Float32Array ? data : Float32Array.from(data, Number) };
}

/**
 * Throws unless all values are finite and of at most `limit` in magnitude, or NaN where that means
 * "drop it".
 * @param {string} name
 * @param {Panokit.FloatTensor} tensor
 * @param {number} limit
 * @param {boolean} allowsNaN
 */
export function checkNumbers(name, { shape, data }, limit, allowsNaN = false) {
  const most = f32(limit);
  const bad = data.findIndex((v) => !(Math.abs(v) <= most) && !(allowsNaN && Number.isNaN(v)));
  if (bad < 0) return;
  const position = shape.map(() => 0);
  for (let i = shape.length - 1, rest = bad; i >= 0; i--) {
    position[i] = rest % shape[i];
    rest = Math.floor(rest / shape[i]);
  }
  throw new HeadError(name, `expected finite numbers, got ${data[bad]}`, position);
}

/**
 * 1 / (1 + e^-x) in double; rounded once where it is stored.
 * @param {number} x
 */
export function sigmoid(x) {
  return 1 / (1 + Math.exp(-Math.min(Math.max(x, -700), 700)));
}

/**
 * Softmax of the values that `get` gives, in double; `set` stores them, rounded. NaN makes all NaN.
 * @param {number} n
 * @param {(i: number) => number} get
 * @param {(i: number, p: number) => void} set
 */
export function softmax(n, get, set) {
  let peak = -Infinity;
  for (let i = 0; i < n; i++) peak = Math.max(peak, get(i));
  let total = 0;
  for (let i = 0; i < n; i++) total += Math.exp(get(i) - peak);
  for (let i = 0; i < n; i++) set(i, Math.exp(get(i) - peak) / total);
}

/**
 * Two neighbours of positions on an axis, and the second one's weight; nothing before `first` or
 * after `last` is used.
 * @param {number} n
 * @param {(i: number) => number} position
 * @param {number} first
 * @param {number} last
 * @returns {Panokit.Taps}
 */
export function tapsAt(n, position, first, last) {
  const low = new Int32Array(n);
  const high = new Int32Array(n);
  const f = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const at = Math.min(Math.max(position(i), first), last);
    low[i] = Math.floor(at);
    high[i] = Math.min(low[i] + 1, last);
    f[i] = at - low[i];
  }
  return { low, high, f };
}

/**
 * Taps with half-pixel centres.
 * @param {number} nIn
 * @param {number} nOut
 */
export function axisTaps(nIn, nOut) {
  return tapsAt(nOut, (i) => (i + 0.5) * (nIn / nOut) - 0.5, 0, nIn - 1);
}

/**
 * Taps with the first and last samples of both axes on each other.
 * @param {number} nIn
 * @param {number} nOut
 */
export function alignedTaps(nIn, nOut) {
  const step = nOut > 1 ? (nIn - 1) / (nOut - 1) : 0;
  return tapsAt(nOut, (i) => i * step, 0, nIn - 1);
}

/**
 * Some of an axis's taps, their cells counted from `origin`.
 * @param {Panokit.Taps} taps
 * @param {number} from
 * @param {number} to
 * @param {number} origin
 * @returns {Panokit.Taps}
 */
export function partOf({ low, high, f }, from, to, origin = 0) {
  return {
    low: low.slice(from, to).map((i) => i - origin),
    high: high.slice(from, to).map((i) => i - origin),
    f: f.subarray(from, to),
  };
}

/** @type {(a: number, b: number, f: number) => number} */
const mix = (a, b, f) => f32(a + f32(f32(b - a) * f));

/**
 * A plane [h][w] resized along x: [h][columns of the taps].
 * @param {Float32Array} plane
 * @param {number} w
 * @param {Panokit.Taps} cols
 */
export function widen(plane, w, { low, high, f }) {
  const out = new Float32Array((plane.length / w) * f.length);
  for (let from = 0, at = 0; from < plane.length; from += w) {
    for (let x = 0; x < f.length; x++) out[at++] = mix(plane[from + low[x]], plane[from + high[x]], f[x]);
  }
  return out;
}

/**
 * Row `y` of what `widen` gave, resized along y.
 * @param {Float32Array} wide
 * @param {number} w
 * @param {Panokit.Taps} rows
 * @param {number} y
 */
export function rowOf(wide, w, { low, high, f }, y) {
  const out = new Float32Array(w);
  const [upper, lower] = [low[y] * w, high[y] * w];
  for (let x = 0; x < w; x++) out[x] = mix(wide[upper + x], wide[lower + x], f[y]);
  return out;
}

/**
 * A plane [h][w] resized along x, then along y.
 * @param {Float32Array} plane
 * @param {number} w
 * @param {Panokit.Taps} rows
 * @param {Panokit.Taps} cols
 */
export function resizePlane(plane, w, rows, cols) {
  const [height, width] = [rows.f.length, cols.f.length];
  const wide = widen(plane, w, cols);
  const out = new Float32Array(height * width);
  for (let y = 0; y < height; y++) out.set(rowOf(wide, width, rows, y), y * width);
  return out;
}

/**
 * One channel of values [h][w][n], as a plane [h][w].
 * @param {Float32Array} values
 * @param {number} n
 * @param {number} channel
 */
export function planeOf(values, n, channel) {
  const out = new Float32Array(values.length / n);
  for (let i = 0; i < out.length; i++) out[i] = values[i * n + channel];
  return out;
}

/**
 * Values of the photo's part [h][w] on the whole input [H][W]; `outside` in the padding.
 * @template {Int32Array | Float32Array} T
 * @param {T} values
 * @param {Panokit.Transform} transform
 * @param {number} outside
 * @returns {T}
 */
export function onInput(values, { input_wh: [W, H], content_wh: [w, h], left, top }, outside) {
  const Kind = /** @type {new (length: number) => T} */ (values.constructor);
  const out = new Kind(W * H);
  out.fill(outside);
  for (let y = 0; y < h; y++) out.set(values.subarray(y * w, (y + 1) * w), (top + y) * W + left);
  return out;
}

/**
 * A vector of whole numbers, as an intermediate.
 * @param {ArrayLike<number>} values
 * @returns {Panokit.Detail}
 */
export function wholeVector(values) {
  return { shape: [values.length], data: Int32Array.from(values) };
}
