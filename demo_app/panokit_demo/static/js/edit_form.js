/** Controls and words for edits, made from what the server says of their kinds (GET /api/info). */

import { element, known } from "./page.js";

const OWN_PICTURE = "Own picture …";
const PLAIN = { gradient: ["#000000", "#ffffff"] };
/** @typedef {(file: File) => Promise<string | null>} Keeper */
/** @type {Record<string, (parameter: Panokit.EditParameter, start: any, keep: Keeper) => Panokit.EditControl>} */
const MAKERS = { number: slider, whole: slider, choice, flag, color, fill };

/** Buttons for the kinds of edits of a group, each with the controls of its basic parameters. Edits
 * of a group share the controls of parameters that have the same name. Each button calls
 * `onPress(name, kind, settings)`, with `settings` as edits.json has them, without the pick.
 * `keep(file)` takes a picture up and gives the name under which edits can speak of it.
 * @param {Panokit.EditKinds} kinds
 * @param {string} group
 * @param {(name: string, kind: Panokit.EditKind, settings: Record<string, Panokit.EditValue>) => void} onPress
 * @param {Keeper} keep
 */
export function editButtons(kinds, group, onPress, keep = async () => null) {
  /** @type {Map<string, Panokit.EditControl>} */
  const controls = new Map();
  /** @type {HTMLElement[]} */
  const nodes = [];
  for (const [name, kind] of Object.entries(kinds)) {
    if (kind.group !== group || !kind.basic) continue;
    const button = element("button", { type: "button", textContent: kind.title });
    button.dataset.do = name;
    button.addEventListener("click", () => onPress(name, kind, settings(kind, controls)));
    nodes.push(button);
    for (const parameter of kind.parameters.filter(isShown)) {
      if (controls.has(parameter.name)) continue;
      const control = MAKERS[parameter.kind](parameter, parameter.start ?? parameter.default, keep);
      controls.set(parameter.name, control);
      nodes.push(...control.nodes);
    }
  }
  return nodes;
}

/** @param {Panokit.EditParameter} parameter */
const isShown = (parameter) => parameter.basic && parameter.kind !== "pick";

/**
 * What the controls say, and the start of parameters that are not shown.
 * @param {Panokit.EditKind} kind
 * @param {Map<string, Panokit.EditControl>} controls
 */
function settings(kind, controls) {
  /** @type {Record<string, Panokit.EditValue>} */
  const values = {};
  for (const parameter of kind.parameters) {
    if (isShown(parameter)) values[parameter.name] = known(controls.get(parameter.name)).value();
    else if (parameter.start !== undefined) values[parameter.name] = parameter.start;
  }
  return values;
}

/**
 * The portrait: the edit that has a slider of its own, and the parameter that the slider sets.
 * @param {Panokit.EditKinds} kinds
 */
export function portraitOf(kinds) {
  const [name, kind] = known(Object.entries(kinds).find(([, k]) => k.group === "portrait"));
  return { name, parameter: known(kind.parameters.find(isShown)) };
}

/**
 * Where a number lies between its lowest and its highest value, in whole per cent.
 * @param {Panokit.Edit} edit
 * @param {Panokit.EditParameter} parameter
 */
export const percentOf = (edit, { name, low, high, default: usual }) =>
  Math.round((100 * (Number(edit[name] ?? usual) - low)) / (high - low));

/**
 * An edit in words; `nameAt(pick)` tells what a pick is about.
 * @param {Panokit.Edit} edit
 * @param {Panokit.EditKinds} kinds
 * @param {(pick: Panokit.EditPick) => string} nameAt
 */
export function words(edit, kinds, nameAt) {
  const portrait = portraitOf(kinds);
  const what = edit.pick ? nameAt(edit.pick) : "";
  const more = edit.do === portrait.name ? ` ${percentOf(edit, portrait.parameter)} %` : "";
  return `${kinds[edit.do]?.title ?? edit.do}${more}${what ? `: ${what}` : ""}`;
}

/**
 * @param {string} text
 * @param {HTMLElement} input
 * @param {string} className
 */
function labelled(text, input, className, hidden = false) {
  const about = element("span", { className: hidden ? "visually-hidden" : "", textContent: text });
  return element("label", { className }, [about, input]);
}

/**
 * @param {Panokit.EditParameter} parameter
 * @param {number} start
 */
function slider({ kind, about, low, high }, start) {
  const step = kind === "whole" ? 1 : (high - low) / 20;
  const input = element("input", { type: "range", min: `${low}`, max: `${high}`, step: `${step}`, value: `${start}` });
  return { nodes: [labelled(about, input, "slider")], value: () => Number(input.value) };
}

/**
 * @param {Panokit.EditParameter} parameter
 * @param {string} start
 */
function choice({ about, choices }, start) {
  const options = choices.map((c) => element("option", { textContent: c, selected: c === start }));
  const input = element("select", {}, options);
  return { nodes: [labelled(about, input, "")], value: () => choices[input.selectedIndex] };
}

/**
 * @param {Panokit.EditParameter} parameter
 * @param {boolean} start
 */
function flag({ about }, start) {
  const input = element("input", { type: "checkbox", checked: start });
  return { nodes: [labelled(about, input, "toggle")], value: () => input.checked };
}

/**
 * @param {Panokit.EditParameter} parameter
 * @param {string} start
 */
function color({ about }, start) {
  const input = element("input", { type: "color", value: start });
  return { nodes: [labelled(about, input, "color", true)], value: () => input.value };
}

/**
 * Two colours, above and below, or a picture.
 * @param {Panokit.EditParameter} parameter
 * @param {Panokit.EditFill | undefined} start
 * @param {Keeper} keep
 */
function fill({ about }, start, keep) {
  /** @type {string | null} */
  let photo = null;
  const ends = (start?.gradient ?? PLAIN.gradient).map((value) => element("input", { type: "color", value }));
  const nodes = ends.map((input, i) =>
    labelled(`${about} Colour ${i ? "below" : "above"}.`, input, "color", true)
  );
  const file = element("input", { type: "file", accept: "image/*", className: "visually-hidden" });
  const name = element("span", { textContent: OWN_PICTURE });
  const own = element("label", { className: "button own-picture" }, [name, file]);
  /** @param {string | null} chosen */
  const use = (chosen) => {
    photo = chosen;
    name.textContent = chosen ?? OWN_PICTURE;
    own.dataset.chosen = String(chosen !== null);
  };
  for (const input of ends) input.addEventListener("input", () => use(null));
  file.addEventListener("change", async () => {
    const [picture] = file.files ?? [];
    file.value = "";
    if (picture) use(await keep(picture));
  });
  const value = () => (photo === null ? { gradient: ends.map((input) => input.value) } : { photo });
  return { nodes: [...nodes, own], value };
}
