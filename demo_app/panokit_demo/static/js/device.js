/** This device's own run: preprocess, network, postprocess; its result and its dump. */

import { Network } from "./litert.js";
import { makeHeads, postprocess } from "./postprocessing.js";
import { preprocess, quantizeImage } from "./preprocessing.js";
import { writeSafetensors } from "./safetensors.js";
import { drawn } from "./page.js";

/** @type {Record<string, string>} */
const DTYPES = { float32: "F32", uint8: "U8", int8: "I8" };

/** What only Chromium tells of itself. */
const userAgentData = () => /** @type {Panokit.Browser} */ (navigator).userAgentData;

/**
 * Run an artifact on pixels (RGBA, as a canvas gives them) of `size` [w, h].
 *
 * Gives the result in the server's form, the milliseconds of each step, and the dump's bytes.
 * @param {{ offer: Panokit.Offer, model: Uint8Array, pixels: Uint8ClampedArray, size: Panokit.Pair, name: string, onStep: (step: string) => void }} wish
 */
export async function runOnDevice({ offer, model, pixels, size, name, onStep }) {
  /** @type {Record<string, number>} */
  const times = {};
  /** @type {<T>(step: string, work: () => T | Promise<T>) => Promise<T>} */
  const timed = async (step, work) => {
    onStep(step);
    await drawn();
    const started = performance.now();
    const value = await work();
    times[step] = performance.now() - started;
    return value;
  };
  const network = await timed("load", () => Network.open(model));
  try {
    const { input, transform } = await timed("preprocess", () =>
      preprocess(pixels, size, offer.input_wh)
    );
    const image = await timed("quantize", () => inputTensor(input, offer.tensors.image));
    await network.run(image, offer.tensors); // the first run also packs the weights
    const raw = await timed("network", () => network.run(image, offer.tensors));
    const found = await timed("postprocess", () =>
      postprocess(realHeads(raw, offer), offer.taxonomy, transform, offer.postprocessing)
    );
    const dump = writeDump({ offer, pixels, size, name, input, raw, found, transform });
    return { result: describe(found, transform, offer, size), times, dump };
  } finally {
    network.close();
  }
}

/**
 * Real values; only heads of whole numbers have a scale.
 * @param {Record<string, Panokit.Raw>} raw
 * @param {Panokit.Offer} offer
 */
export function realHeads(raw, { tensors }) {
  const scaled = Object.entries(tensors).filter(([, spec]) => spec.scale !== null);
  return makeHeads(raw, /** @type {Record<string, Panokit.Quantization>} */ (Object.fromEntries(scaled)));
}

/**
 * The artifact's input: whole numbers of its type, or floats 0..255.
 * @param {Uint8Array} input
 * @param {Panokit.TensorSpec} spec
 */
export function inputTensor(input, spec) {
  return spec.dtype === "float32" ? Float32Array.from(input) : quantizeImage(input, /** @type {Panokit.InputQuantization} */ (spec));
}

/**
 * What was found in the form of the server's answers; areas and boxes on the photo come later.
 * @param {Panokit.Decoding} found
 * @param {Panokit.Transform} transform
 * @param {Panokit.Offer} offer
 * @param {Panokit.Pair} size
 */
function describe(found, transform, offer, size) {
  const names = new Map(offer.taxonomy.map((c) => [c.id, c.name]));
  const segments = found.segments.map((s) => ({ ...s, category: names.get(s.category_id) ?? "" }));
  return { artifact: offer.id, segments, transform, map: { shape: found.shape, data: found.ids }, size };
}

/** @param {{ offer: Panokit.Offer, pixels: Uint8ClampedArray, size: Panokit.Pair, name: string, input: Uint8Array, raw: Record<string, Panokit.Raw>, found: Panokit.Decoding, transform: Panokit.Transform }} run */
function writeDump({ offer, pixels, size: [w, h], name, input, raw, found, transform }) {
  const photo = new Uint8Array(w * h * 3);
  for (let i = 0, j = 0; i < photo.length; j++) {
    photo[i++] = pixels[j++];
    photo[i++] = pixels[j++];
    photo[i++] = pixels[j++];
  }
  const [W, H] = transform.input_wh;
  /** @type {Record<string, Panokit.Tensor>} */
  const tensors = {
    photo: { dtype: "U8", shape: [h, w, 3], data: photo },
    input: { dtype: "U8", shape: [H, W, 3], data: input },
  };
  for (const [head, { dtype, shape, data }] of Object.entries(raw)) {
    tensors[head] = { dtype: DTYPES[dtype], shape: shape.slice(1), data };
  }
  tensors.panoptic = { dtype: "I32", shape: found.shape, data: Int32Array.from(found.ids) };
  const channels = new Map(offer.taxonomy.map((c, i) => [c.id, i]));
  const segments = found.segments.map((s) => ({ id: s.id, channel: channels.get(s.category_id) }));
  return writeSafetensors(tensors, {
    format: "panokit-dump/1",
    artifact: offer.name,
    artifact_sha256: offer.sha256,
    runtime: "litert.js",
    delegate: "xnnpack-wasm",
    device: describeDevice(),
    os: userAgentData()?.platform || navigator.platform || "unknown",
    app: "panokit demo",
    photo: name,
    transform: JSON.stringify(transform),
    segments: JSON.stringify(segments),
  });
}

/** The browser in a few words; it tells no more about the device. */
export function describeDevice() {
  const brands = userAgentData()?.brands?.filter((b) => !/not/i.test(b.brand)) ?? [];
  const browser = brands.length
    ? brands.map((b) => `${b.brand} ${b.version}`).at(-1)
    : (/(Firefox|Version|Chrome)\/[\d.]+/.exec(navigator.userAgent)?.[0] ?? "browser");
  return `${browser}, ${navigator.hardwareConcurrency ?? "?"} cores`;
}
