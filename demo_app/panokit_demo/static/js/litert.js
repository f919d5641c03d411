/**
 * A TFLite artifact in this browser, by LiteRT.js in WebAssembly (XNNPACK).
 *
 * The package's own `Tensor` knows float32, int32 and uint8 only and refuses int8 models, though
 * its WebAssembly runs them. So this goes to the bindings below it, which is why the version is
 * pinned. Tensors are matched by name and shape, never by position.
 */

import { addressOf } from "./api.js";

/** @type {Record<string, { new (buffer: ArrayBuffer): Panokit.Numbers }>} */
const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int8: Int8Array };
/** @type {Record<string, number>} */
const CODES = { float32: 1, uint8: 3, int8: 9 };

/** @type {Promise<any> | null} */
let loading = null;

/** The WebAssembly part, loaded once. */
async function load() {
  const folder = addressOf("litertjs/core/wasm/");
  // In a worker it would look for its WebAssembly beside the worker.
  Object.assign(globalThis, { Module: { locateFile: (/** @type {string} */ name) => folder + name } });
  loading ??= import(addressOf("litertjs/core/dist/index.js"))
    .then((core) => core.loadLiteRt(folder))
    .catch((error) => {
      loading = null;
      throw error;
    });
  return loading;
}

/** @param {any} vector of the bindings */
const toArray = (vector) => {
  const out = Array.from({ length: vector.size() }, (_, i) => vector.get(i));
  vector.delete();
  return out;
};

export class Network {
  // What the bindings below the package give; it has no types.
  /** @type {any} */
  #wasm;
  /** @type {any} */
  #environment;
  /** @type {any} */
  #model;
  /** @type {any} */
  #compiled;
  #pointer = 0;

  /**
   * Compile a file's bytes.
   * @param {Uint8Array} bytes
   */
  static async open(bytes) {
    const lite = await load();
    const network = new Network();
    const wasm = (network.#wasm = lite.liteRtWasm);
    const environment = lite.getDefaultEnvironment();
    network.#environment = environment.liteRtEnvironment;
    network.#pointer = wasm._malloc(bytes.length);
    wasm.HEAPU8.set(bytes, network.#pointer);
    network.#model = wasm.loadModel(network.#environment, network.#pointer, bytes.length);
    network.#compiled = await wasm.compileModel(network.#environment, network.#model, {
      environment,
      accelerator: "wasm",
      cpuOptions: { numThreads: wasm.getThreadCount?.() ?? 1 },
      gpuOptions: {},
      webNNOptions: {},
    });
    return network;
  }

  /**
   * Heads by name, `{dtype, shape, data}` as the artifact gives them. `image` is a typed array of
   * the input's type; `specs` are the artifact's tensors as the server describes them.
   * @param {Panokit.Numbers} image
   * @param {Panokit.Offer["tensors"]} specs
   * @returns {Promise<Record<string, Panokit.Raw>>}
   */
  async run(image, { image: input, ...heads }) {
    const buffer = this.#input(image, input);
    let outputs;
    try {
      outputs = await this.#compiled.run(0, [buffer]);
    } finally {
      buffer.delete();
    }
    const signature = this.#model.getSignature(0);
    const names = toArray(signature.outputNames());
    signature.delete();
    const read = outputs.map((/** @type {any} */ output, /** @type {number} */ i) => this.#read(output, names[i]));
    return Object.fromEntries(Object.entries(heads).map(([head, spec]) => [head, find(read, spec)]));
  }

  /**
   * @param {Panokit.Numbers} image
   * @param {Panokit.TensorSpec} spec
   */
  #input(image, spec) {
    const wasm = this.#wasm;
    const type = this.#model.getInputTensorType(0, 0);
    try {
      if (type.elementType().value !== CODES[spec.dtype] || type.bytes() !== image.byteLength) {
        throw new Error(`The model's input is not ${spec.dtype} [${spec.shape}], as its bundle says.`);
      }
      const host = wasm.LiteRtTensorBufferType.HOST_MEMORY;
      const buffer = wasm.LiteRtTensorBuffer.createManaged(this.#environment, host, type, type.bytes());
      const at = buffer.lock(wasm.LiteRtTensorBufferLockMode.WRITE);
      wasm.HEAPU8.set(new Uint8Array(image.buffer, image.byteOffset, image.byteLength), at);
      buffer.unlock();
      return buffer;
    } finally {
      type.delete();
    }
  }

  /**
   * @param {any} output of the bindings
   * @param {string} name
   * @returns {Output}
   */
  #read(output, name) {
    const wasm = this.#wasm;
    const type = output.tensorType();
    const layout = type.layout();
    const shape = toArray(layout.dimensions());
    const code = type.elementType().value;
    layout.delete();
    type.delete();
    const at = output.lock(wasm.LiteRtTensorBufferLockMode.READ);
    const bytes = wasm.HEAPU8.slice(at, at + output.packedSize());
    output.unlock();
    output.delete();
    return { name, shape, code, bytes };
  }

  close() {
    this.#compiled.delete();
    this.#model.delete();
    this.#wasm._free(this.#pointer);
  }
}

/** @typedef {{ name: string, shape: number[], code: number, bytes: Uint8Array<ArrayBuffer> }} Output */

/**
 * The output that a head's description fits: by name, else the only one of its shape.
 * @param {Output[]} outputs
 * @param {Panokit.TensorSpec} spec
 */
function find(outputs, { name, shape, dtype }) {
  /** @type {(o: Output) => boolean} */
  const fits = (o) => o.code === CODES[dtype] && o.shape.join() === shape.join();
  const alike = outputs.filter(fits);
  const found = alike.find((o) => o.name === name) ?? (alike.length === 1 ? alike[0] : null);
  if (!found) throw new Error(`The model has no output ${name}, ${dtype} [${shape}].`);
  return { dtype, shape, data: new ARRAYS[dtype](found.bytes.buffer) };
}
