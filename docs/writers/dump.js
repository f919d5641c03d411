// Write a Panokit device dump (safetensors) in JavaScript: browsers, Node, React Native.
//
// const bytes = encodeDump({ semantic: { dtype: 'I8', shape: [80, 80, 26], data: int8Array } },
//                          { runtime: 'litert-web', device: navigator.userAgent });
// await fs.writeFile('photo.safetensors', bytes);   // or download it as a Blob

/**
 * dtype: U8, I8, I16, I32, F16 (data as Uint16Array) or F32. data: a typed array, row by row.
 *
 * @typedef {Uint8Array | Int8Array | Int16Array | Uint16Array | Int32Array | Float32Array} Data
 * @param {Record<string, { dtype: string, shape: number[], data: Data }>} tensors
 * @param {Record<string, string>} metadata
 */
export function encodeDump(tensors, metadata = {}) {
  /** @type {Record<string, any>} */
  const header = { __metadata__: { format: 'panokit-dump/1' } };
  for (const [key, value] of Object.entries(metadata)) header.__metadata__[key] = String(value);
  const names = Object.keys(tensors);
  let end = 0;
  for (const name of names) {
    const { dtype, shape, data } = tensors[name];
    const count = shape.reduce((a, b) => a * b, 1);
    if (count !== data.length) throw new Error(`${name}: ${data.length} numbers for ${shape}`);
    header[name] = { dtype, shape, data_offsets: [end, (end += data.byteLength)] };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(json.length / 8) * 8; // numbers start at a multiple of 8
  const bytes = new Uint8Array(8 + padded + end).fill(0x20, 8, 8 + padded);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true); // little-endian
  bytes.set(json, 8);
  for (const name of names) {
    const { data } = tensors[name]; // typed arrays are little-endian on every phone and browser
    const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    bytes.set(raw, 8 + padded + header[name].data_offsets[0]);
  }
  return bytes;
}
