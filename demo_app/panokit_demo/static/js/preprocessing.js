/**
 * From an upright sRGB photo to the network's input, bit for bit as docs/port.md says: letterbox
 * and Pillow's BILINEAR (a triangle filter, antialiased, fixed point). No dependencies; browsers
 * and Node alike. Transform records have the names that Python writes.
 */

const PRECISION = 22; // bits of a coefficient's fraction: 32 - 8 of a pixel - 2 of headroom
const HALF = 2 ** (PRECISION - 1);

/**
 * Where a photo lies in an input: scale to fit, centred, the odd pixel right and below.
 * @param {Panokit.Pair} photoWh
 * @param {Panokit.Pair} inputWh
 * @returns {Panokit.Transform}
 */
export function letterbox([w0, h0], [w, h]) {
  /** @type {(a: number, b: number) => number} */
  const round = (a, b) => Math.floor((2 * a + b) / (2 * b)); // round half up of a / b
  const content = w * h0 <= h * w0 ? [w, round(h0 * w, w0)] : [round(w0 * h, h0), h];
  const [cw, ch] = content.map((side) => Math.max(1, side));
  return {
    photo_wh: [w0, h0],
    input_wh: [w, h],
    content_wh: [cw, ch],
    left: Math.floor((w - cw) / 2),
    top: Math.floor((h - ch) / 2),
    scale: Math.min(w / w0, h / h0),
    orientation: 1,
    color: "srgb",
    kernel: "pillow-bilinear",
  };
}

/**
 * The input, RGB [H][W][3], of a photo's pixels with 3 or 4 channels (alpha is left out).
 * @param {Panokit.Bytes} pixels
 * @param {Panokit.Pair} photoWh
 * @param {Panokit.Pair} inputWh
 */
export function preprocess(pixels, photoWh, inputWh) {
  const channels = pixels.length / (photoWh[0] * photoWh[1]);
  if (channels !== 3 && channels !== 4) {
    throw new Error(`preprocess: ${pixels.length} values are not ${photoWh} RGB or RGBA pixels`);
  }
  const transform = letterbox(photoWh, inputWh);
  const [cw, ch] = transform.content_wh;
  const content = resize(pixels, photoWh, channels, [cw, ch]);
  const input = new Uint8Array(inputWh[0] * inputWh[1] * 3);
  for (let y = 0; y < ch; y++) {
    const row = content.subarray(y * cw * 3, (y + 1) * cw * 3);
    input.set(row, ((y + transform.top) * inputWh[0] + transform.left) * 3);
  }
  return { input, transform };
}

/**
 * Pixels resized as Pillow's BILINEAR does; RGB comes out whatever comes in.
 * @param {Panokit.Bytes} pixels
 * @param {Panokit.Pair} size
 * @param {number} channels
 * @param {Panokit.Pair} to
 */
export function resize(pixels, [w0, h0], channels, [w, h]) {
  return resizeHeight(resizeWidth(pixels, w0, h0, channels, w), w, h0, h);
}

/**
 * @param {Panokit.Bytes} pixels
 * @param {number} w0
 * @param {number} h0
 * @param {number} channels
 * @param {number} w
 * @returns {Panokit.Bytes}
 */
function resizeWidth(pixels, w0, h0, channels, w) {
  if (w === w0 && channels === 3) return pixels;
  const out = new Uint8Array(w * h0 * 3);
  const { starts, counts, weights, most } = coefficients(w0, w);
  for (let y = 0, to = 0; y < h0; y++) {
    for (let x = 0; x < w; x++) {
      let at = (y * w0 + starts[x]) * channels;
      let [r, g, b] = [HALF, HALF, HALF];
      for (let i = x * most; i < x * most + counts[x]; i++, at += channels) {
        // Whole numbers below 2^31: 255·2^22 and a half.
        r = (r + pixels[at] * weights[i]) | 0;
        g = (g + pixels[at + 1] * weights[i]) | 0;
        b = (b + pixels[at + 2] * weights[i]) | 0;
      }
      out[to++] = clip(r);
      out[to++] = clip(g);
      out[to++] = clip(b);
    }
  }
  return out;
}

/**
 * @param {Panokit.Bytes} pixels
 * @param {number} w
 * @param {number} h0
 * @param {number} h
 * @returns {Panokit.Bytes}
 */
function resizeHeight(pixels, w, h0, h) {
  if (h === h0) return pixels;
  const row = w * 3;
  const out = new Uint8Array(row * h);
  const { starts, counts, weights, most } = coefficients(h0, h);
  for (let y = 0; y < h; y++) {
    for (let i = 0; i < row; i++) {
      let at = starts[y] * row + i;
      let sum = HALF;
      for (let k = y * most; k < y * most + counts[y]; k++, at += row) {
        sum = (sum + pixels[at] * weights[k]) | 0;
      }
      out[y * row + i] = clip(sum);
    }
  }
  return out;
}

/** @param {number} sum */
function clip(sum) {
  return Math.min(sum >> PRECISION, 255);
}

/**
 * For each output the first input, the number of inputs and their fixed-point weights.
 * @param {number} nIn
 * @param {number} nOut
 */
function coefficients(nIn, nOut) {
  const scale = nIn / nOut;
  const widening = Math.max(scale, 1); // the triangle widens when it shrinks
  const most = Math.ceil(widening) * 2 + 1;
  const starts = new Int32Array(nOut);
  const counts = new Int32Array(nOut);
  const weights = new Int32Array(nOut * most);
  for (let i = 0; i < nOut; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - widening + 0.5));
    const end = Math.min(nIn, Math.trunc(center + widening + 0.5));
    /** @type {number[]} */
    const real = [];
    let total = 0;
    for (let x = start; x < end; x++) {
      const weight = Math.max(0, 1 - Math.abs((x - center + 0.5) * (1 / widening)));
      real.push(weight);
      total += weight;
    }
    real.forEach((weight, k) => {
      weights[i * most + k] = Math.trunc(0.5 + (weight / total) * 2 ** PRECISION);
    });
    starts[i] = start;
    counts[i] = real.length;
  }
  return { starts, counts, weights, most };
}

/**
 * The input tensor of a quantised model: round(value / scale) half to even, + zero point.
 * @param {Panokit.Numbers} image
 * @param {Panokit.InputQuantization} quantization
 */
export function quantizeImage(image, { dtype, scale, zero_point: zero }) {
  /** @type {Record<string, [Panokit.WholeNumbers, number, number]>} */
  const types = {
    int8: [Int8Array, -128, 127], uint8: [Uint8Array, 0, 255], int16: [Int16Array, -32768, 32767],
  };
  const [Type, least, most] = types[dtype];
  const step = Math.fround(scale);
  /** @type {(value: number) => number} */
  const quantize = (value) => {
    const real = Math.fround(value / step);
    let whole = Math.floor(real);
    if (real - whole > 0.5 || (real - whole === 0.5 && whole % 2)) whole += 1;
    return Math.min(most, Math.max(least, whole + zero));
  };
  if (!(image instanceof Uint8Array)) return Type.from(image, quantize);
  const table = Type.from({ length: 256 }, (_, value) => quantize(value)); // of every value of a byte
  const out = new Type(image.length);
  for (let i = 0; i < out.length; i++) out[i] = table[image[i]];
  return out;
}
