/**
 * The contract `instances-semantic`, bit for bit as docs/contracts.md says: instances of one head and
 * classes of another to one panoptic map. `panokit vectors` and check_vectors.js prove it.
 */

import { findInstances, paint, segmentsOf } from "./instances.js";
import { f32, wholeVector } from "./kernels.js";
import { byCategory, findClasses, measure } from "./semantic.js";

/**
 * Decode heads: instances first, stuff in what they leave. Arguments and result as of
 * `decodeMaskQueries`.
 * @param {Panokit.HeadTensors} tensors
 * @param {Panokit.Class[]} taxonomy
 * @param {Panokit.Transform} transform
 * @param {Panokit.InstancesSemanticSettings} settings
 * @returns {Panokit.ContractDecoding}
 */
export function decodeInstancesSemantic(tensors, taxonomy, transform, settings) {
  const { instances } = findInstances(tensors, taxonomy, transform, settings.instances);
  const { channel, probability } = findClasses(tensors, taxonomy, transform, settings.semantic);
  const order = paintingOrder(instances, settings.merge);
  const { rank, areas } = paint(instances, transform, order, settings.merge.overlap);
  const { segments, idOfRank } = segmentsOf(instances, { areas }, order, taxonomy);
  const ids = rank.map((k) => (k < 0 ? 0 : idOfRank[k]));

  const { input_wh: [W, H], content_wh: [w], left, top } = transform;
  /** @type {(i: number) => number} */
  const onInput = (i) => (top + Math.floor(i / w)) * W + left + (i % w);
  const free = channel.map((c, i) => (rank[onInput(i)] < 0 ? c : -1));
  const { areas: pixels, sums } = measure(free, probability, taxonomy.length);
  const idOfChannel = new Int32Array(taxonomy.length);
  for (const c of byCategory(taxonomy)) {
    const { id: category_id, isthing } = taxonomy[c];
    const area = pixels[c];
    if (isthing || !area || !isLarge(area, transform, settings.merge)) continue;
    idOfChannel[c] = segments.length + 1;
    segments.push({ id: idOfChannel[c], category_id, isthing, area, score: sums[c] / area, center_yx: null });
  }
  free.forEach((c, i) => {
    if (c >= 0) ids[onInput(i)] = idOfChannel[c];
  });
  return {
    ids,
    shape: [H, W],
    onPhoto: false,
    segments,
    details: {
      ranks: { shape: [H, W], data: rank },
      order: wholeVector(order),
      painted: wholeVector(areas),
    },
  };
}

/**
 * The instances that reach the threshold, in the order of painting.
 * @param {Panokit.Instance[]} instances
 * @param {Panokit.MergeSettings} settings
 */
function paintingOrder(instances, { threshold, order }) {
  const kept = [...instances.keys()].filter((k) => instances[k].score >= f32(threshold));
  if (order === "score") kept.sort((a, b) => instances[b].score - instances[a].score); // stable
  return kept;
}

/**
 * Whether stuff has enough pixels; in whole numbers.
 * @param {number} area
 * @param {Panokit.Transform} transform
 * @param {Panokit.MergeSettings} settings
 */
function isLarge(area, { photo_wh, content_wh }, { area_grid: grid, min_stuff_area: least }) {
  if (grid === "input") return area >= least;
  /** @type {(factors: number[]) => bigint} */
  const product = (factors) => factors.reduce((a, b) => a * BigInt(b), 1n);
  return product([area, ...photo_wh]) >= product([least, ...content_wh]);
}
