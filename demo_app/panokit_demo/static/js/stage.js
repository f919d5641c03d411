/** The stage: two panes of picture and overlay, a divider between them, names, outlines, taps. */

import { byId, known, percent } from "./page.js";
import { drawNames, idAt, outline, paintOverlay, title } from "./views.js";

const stage = byId("stage");
const marks = byId("marks");
const cut = byId("cut");
const DOTS = 0.006; // between the points of a stroke, in shares of the photo's sides
/** @type {Record<string, number | undefined>} */
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** @typedef {[Panokit.Picture?, (Panokit.Result | null)?, Panokit.View?]} Painted */

/**
 * What a pane shows: `{label, picture, result}` (`picture` an ImageBitmap, `result` or null).
 * `show({left, right, names, selected, view})` draws; `left` null means no comparison.
 */
export class Stage {
  /** @type {Panokit.Scene | null} */
  #scene = null;
  #hovered = 0;
  /** @type {Record<Panokit.Side, Painted>} */
  #painted = { left: [], right: [] };
  /** @type {Panokit.Pair} */
  #size = [1, 1];
  /** @type {Panokit.Pair[] | null} */
  #stroke = null; // that is being drawn
  #dragged = false; // the click that ends a stroke is no tap

  /**
   * @param {{
   *   onSelect: (id: number, point: Panokit.Pair | null) => void,
   *   onHover: (id: number) => void,
   *   isBrush: () => boolean,
   *   onStroke: (points: Panokit.Pair[]) => void,
   * }} listeners `isBrush()`: whether dragging draws a stroke, which `onStroke` takes
   */
  constructor({ onSelect, onHover, isBrush, onStroke }) {
    this.onSelect = onSelect;
    this.onHover = onHover;
    this.#listenToBrush(isBrush, onStroke);
    new ResizeObserver(() => this.#drawMarks()).observe(stage);
    marks.addEventListener("click", (event) => {
      if (this.#dragged) this.#dragged = false;
      else this.onSelect(this.#idAt(event), this.#point(event));
    });
    marks.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && !this.#stroke) this.#hover(event);
    });
    marks.addEventListener("pointerleave", () => this.hover(0));
    marks.addEventListener("keydown", (event) => this.#key(event));
    this.#listenToDivider();
  }

  /**
   * Fit the stage to a photo of this size.
   * @param {Panokit.Pair} size
   */
  fit(size) {
    this.#size = size;
    this.#painted = { left: [], right: [] };
    stage.style.setProperty("--ratio", String(size[0] / size[1]));
    this.setCut(0.5);
  }

  /** @param {number} share of the width that the left pane has */
  setCut(share) {
    cut.value = String(Math.round(1000 * Math.min(1, Math.max(0, share))));
    stage.style.setProperty("--cut", `${Number(cut.value) / 10}%`);
  }

  /** @param {Panokit.Scene} scene */
  show(scene) {
    this.#scene = scene;
    const comparing = scene.left !== null;
    stage.classList.toggle("comparing", comparing);
    byId("divider").hidden = !comparing;
    byId("compare-row").hidden = !comparing;
    byId("pane-left").hidden = !comparing;
    for (const side of /** @type {Panokit.Side[]} */ (["left", "right"])) {
      const layer = scene[side];
      byId(`tag-${side}`).hidden = !comparing;
      if (layer === null) continue;
      byId(`tag-${side}`).textContent = layer.label;
      this.#paint(side, layer, scene.view);
    }
    marks.setAttribute("aria-label", scene.description);
    this.#drawMarks();
  }

  /** @param {number} id */
  hover(id) {
    if (id === this.#hovered) return;
    this.#hovered = id;
    this.#drawMarks();
    this.onHover(id);
    if (!id) byId("tip").hidden = true;
  }

  /**
   * @param {Panokit.Side} side
   * @param {Panokit.Layer} layer
   * @param {Panokit.View} view
   */
  #paint(side, layer, view) {
    const [base, overlay] = byId(`pane-${side}`).querySelectorAll("canvas");
    const painted = this.#painted[side];
    if (painted[0] !== layer.picture) {
      [base.width, base.height] = this.#size;
      known(base.getContext("2d")).drawImage(layer.picture, 0, 0, ...this.#size);
    }
    if (painted[1] !== layer.result || painted[2] !== view) {
      if (layer.result) paintOverlay(overlay, layer.result, view);
    }
    overlay.hidden = !layer.result;
    this.#painted[side] = [layer.picture, layer.result, view];
  }

  #drawMarks() {
    if (!this.#scene) return;
    const { selected, outlined, result, names, view } = this.#scene;
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    const box = stage.getBoundingClientRect();
    marks.width = Math.max(1, Math.round(box.width * ratio));
    marks.height = Math.max(1, Math.round(box.height * ratio));
    const context = known(marks.getContext("2d"));
    const [sx, sy] = [marks.width / this.#size[0], marks.height / this.#size[1]];
    /** @type {(id: number, veil: number) => void} */
    const draw = (id, veil) => {
      const line = id && outline(result, id, { veil });
      if (!line) return;
      const { canvas, x, y } = line;
      context.drawImage(canvas, x * sx, y * sy, canvas.width * sx, canvas.height * sy);
    };
    if (this.#hovered !== selected || !outlined) draw(this.#hovered, 50);
    if (outlined) draw(selected, 0);
    if (names) drawNames(context, result, view, ratio);
    if (this.#stroke) drawStroke(context, this.#stroke);
  }

  /**
   * @param {MouseEvent} event
   * @returns {Panokit.Pair}
   */
  #point(event) {
    const box = stage.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  /** @param {MouseEvent} event */
  #idAt(event) {
    return this.#scene ? idAt(this.#scene.result, ...this.#point(event)) : 0;
  }

  /** @param {PointerEvent} event */
  #hover(event) {
    const id = this.#idAt(event);
    this.hover(id);
    const segment = id ? this.#scene?.result.byId.get(id) : undefined;
    const tip = byId("tip");
    tip.hidden = !segment;
    if (!segment) return;
    const [w, h] = this.#size;
    const score = segment.isthing ? ` · ${Math.round(100 * segment.score)} %` : "";
    tip.textContent = `${title(segment)}${score} · ${percent(segment.area / (w * h))} of the photo`;
    const box = stage.getBoundingClientRect();
    const x = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4);
    const y = Math.min(event.clientY - box.top + 18, box.height - tip.offsetHeight - 4);
    tip.style.transform = `translate(${Math.max(2, x)}px, ${Math.max(2, y)}px)`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!this.#scene) return;
    const order = this.#scene.result.segments.map((s) => s.id);
    const at = order.indexOf(this.#scene.selected);
    const step = STEPS[event.key];
    if (event.key === "Escape") this.onSelect(0, null);
    else if (step && order.length) {
      const next = at < 0 ? (step > 0 ? 0 : order.length - 1) : (at + step + order.length) % order.length;
      this.onSelect(order[next], null);
    } else return;
    event.preventDefault();
  }

  /**
   * @param {() => boolean} isBrush
   * @param {(points: Panokit.Pair[]) => void} onStroke
   */
  #listenToBrush(isBrush, onStroke) {
    marks.addEventListener("pointerdown", (event) => {
      this.#dragged = false;
      if (!event.isPrimary || event.button !== 0 || !isBrush()) return;
      marks.setPointerCapture(event.pointerId);
      this.#stroke = [this.#point(event)];
    });
    marks.addEventListener("pointermove", (event) => {
      const stroke = this.#stroke;
      if (!stroke || !event.isPrimary) return;
      const [x, y] = this.#point(event);
      const last = stroke[stroke.length - 1];
      const inside = x >= 0 && y >= 0 && x < 1 && y < 1;
      if (!inside || Math.hypot(x - last[0], y - last[1]) < DOTS) return;
      stroke.push([x, y]);
      this.#drawMarks();
    });
    marks.addEventListener("pointerup", () => {
      const drawn = this.#stroke;
      this.#stroke = null;
      this.#dragged = Boolean(drawn && drawn.length > 1);
      if (drawn && this.#dragged) onStroke(drawn);
    });
    marks.addEventListener("pointercancel", () => {
      this.#stroke = null;
      this.#drawMarks();
    });
  }

  #listenToDivider() {
    const divider = byId("divider");
    cut.addEventListener("input", () => this.setCut(Number(cut.value) / 1000));
    divider.addEventListener("pointerdown", (event) => {
      divider.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    divider.addEventListener("pointermove", (event) => {
      if (divider.hasPointerCapture(event.pointerId)) this.setCut(this.#point(event)[0]);
    });
  }
}

/**
 * A stroke, as it is drawn.
 * @param {CanvasRenderingContext2D} context
 * @param {Panokit.Pair[]} points in 0..1
 */
function drawStroke(context, points) {
  const line = new Path2D();
  for (const [x, y] of points) line.lineTo(x * marks.width, y * marks.height);
  context.lineCap = context.lineJoin = "round";
  for (const [width, color] of /** @type {[number, string][]} */ ([[0.016, "#000"], [0.01, "#fff"]])) {
    context.lineWidth = width * Math.max(marks.width, marks.height);
    context.strokeStyle = color;
    context.stroke(line);
  }
}
