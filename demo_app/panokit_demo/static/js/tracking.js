/**
 * Objects from frame to frame, and maps that do not flicker: what panokit.tracking and
 * panokit.video do, step by step the same. No dependencies; browsers and Node alike.
 */

const OVERLAP = 0.15; // IoU from which on two masks are one object
const NEAR = 0.8; // distance, in diagonals of the box, up to which a segment may be a track's
const LEAST_CHANGE = 2; // of 255: less than any motion that is seen
const PER_NOISE = 5; // changes so many times the noise are motion
const MOST_NOISE = 3;
const CUT = 0.6; // share of the picture from which on a change is a cut

/**
 * Round half to even, as Python does.
 * @param {number} value
 */
function rint(value) {
  const down = Math.floor(value);
  const rest = value - down;
  if (rest !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}

/** Gives the things of each frame the numbers of their tracks. */
export class Tracker {
  /** @type {Map<number, Panokit.Track>} */
  tracks = new Map();
  #last = 0;

  /** @param {number} patience frames that a track is kept while it is not seen */
  constructor(patience = 10) {
    this.patience = patience;
  }

  /**
   * Take up a frame: the track of each thing, by the segment's id. Segments whose ids are in
   * `unsure` go on with a track or have none: they begin none.
   * @param {Int32Array} ids [h][w], 0 = void
   * @param {Panokit.Pair} shape [h, w]
   * @param {{ id: number, category_id: number, isthing: number }[]} segments
   * @param {Set<number>} unsure
   * @returns {Map<number, Panokit.Track>}
   */
  update(ids, shape, segments, unsure = new Set()) {
    const seen = measure(ids, shape, segments.filter((s) => s.isthing));
    /** @type {Map<number, Panokit.Track>} */
    const found = new Map();
    const taken = new Set();
    for (const [, thing, track] of this.#pairs(seen, shape)) {
      if (found.has(thing.id) || taken.has(track)) continue;
      move(track, thing);
      found.set(thing.id, track);
      taken.add(track);
    }
    for (const thing of seen) {
      if (!found.has(thing.id) && !unsure.has(thing.id)) found.set(thing.id, this.#begin(thing));
    }
    const now = new Set(found.values());
    for (const track of [...this.tracks.values()]) {
      if (now.has(track)) continue;
      track.missed++;
      track.foot[0] += track.step[0];
      track.foot[1] += track.step[1];
      if (track.missed > this.patience) this.tracks.delete(track.number);
    }
    return found;
  }

  /**
   * Segments and tracks that may be one, the likeliest first.
   * @param {Panokit.Seen[]} things
   * @param {Panokit.Pair} shape
   */
  #pairs(things, shape) {
    /** @type {[number, Panokit.Seen, Panokit.Track][]} */
    const pairs = [];
    for (const thing of things) {
      for (const track of this.tracks.values()) {
        if (track.category_id !== thing.category_id || track.mask.length !== thing.mask.length) continue;
        const ahead = 1 + track.missed;
        const iou = overlap(thing, track, [rint(track.step[0] * ahead), rint(track.step[1] * ahead)], shape);
        if (iou >= OVERLAP) {
          pairs.push([1 + iou, thing, track]);
          continue;
        }
        const [dx, dy] = track.missed ? [0, 0] : track.step;
        const distance = Math.hypot(thing.foot[0] - track.foot[0] - dx, thing.foot[1] - track.foot[1] - dy);
        const [x0, y0, x1, y1] = thing.box;
        const reach = NEAR * Math.hypot(x1 - x0, y1 - y0);
        if (distance < reach) pairs.push([1 - distance / reach, thing, track]);
      }
    }
    return pairs.sort((a, b) => b[0] - a[0] || a[1].id - b[1].id || a[2].number - b[2].number);
  }

  /** @param {Panokit.Seen} thing */
  #begin({ category_id, mask, area, foot }) {
    this.#last++;
    /** @type {Panokit.Track} */
    const track = { number: this.#last, category_id, mask, area, foot, step: [0, 0], seen: 1, missed: 0 };
    this.tracks.set(track.number, track);
    return track;
  }
}

/**
 * The masks, boxes and feet of segments that are there.
 * @param {Int32Array} ids
 * @param {Panokit.Pair} shape
 * @param {{ id: number, category_id: number }[]} segments
 * @returns {Panokit.Seen[]}
 */
function measure(ids, [h, w], segments) {
  const seen = new Map(
    segments.map(({ id, category_id }) => [
      id,
      { id, category_id, mask: new Uint8Array(h * w), area: 0, box: [w, h, 0, 0], foot: [0, 0] },
    ])
  );
  for (let i = 0; i < ids.length; i++) {
    const thing = seen.get(ids[i]);
    if (!thing) continue;
    const x = i % w;
    const y = (i - x) / w;
    thing.mask[i] = 1;
    thing.area++;
    if (x < thing.box[0]) thing.box[0] = x;
    if (y < thing.box[1]) thing.box[1] = y;
    if (x >= thing.box[2]) thing.box[2] = x + 1;
    thing.box[3] = y + 1;
  }
  const there = /** @type {Panokit.Seen[]} */ ([...seen.values()].filter((s) => s.area));
  for (const thing of there) thing.foot = [(thing.box[0] + thing.box[2]) / 2, thing.box[3]];
  return there;
}

/**
 * IoU of a thing's mask and a track's, moved by whole pixels; what comes in is empty.
 * @param {Panokit.Seen} thing
 * @param {Panokit.Track} track
 * @param {Panokit.Pair} shift
 * @param {Panokit.Pair} shape
 */
function overlap(thing, track, [dx, dy], [h, w]) {
  let both = 0;
  let moved = 0;
  for (let y = Math.max(0, dy); y < Math.min(h, h + dy); y++) {
    for (let x = Math.max(0, dx); x < Math.min(w, w + dx); x++) {
      if (!track.mask[(y - dy) * w + x - dx]) continue;
      moved++;
      both += thing.mask[y * w + x];
    }
  }
  const union = thing.area + moved - both;
  return union ? both / union : 0;
}

/**
 * @param {Panokit.Track} track
 * @param {Panokit.Seen} thing
 */
function move(track, { mask, area, foot }) {
  let [dx, dy] = [foot[0] - track.foot[0], foot[1] - track.foot[1]];
  if (track.missed) {
    // While it was away it was moved on; what is left is over all frames.
    dx = dx / (track.missed + 1) + track.step[0];
    dy = dy / (track.missed + 1) + track.step[1];
  }
  track.step = [0.5 * (track.step[0] + dx), 0.5 * (track.step[1] + dy)];
  Object.assign(track, { mask, area, foot, seen: track.seen + 1, missed: 0 });
}

/**
 * Where a picture moves: cells that changed by more than noise does, and those beside them.
 * `cell` pixels a side go together. Null at the beginning and after a cut: then all is new.
 */
export class Motion {
  /** @type {Float32Array | null} */
  #before = null;

  /** @param {number} cell */
  constructor(cell = 1) {
    this.cell = cell;
  }

  /**
   * @param {Panokit.Bytes} rgb
   * @param {Panokit.Pair} shape [h, w]
   * @param {number} channels
   * @returns {Uint8Array | null} [h / cell][w / cell]
   */
  update(rgb, shape, channels) {
    const now = greys(rgb, shape, channels, this.cell);
    const before = this.#before;
    this.#before = now;
    if (!before || before.length !== now.length) return null;
    const change = now.map((v, i) => Math.abs(v - before[i]));
    const noise = Math.min(1.4826 * median(change), MOST_NOISE); // a cut changes all
    const least = Math.max(LEAST_CHANGE, PER_NOISE * noise);
    const w = Math.floor(shape[1] / this.cell);
    const moving = new Uint8Array(change.length);
    change.forEach((v, i) => {
      if (v > least) paintAround(moving, i, w);
    });
    const share = moving.reduce((a, b) => a + b, 0) / moving.length;
    return share > CUT ? null : moving;
  }
}

/**
 * @param {Uint8Array} out
 * @param {number} i
 * @param {number} w
 */
function paintAround(out, i, w) {
  const x = i % w;
  for (const row of [i - w, i, i + w]) {
    for (let at = row - (x > 0 ? 1 : 0); at <= row + (x < w - 1 ? 1 : 0); at++) {
      if (at >= 0 && at < out.length) out[at] = 1;
    }
  }
}

/**
 * The mean grey of cells of a picture.
 * @param {Panokit.Bytes} rgb
 * @param {Panokit.Pair} shape
 * @param {number} channels
 * @param {number} cell
 */
function greys(rgb, [h, w], channels, cell) {
  const [ch, cw] = [Math.floor(h / cell), Math.floor(w / cell)];
  const sums = new Float32Array(ch * cw);
  for (let y = 0; y < ch * cell; y++) {
    for (let x = 0; x < cw * cell; x++) {
      const at = (y * w + x) * channels;
      sums[Math.floor(y / cell) * cw + Math.floor(x / cell)] += (rgb[at] + rgb[at + 1] + rgb[at + 2]) / 3;
    }
  }
  return sums.map((v) => v / (cell * cell));
}

/** @param {Float32Array} values */
function median(values) {
  const sorted = Float32Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Steadies maps of labels where the picture stands still. */
export class MapSmoother {
  /** @type {Int32Array | null} */
  #labels = null;
  /** @type {Int16Array} */
  #sure = new Int16Array(0);

  /** @param {number} hold frames that a label must be outvoted by, once it is sure */
  constructor(hold = 8) {
    this.hold = hold;
  }

  /**
   * The steadied labels of a frame.
   * @param {Int32Array} labels [h][w]
   * @param {Panokit.Pair} shape [h, w]
   * @param {Uint8Array | null} moving what Motion gave
   * @param {number} cell
   */
  update(labels, [h, w], moving, cell = 1) {
    const before = this.#labels;
    if (!this.hold || !moving || before?.length !== labels.length) {
      this.#labels = labels.slice();
      this.#sure = new Int16Array(h * w).fill(1);
      return labels;
    }
    const out = before.slice();
    const cw = Math.floor(w / cell);
    for (let i = 0; i < out.length; i++) {
      if (labels[i] === before[i]) {
        this.#sure[i] = Math.min(this.#sure[i] + 1, this.hold);
        continue;
      }
      this.#sure[i]--;
      const x = i % w;
      const y = (i - x) / w;
      if (this.#sure[i] < 0 || moving[Math.floor(y / cell) * cw + Math.floor(x / cell)]) {
        out[i] = labels[i];
        this.#sure[i] = Math.floor(this.hold / 2);
      }
    }
    this.#labels = out;
    return out.slice();
  }
}
