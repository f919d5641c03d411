/**
 * The port against the golden vectors:
 *
 *     panokit vectors write SUITE [--contract NAME]
 *     node check_vectors.js SUITE [RESULTS]
 *
 * Exit code 1 and the first stage that differs, case by case. With RESULTS the outputs are written
 * there, for `panokit vectors check SUITE RESULTS`.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DECODINGS } from "./decodings.js";
import { HeadError as ContractHeadError } from "./kernels.js";
import { HeadError, idsOnPhoto, makeHeads, postprocess } from "./postprocessing.js";
import { preprocess, quantizeImage } from "./preprocessing.js";
import { readSafetensors, writeSafetensors } from "./safetensors.js";

/** @type {(data: Panokit.Stored, shape: number[]) => Panokit.Tensor} */
const f32 = (data, shape) => ({ dtype: "F32", shape, data });
/** @type {(data: Panokit.Stored, shape: number[]) => Panokit.Tensor} */
const i32 = (data, shape) => ({ dtype: "I32", shape, data });

/** @typedef {Record<string, Panokit.Tensor>} Tensors */

const ROUNDED = ["probability"]; // goes through an exponential in float32, as scores do

/**
 * Tensors by stage, and what the suite's `expected` describes.
 * @param {Panokit.Case} entry
 * @param {Tensors} tensors
 * @returns {[Tensors, Panokit.Outcome]}
 */
function compute(entry, tensors) {
  if (entry.kind === "preprocess") return runPreprocess(entry, tensors);
  return "contract" in entry ? runContract(entry, tensors) : runDecode(entry, tensors);
}

/**
 * @param {Panokit.ContractCase} entry
 * @param {Tensors} tensors
 * @returns {[Tensors, Panokit.Outcome]}
 */
function runContract({ contract, taxonomy, transform, settings }, tensors) {
  const raw = Object.fromEntries(
    Object.entries(tensors).filter(([name]) => name.startsWith("in.")).map(([name, t]) => [name.slice(3), t])
  );
  let found;
  try {
    found = DECODINGS[contract](raw, taxonomy, transform, settings);
  } catch (error) {
    if (!(error instanceof ContractHeadError)) throw error;
    return [{}, { error: { head: error.head, position: error.position } }];
  }
  const { ids, shape, segments, onPhoto, details } = found;
  const [w0, h0] = transform.photo_wh;
  /** @type {Tensors} */
  const stages = {};
  for (const [name, { shape: of, data }] of Object.entries(details)) {
    stages[name] = data instanceof Float32Array ? f32(data, of) : i32(data, of);
  }
  stages.ids = i32(ids, shape);
  stages.photo_ids = i32(onPhoto ? ids : idsOnPhoto(ids, shape, transform), [h0, w0]);
  return [stages, { segments }];
}

/**
 * @param {Panokit.PreprocessCase} entry
 * @param {Tensors} tensors
 * @returns {[Tensors, Panokit.Outcome]}
 */
function runPreprocess(entry, tensors) {
  const [h0, w0] = tensors["in.photo"].shape;
  const { input, transform } = preprocess(/** @type {Uint8Array} */ (tensors["in.photo"].data), [w0, h0], entry.size_wh);
  const shape = [entry.size_wh[1], entry.size_wh[0], 3];
  const quantized = quantizeImage(input, entry.quantization);
  const dtype = { int8: "I8", uint8: "U8", int16: "I16" }[entry.quantization.dtype];
  return [
    { input: { dtype: "U8", shape, data: input }, quantized: { dtype, shape, data: quantized } },
    { transform },
  ];
}

/**
 * @param {Panokit.DecodeCase} entry
 * @param {Tensors} tensors
 * @returns {[Tensors, Panokit.Outcome]}
 */
