/** The tab "This device": run the artifact here, and have every stage judged. */

import * as api from "./api.js";
import { byId, complain, element, known, save } from "./page.js";

/** @type {Record<string, string>} */
const VERDICTS = {
  pass: "This device computes the same as the reference.",
  "pass with rounding": "This device agrees with the reference; what differs is rounding.",
  fail: "This device does not agree with the reference.",
};
/** @type {Record<string, string>} */
const STAGES = { input: "Input", semantic: "Semantic head", center: "Centre head", offset: "Offset head", panoptic: "Panoptic map" };
/** @type {Record<string, string>} */
const STEPS = { load: "Loading LiteRT.js and the model", preprocess: "Preparing the photo", quantize: "Preparing the photo", network: "Running the network", postprocess: "Decoding" };

/**
 * Make the tab work. `onResult(result | null)` gets what the device found.
 * @param {{
 *   state: Panokit.State,
 *   offerOf: (id: string) => Panokit.Offer,
 *   setBusy: (who: string, text: string | null) => void,
 *   onResult: (found: Panokit.DeviceAnswer | null) => void,
 * }} page
 */
export function showDevicePanel({ state, offerOf, setBusy, onResult }) {
  /** @type {Panokit.FileBytes | null} */
  let dump = null;

  byId("run-device").addEventListener("click", async () => {
    const offer = offerOf(state.artifact);
    const { session } = known(state.photo);
    byId("run-device").disabled = true;
    clear();
    try {
      const done = await run(offer, session);
      if (session !== known(state.photo).session || offer.id !== state.artifact) return;
      dump = done.dump;
      byId("save-dump").disabled = false;
      onResult(done.result);
      report("Comparing with the reference");
      const verdict = await api.validate(done.dump, dumpName(), offer.id);
      if (session === known(state.photo).session) show(verdict, done.times);
    } catch (error) {
      complain(`The run on this device failed: ${/** @type {Error} */ (error).message ?? error}`);
    } finally {
      report("");
      setBusy("device", null);
      begin(false);
    }
  });
  byId("save-dump").addEventListener("click", () => {
    save(new Blob([known(dump)], { type: "application/octet-stream" }), dumpName());
  });

  const dumpName = () => `${known(state.photo).name.replace(/\.[^.]*$/, "")}.safetensors`;

  /** @param {string} text */
  function report(text) {
    byId("device-message").textContent = text && `${text} …`;
    setBusy("device", text || null);
  }

  /**
   * @param {Panokit.Offer} offer
   * @param {string} session
   */
  async function run(offer, session) {
    report(STEPS.load);
    const { runOnDevice } = await import("./device.js");
    const [model, photo] = await Promise.all([api.model(offer.id), api.photo(session, "png")]);
    const { pixels, size } = await readPixels(photo);
    const name = known(state.photo).name.replace(/\.[^.]*$/, "");
    return runOnDevice({ offer, model, pixels, size, name, onStep: (step) => report(STEPS[step]) });
  }

  function clear() {
    dump = null;
    byId("save-dump").disabled = true;
    byId("device-verdict").hidden = true;
  }

  /** What can be run with this artifact and photo; `anew` forgets the last run. */
  function begin(anew = true) {
    if (anew) clear();
    const offer = offerOf(state.artifact);
    const { ready, missing } = state.info.device;
    const browser = typeof WebAssembly === "object" && typeof OffscreenCanvas === "function";
    const reason = !ready
      ? missing
      : !offer.runs_in_browser
        ? `${offer.id} is no TFLite model, which alone LiteRT.js can run.`
        : browser
          ? ""
          : "This browser is too old: it lacks WebAssembly or OffscreenCanvas.";
    byId("device-missing").textContent = reason;
    byId("device-missing").hidden = !reason;
    byId("run-device").disabled = Boolean(reason);
  }

  /**
   * @param {Panokit.Verdict} verdict
   * @param {Record<string, number>} times
   */
  function show(verdict, times) {
    const good = verdict.verdict !== "fail";
    const line = byId("verdict");
    line.textContent = VERDICTS[verdict.verdict];
    line.className = `verdict ${good ? "good" : "bad"}`;
    line.dataset.verdict = verdict.verdict;
    byId("stages").replaceChildren(...verdict.stages.map(stageItem));
    /** @type {(step: string) => string} */
    const ms = (step) => `${Math.round(times[step])} ms`;
    /** @type {Record<string, string>} */
    const facts = {
      Network: ms("network"),
      "Pre- and postprocessing": `${Math.round(times.preprocess + times.quantize)} + ${ms("postprocess")}`,
      "Loading": ms("load"),
      Device: verdict.metadata.device,
      Runtime: `${verdict.metadata.runtime}, ${verdict.metadata.delegate}`,
    };
    if (verdict.causes.length) facts["Likely cause"] = verdict.causes[0].name ?? "";
    byId("device-facts").replaceChildren(
      ...Object.entries(facts).flatMap(([term, value]) => [
        element("dt", { textContent: term }),
        element("dd", { textContent: value }),
      ])
    );
    byId("device-verdict").hidden = false;
  }

  return { begin };
}

/** @param {Panokit.Verdict["stages"][number]} stage */
function stageItem(stage) {
  const good = stage.verdict !== "fail";
  const mark = element("span", { className: `mark ${good ? "good" : "bad"}`, textContent: good ? "✓" : "✕" });
  mark.setAttribute("aria-label", stage.verdict);
  mark.setAttribute("role", "img");
  return element("li", {}, [
    mark,
    element("strong", { textContent: STAGES[stage.stage] ?? stage.stage }),
    element("span", { className: "detail", textContent: stage.message }),
  ]);
}

/**
 * The photo's pixels as RGBA, exactly as its PNG holds them.
 * @param {Blob} png
 * @returns {Promise<{ pixels: Uint8ClampedArray, size: Panokit.Pair }>}
 */
async function readPixels(png) {
  const bitmap = await createImageBitmap(png, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  /** @type {Panokit.Pair} */
  const size = [bitmap.width, bitmap.height];
  const canvas = new OffscreenCanvas(...size);
  const context = known(canvas.getContext("2d", { willReadFrequently: true }));
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { pixels: context.getImageData(0, 0, ...size).data, size };
}
