/**
 * Islands in a matte belong to what lies around them, unless their colours are the background's:
 * what panokit.effects.whole does, on the network's cells.
 */

const LARGEST = 0.2; // an island larger than this share of the object is a hole
const SEEN_THROUGH = 0.55; // so likely the background's colours must be for a hole
const BINS = 8; // of each channel
const RING = 0.06; // how far around an object its background counts, in shares of the grid

/**
 * @param {Float32Array} matte [h][w] 0..1, changed in place
 * @param {Panokit.Guide} guide
 * @param {(i: number) => boolean} isOther whether a cell is another thing's: that stays what it is
 */
export function fillIslands(matte, { data, size: [w, h] }, isOther) {
  const own = Uint8Array.from(matte, (v) => (v >= 0.5 ? 1 : 0));
  const area = own.reduce((a, b) => a + b, 0);
  const { islands, outside } = gaps(closed(own, w, h), w, h);
  if (!area || !islands.length) return;
  const ring = dilated(own, w, h, Math.max(2, Math.round(RING * Math.max(w, h))));
  const code = Int32Array.from({ length: w * h }, (_, i) =>
    [0, 1, 2].reduce((sum, c) => sum * BINS + ((data[4 * i + c] * BINS) >> 8), 0)
  );
  const back = histogram(code, (i) => Boolean(ring[i] && outside[i]));
  const mine = histogram(code, (i) => Boolean(own[i]));
  for (const island of islands) {
    if (island.length > LARGEST * area) continue;
    if (2 * island.filter(isOther).length > island.length) continue;
    const likely = island.reduce((sum, i) => {
      const [b, m] = [back[code[i]], mine[code[i]]];
      return sum + (b + 1e-9) / (b + m + 2e-9);
    }, 0);
    if (likely >= SEEN_THROUGH * island.length) continue;
    const filled = new Uint8Array(w * h);
    for (const i of island) filled[i] = 1;
    dilated(filled, w, h, 1).forEach((inside, i) => {
      if (inside && !isOther(i)) matte[i] = 1;
    });
  }
}

/**
 * A mask whose bays of one or two cells are closed.
 * @param {Uint8Array} mask
 * @param {number} w
 * @param {number} h
 */
function closed(mask, w, h) {
  const wide = dilated(mask, w, h, 1).map((v) => 1 - v);
  return dilated(wide, w, h, 1).map((v, i) => (v && !mask[i] ? 0 : 1));
}

/**
 * @param {Uint8Array} mask
 * @param {number} w
 * @param {number} h
 * @param {number} radius
 */
function dilated(mask, w, h, radius) {
  const rows = new Uint8Array(w * h);
  const out = new Uint8Array(w * h);
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i]) continue;
    const x = i % w;
    rows.fill(1, i - Math.min(x, radius), i + Math.min(w - 1 - x, radius) + 1);
  }
  for (let i = 0; i < rows.length; i++) {
    if (!rows[i]) continue;
    for (let at = Math.max(i % w, i - radius * w); at <= i + radius * w && at < w * h; at += w) out[at] = 1;
  }
  return out;
}

/**
 * The parts of what a mask leaves: those that reach the border, and lists of the others' cells.
 * @param {Uint8Array} mask
 * @param {number} w
 * @param {number} h
 */
function gaps(mask, w, h) {
  const seen = Uint8Array.from(mask);
  const outside = new Uint8Array(w * h);
  /** @type {number[][]} */
  const islands = [];
  for (let start = 0; start < seen.length; start++) {
    if (seen[start]) continue;
    const part = [start];
    seen[start] = 1;
    let open = false;
    for (let k = 0; k < part.length; k++) {
      const i = part[k];
      const x = i % w;
      if (x === 0 || x === w - 1 || i < w || i >= w * (h - 1)) open = true;
      const near = [x > 0 ? i - 1 : -1, x < w - 1 ? i + 1 : -1, i - w, i + w];
      for (const at of near) {
        if (at < 0 || at >= seen.length || seen[at]) continue;
        seen[at] = 1;
        part.push(at);
      }
    }
    if (open) for (const i of part) outside[i] = 1;
    else islands.push(part);
  }
  return { islands, outside };
}

/**
 * How often each colour is, of those that count, in shares. Neighbours count half: colours are not
 * sharp.
 * @param {Int32Array} code
 * @param {(i: number) => boolean} counts
 */
function histogram(code, counts) {
  let out = new Float64Array(BINS ** 3);
  code.forEach((c, i) => {
    if (counts(i)) out[c]++;
  });
  for (const step of [BINS * BINS, BINS, 1]) {
    const from = out;
    out = from.map((v, i) => {
      const at = Math.floor(i / step) % BINS;
      return v + 0.5 * ((at > 0 ? from[i - step] : 0) + (at < BINS - 1 ? from[i + step] : 0));
    });
  }
  const total = Math.max(1, out.reduce((a, b) => a + b, 0));
  return out.map((v) => v / total);
}