function runDecode(entry, tensors) {
  /** @type {Record<string, any>} */
  const raw = Object.fromEntries(
    ["semantic", "center", "offset"].map((name) => [name, tensors[`in.${name}`]])
  );
  let heads;
  try {
    heads = makeHeads(raw, entry.quantization);
  } catch (error) {
    if (!(error instanceof HeadError)) throw error;
    return [{}, { error: { head: error.head, position: error.position } }];
  }
  const { taxonomy, transform, postprocessing } = entry;
  const found = postprocess(heads, taxonomy, transform, postprocessing, true);
  const resized = /** @type {Panokit.Resized} */ (found.resized);
  const { h, w, channels } = heads;
  const [H, W] = found.shape;
  const [w0, h0] = transform.photo_wh;
  const n = found.centers.length;
  return [
    {
      "real.semantic": f32(heads.semantic, [h, w, channels]),
      "real.center": f32(heads.center, [h, w]),
      "real.offset": f32(heads.offset, [h, w, 2]),
      semantic: f32(resized.semantic, [H, W, channels]),
      offset: f32(resized.offset, [H, W, 2]),
      class_map: i32(found.class_map, [H, W]),
      scores: f32(found.scores, [h, w]),
      centers: i32(Int32Array.from(found.centers.flatMap((c) => c.cell)), [n, 2]),
      center_scores: f32(Float32Array.from(found.centers, (c) => c.score), [n]),
      votes: i32(found.votes, [H, W]),
      ids: i32(found.ids, [H, W]),
      photo_ids: i32(idsOnPhoto(found.ids, found.shape, transform), [h0, w0]),
    },
    { segments: found.segments },
  ];
}

/**
 * The first difference as text, or "".
 * @param {Panokit.Case} entry
 * @param {Tensors} expected
 * @param {Tensors} found
 * @param {Panokit.Outcome} described
 * @param {number} tolerance
 */
function compare(entry, expected, found, described, tolerance) {
  const wanted = entry.expected;
  if (wanted.error) return same(wanted.error, described.error) ? "" : "error: another or none";
  for (const [stage, { shape, data }] of Object.entries(found)) {
    const truth = expected[stage];
    if (!same(truth.shape, shape)) return `${stage}: expected [${truth.shape}], got [${shape}]`;
    const allowed = ROUNDED.includes(stage) ? tolerance : 0;
    const at = truth.data.findIndex(
      (value, i) => value !== data[i] && !(Math.abs(Number(value) - Number(data[i])) <= allowed)
    );
    if (at >= 0) return `${stage}: at ${at} expected ${truth.data[at]}, got ${data[at]}`;
  }
  for (const key of wanted.transform ? ["photo_wh", "input_wh", "content_wh", "left", "top"] : []) {
    if (!same(wanted.transform?.[key], described.transform?.[key])) return `transform: ${key}`;
  }
  const [theirs, ours] = [wanted.segments ?? [], described.segments ?? []];
  if (theirs.length !== ours.length) return `segments: ${theirs.length}, got ${ours.length}`;
  for (const [i, segment] of theirs.entries()) {
    for (const [key, value] of Object.entries(segment)) {
      const close = key === "score" && Math.abs(value - ours[i].score) <= tolerance;
      if (!close && !same(value, ours[i][key])) return `segment ${segment.id}: ${key}`;
    }
  }
  return "";
}

/** @type {(a: unknown, b: unknown) => boolean} */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** @param {string[]} words of the command line */
function main([suite, results]) {
  if (!suite) {
    console.error("usage: node check_vectors.js SUITE [RESULTS]");
    return 2;
  }
  /** @type {Panokit.Suite} */
  const index = JSON.parse(readFileSync(join(suite, "suite.json"), "utf-8"));
  if (index.format !== "panokit-vectors/1") throw new Error(`unknown format ${index.format}`);
  if (results) mkdirSync(results, { recursive: true });
  let wrong = 0;
  for (const entry of index.cases) {
    const { tensors } = readSafetensors(readFileSync(join(suite, entry.file)));
    const [found, described] = compute(entry, tensors);
    const difference = compare(entry, tensors, found, described, index.score_tolerance);
    if (difference) {
      wrong++;
      console.log(`${entry.name}: ${difference}`);
    }
    if (results) {
      const texts = Object.entries(described).map(([k, v]) => [k, JSON.stringify(v)]);
      writeFileSync(join(results, entry.file), writeSafetensors(found, Object.fromEntries(texts)));
    }
  }
  console.log(`${index.cases.length - wrong} of ${index.cases.length} cases agree`);
  return wrong ? 1 : 0;
}

process.exitCode = main(process.argv.slice(2));
