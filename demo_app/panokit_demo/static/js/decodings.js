/** The ports of the contracts other than center-offset, by the contract's name. */

import { decodeInstances } from "./instances.js";
import { decodeMaskQueries } from "./mask_queries.js";
import { decodeInstancesSemantic } from "./merge.js";
import { decodeSemantic } from "./semantic.js";

/**
 * @type {Record<string, (tensors: Panokit.HeadTensors, taxonomy: Panokit.Class[],
 *   transform: Panokit.Transform, settings: any) => Panokit.ContractDecoding>}
 */
export const DECODINGS = {
  "mask-queries": decodeMaskQueries,
  instances: decodeInstances,
  semantic: decodeSemantic,
  "instances-semantic": decodeInstancesSemantic,
};
