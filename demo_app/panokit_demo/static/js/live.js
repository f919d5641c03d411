/**
 * Frames of a camera, in a worker: prepared, segmented and followed by this device. The network's
 * own grid is enough: the view makes edges fine on the graphics card, by the frame's colours.
 */

import { inputTensor, realHeads } from "./device.js";
import { fillIslands } from "./islands.js";
import { Network } from "./litert.js";
import { makeGrid, postprocess } from "./postprocessing.js";
import { preprocess } from "./preprocessing.js";
import { MapSmoother, Motion, Tracker } from "./tracking.js";
import { known } from "./page.js";
import { readPlanes, sizeOf } from "./frames.js";

const SIDE = 640; // longest side of what the network's input is made from, pixels
const PATIENCE = 30; // frames that an object may be hidden for and stay itself
const KEEPS = 0.75; // share of the least score at which an object that was found is still there
const BLEND = 0.35; // how far a matte goes towards the new one where nothing moves

class Live {
  #tracker = new Tracker(PATIENCE);
  #motion = new Motion();
  #smoother = new MapSmoother();
  /** @type {Float32Array | null} */
  #matte = null;
  #subject = 0;
  #canvas = new OffscreenCanvas(1, 1);
  /** @type {Map<number, Panokit.LiveSegment>} */
  #known = new Map();

  /**
   * @param {Panokit.Offer} offer
   * @param {Network} network
   */
  constructor(offer, network) {
    this.offer = offer;
    this.network = network;
  }

  /**
   * Segment the next frame. `subject`: the number of an object, or 0 for all persons.
   * @param {Panokit.Frame} frame
   * @param {number} subject
   * @returns {Promise<Panokit.LiveFrame>}
   */
  async update(frame, subject) {
    const started = performance.now();
    const { pixels, size } = await this.#read(frame);
    const read = performance.now() - started;
    const { input, transform } = preprocess(pixels, size, this.offer.input_wh);
    const image = inputTensor(input, this.offer.tensors.image);
    const before = performance.now();
    const raw = await this.network.run(image, this.offer.tensors);
    const network = performance.now() - before;
    const heads = realHeads(raw, this.offer);
    const grid = makeGrid(transform, heads.h, heads.w);
    const cell = transform.input_wh[0] / grid.w;
    const found = postprocess(heads, this.offer.taxonomy, transform, atCells(this.offer.postprocessing, cell));
    const guide = makeGuide(input, transform.input_wh, grid, cell);
    const labels = this.#follow(found, grid, guide);
    const segments = this.#there(labels);
    const wanted = this.#numbersOf(segments, subject);
    this.#fillMatte(guide, heads, found, grid, labels, wanted, subject);
    const { x, y } = grid;
    return {
      guide: guide.data,
      grid: [x.to - x.from, y.to - y.from],
      labels,
      segments,
      subject: wanted.size > 0,
      place: {
        scale: [transform.content_wh[0] / cell, transform.content_wh[1] / cell],
        shift: [transform.left / cell - x.from, transform.top / cell - y.from],
      },
      milliseconds: { read, network, all: performance.now() - started },
    };
  }

