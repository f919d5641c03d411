/** The list of segments: classes with their counts, areas and scores, and how long models took. */

import { byId, element, megabytes, percent, readable } from "./page.js";
import { title } from "./views.js";

/**
 * What was found, in words.
 * @param {Pick<Panokit.Result, "counts" | "segments">} found
 */
export function summary({ counts, segments }) {
  const things = Object.entries(counts).map(([name, n]) => `${n} × ${readable(name)}`);
  const stuff = new Set(segments.filter((s) => !s.isthing).map(title));
  return [...things, ...stuff].join(", ") || "nothing that the network knows";
}

/**
 * Draw the list: `found` is what is listed, `results` all that ran, `offerOf` tells their models;
 * `selected` is the chosen id, `onSelect(id)` and `onHover(id)` hear of the list.
 * @param {Panokit.Result} found
 * @param {{ results: Map<string, Panokit.Result>, offerOf: (id: string) => Panokit.Offer } & Row} page
 */
export function listSegments(found, { results, offerOf, ...row }) {
  const [w, h] = found.size;
  byId("found").textContent = summary(found);
  /** @type {Map<number, Panokit.Segment[]>} */
  const classes = Map.groupBy
    ? Map.groupBy(found.segments, (s) => s.category_id)
    : found.segments.reduce((m, s) => m.set(s.category_id, [...(m.get(s.category_id) ?? []), s]), new Map());
  /** @type {(of: Panokit.Segment[]) => number} */
  const areaOf = (of) => of.reduce((sum, s) => sum + s.area, 0);
  const groups = [...classes.values()].sort((a, b) => areaOf(b) - areaOf(a)).map((of) => {
    const count = of[0].isthing ? `${of.length} ${of.length > 1 ? "objects" : "object"}` : "region";
    const head = element("p", { className: "class-name" }, [
      element("span", { textContent: `${title(of[0])} · ${count}` }),
      element("span", { className: "number", textContent: percent(areaOf(of) / (w * h)) }),
    ]);
    const rows = of.map((s, i) => segmentButton(s, of.length > 1 ? `${title(s)} ${i + 1}` : title(s), found, row));
    return element("div", {}, [head, ...rows]);
  });
  const columns = element("p", { className: "class-name columns" }, [
    element("span", { textContent: "class" }),
    element("span", { className: "number", textContent: "score" }),
    element("span", { className: "number", textContent: "area" }),
  ]);
  byId("legend").replaceChildren(columns, ...groups);
  byId("timing").replaceChildren(...[...results.values()].map((r) => timing(r, offerOf(r.artifact))));
}

/** @typedef {{ selected: number, onSelect: (id: number) => void, onHover: (id: number) => void }} Row */

/**
 * How long a model took, and how large it is.
 * @param {Panokit.Result} result
 * @param {Panokit.Offer} offer
 */
function timing({ artifact, milliseconds: ms }, offer) {
  const text = `${artifact} (${megabytes(offer.bytes)}): network ${ms.network} ms, the rest ${ms.other} ms here`;
  return element("li", { textContent: text });
}

/**
 * @param {Panokit.Segment} segment
 * @param {string} name
 * @param {Panokit.Result} found
 * @param {Row} row
 */
function segmentButton(segment, name, found, { selected, onSelect, onHover }) {
  const [w, h] = found.size;
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = found.colors[segment.id];
  const button = element("button", { type: "button", className: "segment" }, [
    swatch,
    name,
    element("span", { className: "number", textContent: segment.isthing ? `${Math.round(100 * segment.score)} %` : "" }),
    element("span", { className: "number", textContent: percent(segment.area / (w * h)) }),
  ]);
  button.title = segment.isthing ? "Score, and share of the photo" : "Share of the photo";
  button.dataset.id = String(segment.id);
  button.setAttribute("aria-pressed", String(selected === segment.id));
  button.addEventListener("click", () => onSelect(button.getAttribute("aria-pressed") === "true" ? 0 : segment.id));
  button.addEventListener("pointerenter", () => onHover(segment.id));
  button.addEventListener("pointerleave", () => onHover(0));
  return button;
}

/**
 * Show which segment is pointed at.
 * @param {number} id
 */
export function hoverInList(id) {
  for (const row of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".segment"))) {
    row.classList.toggle("hovered", Number(row.dataset.id) === id);
  }
}
