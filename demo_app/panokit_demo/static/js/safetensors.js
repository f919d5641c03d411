/**
 * safetensors, read and written: the format of golden vectors and device dumps.
 *
 * A file is a little-endian u64 header length, the header as JSON, and the tensors' bytes
 * (https://github.com/huggingface/safetensors#format). Works in browsers and in Node alike.
 *
 * A tensor is `{dtype, shape, data}`: `dtype` as in the file ("F32", "I8", ...), `data` a typed
 * array in row-major order. Half floats are read as Float32Array and written from one.
 */

/** @type {Record<string, { new (buffer: ArrayBuffer): Panokit.Stored, BYTES_PER_ELEMENT: number }>} */
const TYPES = {
  F64: Float64Array, F32: Float32Array, I64: BigInt64Array, U64: BigUint64Array, I32: Int32Array,
  U32: Uint32Array, I16: Int16Array, U16: Uint16Array, I8: Int8Array, U8: Uint8Array,
  BOOL: Uint8Array, F16: Uint16Array,
};

/** @typedef {{ dtype: string, shape: number[], data_offsets: Panokit.Pair }} Entry */

/**
 * Tensors and metadata of a file; throws on anything malformed.
 * @param {ArrayBuffer | Uint8Array} file
 * @returns {{ tensors: Record<string, Panokit.Tensor>, metadata: Record<string, string> }}
 */
export function readSafetensors(file) {
  // A plain view, also of Node's Buffer, whose slice() would not copy.
  const bytes = file instanceof Uint8Array
    ? new Uint8Array(file.buffer, file.byteOffset, file.length)
    : new Uint8Array(file);
  if (bytes.length < 8) throw new Error("safetensors: the file is shorter than its header length");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > bytes.length - 8) throw new Error("safetensors: the header is longer than the file");
  /** @type {Record<string, Entry> & { __metadata__?: Record<string, string> }} */
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const body = bytes.subarray(8 + length);
  /** @type {Record<string, Panokit.Tensor>} */
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name !== "__metadata__") tensors[name] = readTensor(name, /** @type {Entry} */ (entry), body);
  }
  return { tensors, metadata: header.__metadata__ ?? {} };
}

/**
 * @param {string} name
 * @param {Entry} entry
 * @param {Uint8Array} body
 * @returns {Panokit.Tensor}
 */
function readTensor(name, { dtype, shape, data_offsets: [start, end] }, body) {
  const Type = TYPES[dtype];
  if (!Type) throw new Error(`safetensors: tensor ${name} has the unknown type ${dtype}`);
  const count = shape.reduce((a, b) => a * b, 1);
  const whole = [start, end, ...shape].every((v) => Number.isSafeInteger(v) && v >= 0);
  if (!whole || end > body.length || end - start !== count * Type.BYTES_PER_ELEMENT) {
    throw new Error(`safetensors: tensor ${name} does not fit the file`);
  }
  const data = new Type(body.slice(start, end).buffer); // a copy: offsets need not be aligned
  return dtype === "F16"
    ? { dtype, shape, data: Float32Array.from(/** @type {Uint16Array} */ (data), halfToNumber) }
    : { dtype, shape, data };
}

/**
 * A file from `{name: {dtype, shape, data}}` and metadata (texts by name).
 * @param {Record<string, Panokit.Tensor>} tensors
 * @param {Record<string, string>} metadata
 */
export function writeSafetensors(tensors, metadata = {}) {
  /** @type {Record<string, object>} */
  const header = Object.keys(metadata).length ? { __metadata__: metadata } : {};
  // Wide types first, so that every tensor lies aligned; then by name, so that files are equal.
  const names = Object.keys(tensors).sort(
    (a, b) => width(tensors[b]) - width(tensors[a]) || (a < b ? -1 : 1)
  );
  const parts = [];
  let end = 0;
  for (const name of names) {
    const { dtype, shape, data } = tensors[name];
    const stored = dtype === "F16"
      ? Uint16Array.from(/** @type {Float32Array} */ (data), numberToHalf)
      : data;
    if (!(stored instanceof (TYPES[dtype] ?? Array))) {
      throw new Error(`safetensors: tensor ${name}: ${dtype} does not fit its array`);
    }
    if (shape.reduce((a, b) => a * b, 1) !== stored.length) {
      throw new Error(`safetensors: tensor ${name}: ${stored.length} values are not [${shape}]`);
    }
    header[name] = { dtype, shape, data_offsets: [end, end + stored.byteLength] };
    parts.push(new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength));
    end += stored.byteLength;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(text.length / 8) * 8;
  const file = new Uint8Array(8 + padded + end).fill(32, 8, 8 + padded);
  new DataView(file.buffer).setBigUint64(0, BigInt(padded), true);
  file.set(text, 8);
  let at = 8 + padded;
  for (const part of parts) {
    file.set(part, at);
    at += part.length;
  }
  return file;
}

/** @param {{ dtype: string }} tensor */
function width({ dtype }) {
  return TYPES[dtype]?.BYTES_PER_ELEMENT ?? 0;
}

/**
 * The number that an IEEE half stands for, from its 16 bits.
 * @param {number} bits
 */
export function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * The 16 bits of the half nearest to a number, ties to even.
 * @param {number} value
 */
export function numberToHalf(value) {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(size)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(size)), -14);
  const steps = size / 2 ** (exponent - 10); // exact: a power of two
  const low = Math.floor(steps);
  const rest = steps - low;
  const rounded = rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
  // A subnormal has no implicit bit; a carry out of the fraction moves the exponent up by itself.
  return sign | (rounded + (exponent + 14) * 1024);
}