  /**
   * A frame's pixels, RGBA. A video frame gives them without the graphics card, a picture by it.
   * @param {Panokit.Frame} frame
   * @returns {Promise<{ pixels: Panokit.Bytes, size: Panokit.Pair }>}
   */
  async #read(frame) {
    const planes = await readPlanes(frame);
    if (planes) return { pixels: planes, size: sizeOf(frame) };
    const [fw, fh] = sizeOf(frame);
    const scale = Math.min(1, SIDE / Math.max(fw, fh));
    /** @type {Panokit.Pair} */
    const size = [Math.max(1, Math.round(scale * fw)), Math.max(1, Math.round(scale * fh))];
    const canvas = this.#canvas;
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    const context = known(canvas.getContext("2d", { willReadFrequently: true }));
    context.drawImage(frame, 0, 0, ...size);
    return { pixels: context.getImageData(0, 0, ...size).data, size };
  }

  /**
   * Steady numbers of the cells on the photo: stuff has its channel + 1, things the number of their
   * track after the last of those.
   * @param {Panokit.Decoding} found
   * @param {Panokit.Grid} grid
   * @param {Panokit.Guide} guide
   */
  #follow(found, { x, y, w }, guide) {
    const [gw, gh] = guide.size;
    const ids = new Int32Array(gw * gh);
    for (let v = 0; v < gh; v++) {
      ids.set(found.ids.subarray((v + y.from) * w + x.from, (v + y.from) * w + x.to), v * gw);
    }
    const { taxonomy, postprocessing } = this.offer;
    const least = postprocessing.min_thing_score ?? 0;
    const unsure = new Set(found.segments.flatMap((s) => (s.isthing && s.score < least ? [s.id] : [])));
    const tracks = this.#tracker.update(ids, [gh, gw], found.segments, unsure);
    const numbers = new Map([[0, 0]]);
    for (const { id, category_id, isthing, score } of found.segments) {
      const track = tracks.get(id);
      if (isthing && !track) continue;
      const channel = taxonomy.findIndex((c) => c.id === category_id);
      const number = track ? taxonomy.length + track.number : channel + 1;
      numbers.set(id, number);
      this.#known.set(number, { number, channel, isthing, score, seen: track?.seen ?? 0 });
    }
    const moving = this.#motion.update(guide.data, [gh, gw], 4);
    guide.moving = moving;
    const labels = this.#smoother.update(ids.map((id) => numbers.get(id) ?? 0), [gh, gw], moving);
    const there = new Set(labels);
    for (const number of this.#known.keys()) {
      const alive = this.#tracker.tracks.has(number - taxonomy.length);
      if (number > taxonomy.length && !alive && !there.has(number)) this.#known.delete(number);
    }
    return labels;
  }

  /**
   * The numbers that the effect is about.
   * @param {Panokit.LiveSegment[]} there
   * @param {number} subject
   */
  #numbersOf(there, subject) {
    const { taxonomy } = this.offer;
    const wanted = subject
      ? there.filter((s) => s.number === subject)
      : there.filter((s) => s.isthing && taxonomy[s.channel].name === "person");
    return new Set(wanted.map((s) => s.number));
  }

  /** @param {Int32Array} labels */
  #there(labels) {
    return [...new Set(labels)].flatMap((number) => this.#known.get(number) ?? []);
  }

  /**
   * Write how much of each cell is the subject into the guide's fourth channel: the probability of
   * its class, but for cells of others of that class. Where nothing moves it changes slowly.
   * @param {Panokit.Guide} guide
   * @param {Panokit.Heads} heads
   * @param {Panokit.Decoding} found
   * @param {Panokit.Grid} grid
   * @param {Int32Array} labels
   * @param {Set<number>} numbers
   * @param {number} subject
   */
  #fillMatte(guide, heads, found, { x, y, w }, labels, numbers, subject) {
    const [gw, gh] = guide.size;
    const matte = new Float32Array(gw * gh);
    const channels = new Set([...numbers].map((n) => known(this.#known.get(n)).channel));
    const { semantic, channels: n } = heads;
    for (let i = 0; numbers.size && i < matte.length; i++) {
      const own = numbers.has(labels[i]);
      const other = this.#known.get(labels[i]);
      if (!own && other?.isthing && channels.has(other.channel)) continue;
      const at = ((Math.floor(i / gw) + y.from) * w + (i % gw) + x.from) * n;
      let [sum, of] = [0, 0];
      const peak = semantic[at + found.class_map[at / n]];
      for (let c = 0; c < n; c++) {
        const p = Math.exp(semantic[at + c] - peak);
        sum += p;
        if (channels.has(c)) of += p;
      }
      matte[i] = of / sum;
    }
    if (numbers.size) fillIslands(matte, guide, (i) => Boolean(this.#known.get(labels[i])?.isthing) && !numbers.has(labels[i]));
    const before = this.#matte;
    if (before && before.length === matte.length && guide.moving && subject === this.#subject) {
      const { moving } = guide;
      matte.forEach((value, i) => {
        if (!moving[i]) matte[i] = before[i] + BLEND * (value - before[i]);
      });
    }
    this.#matte = matte;
    this.#subject = subject;
    matte.forEach((value, i) => (guide.data[4 * i + 3] = Math.round(255 * value)));
  }
}

/** @type {Live | null} */
let live = null;

/**
 * Do what a message says, and send what came of it.
 * @param {any} message `{kind: "open", offer, model}` or `{kind: "frame", frame, subject}`
 * @param {any} port
 */
export async function answer(message, port) {
  try {
    if (message.kind === "close") {
      live?.network.close();
      port.postMessage({ kind: "closed" });
    } else if (message.kind === "open") {
      live = new Live(message.offer, await Network.open(message.model));
      port.postMessage({ kind: "ready" });
    } else {
      const found = await known(live).update(message.frame, message.subject);
      port.postMessage({ kind: "frame", frame: message.frame, ...found }, [message.frame]);
    }
  } catch (error) {
    port.postMessage({ kind: "error", message: String(/** @type {Error} */ (error).message ?? error) });
  }
}

/**
 * The settings of decoding on the network's own cells: areas are counted in those. Things that are
 * a little less sure than the least score are kept for who was found already.
 * @param {Panokit.Postprocessing} config
 * @param {number} cell
 * @returns {Panokit.Postprocessing}
 */
function atCells(config, cell) {
  const lenient = { ...config, min_thing_score: KEEPS * (config.min_thing_score ?? 0) };
  if (config.grid === "head") return lenient;
  const [thing, stuff] = [config.min_thing_area, config.min_stuff_area].map((a) => Math.ceil(a / cell ** 2));
  return { ...lenient, grid: "head", min_thing_area: thing, min_stuff_area: stuff };
}

/**
 * The mean colour of each cell that lies on the photo, RGBA with an empty fourth channel.
 * @param {Uint8Array} input
 * @param {Panokit.Pair} inputWh
 * @param {Panokit.Grid} grid
 * @param {number} cell
 * @returns {Panokit.Guide}
 */
function makeGuide(input, [width], { x, y }, cell) {
  const [gw, gh] = [x.to - x.from, y.to - y.from];
  const data = new Uint8Array(4 * gw * gh);
  for (let v = 0; v < gh; v++) {
    for (let u = 0; u < gw; u++) {
      let [r, g, b] = [0, 0, 0];
      for (let row = 0; row < cell; row++) {
        let at = 3 * (((v + y.from) * cell + row) * width + (u + x.from) * cell);
        for (let i = 0; i < cell; i++, at += 3) {
          r += input[at];
          g += input[at + 1];
          b += input[at + 2];
        }
      }
      const to = 4 * (v * gw + u);
      const count = cell * cell;
      data[to] = r / count;
      data[to + 1] = g / count;
      data[to + 2] = b / count;
    }
  }
  return { data, size: [gw, gh], moving: null };
}
