/** The page: what is open, what is shown, and what happens when something is pressed. */

import * as api from "./api.js";
import { showDevicePanel } from "./device_panel.js";
import { showEditPanel } from "./edit_panel.js";
import { Editor } from "./editor.js";
import { byId, clearComplaint, complain, element, known, megabytes, messageOf, readable, say, target } from "./page.js";
import { showLivePanel } from "./live_panel.js";
import { hoverInList, listSegments, summary } from "./segment_list.js";
import { Stage } from "./stage.js";
import { colorsLike, insidePoint, makeResult, title } from "./views.js";

/** @type {Panokit.State} */
const state = {
  info: notYet(), // what the server offers
  photo: null, // {session, name, size, full, picture}
  artifact: notYet(), // id of the chosen one
  results: new Map(), // by artifact id
  device: null, // this device's result
  edited: null, // {picture, transparent, …} or null
  tab: "segments",
  view: "panoptic",
  selected: 0,
  outlined: false, // whether the selected segment has its line
  corrections: { add: [], remove: [] },
  tap: null, // where the selected segment was tapped, in 0..1
  unknown: false, // whether what is selected is a region that no class knows, round the tap
  compare: false,
  sides: { left: null, right: null }, // chosen layers, null: what suits the tab
};

/** @type {Map<string, string>} */
const busyWith = new Map(); // who is busy, and with what

/** @type {Panokit.Side[]} */
const SIDES = ["left", "right"];

/** What start() and begin() fill in. */
function notYet() {
  return /** @type {any} */ (null);
}

const result = () => known(state.results.get(state.artifact));
/** @param {string} id */
const offerOf = (id) => known(state.info.artifacts.find((a) => a.id === id));

const stage = new Stage({
  onSelect: (id, point) => {
    if (point && editPanel.correctsBy()) void editPanel.correct([point]);
    else if (point && !id && state.tab === "edit") void propose(point);
    else select(id, point);
  },
  onHover: hoverInList,
  isBrush: () => Boolean(editPanel.correctsBy()),
  onStroke: (points) => void editPanel.correct(points),
});
/** @type {Panokit.Edited | null} */
let edited = null; // what the edits made; state.edited may be a preview of it
const editor = new Editor({
  onChange: () => editPanel.update(),
  onBusy: (busy) => setBusy("edit", busy ? "Editing" : null),
  onError: (error) => complain(messageOf(error)),
  onNothing: (message) => complain(message),
  isSlow: (edit) => Boolean(state.info.edits[edit.do]?.slow),
  onPicture(drawn) {
    state.edited = edited = drawn;
    if (edited) state.outlined = false; // the line would hide what was done
    editPanel.said(edited);
    draw();
  },
});
const editPanel = showEditPanel({
  state, editor, pickOf, nameAt, select,
  showEdited: () => chooseTab("edit"),
  onPreview(preview) {
    state.edited = preview;
    state.outlined = false;
    draw();
  },
});
const devicePanel = showDevicePanel({ state, offerOf, setBusy, onResult: showDevice });
showLivePanel({
  state, offerOf,
  onOpen: () => showSection("viewfinder"),
  onClose: () => showSection("welcome"),
  onPhoto: (file) => void open({ file }),
});


// What is shown.

/**
 * The layers that can be compared: id → {label, picture, result}.
 * @returns {Record<string, Panokit.Layer>}
 */
function layers() {
  const { picture } = known(state.photo);
  /** @type {Record<string, Panokit.Layer>} */
  const found = { photo: { label: "Photo", picture, result: null } };
  for (const offer of state.info.artifacts.filter((a) => a.runs_here)) {
    const segmented = state.results.get(offer.id) ?? null;
    found[`segments:${offer.id}`] = { label: `Segments · ${offer.id}`, picture, result: segmented };
  }
  if (state.edited) found.edited = { label: "Edited", picture: state.edited.picture, result: null };
  if (state.device) found.device = { label: "This device", picture, result: state.device };
  return found;
}

/**
 * The layers that suit the tab.
 * @returns {Record<Panokit.Side, string>}
 */
function suited() {
  const segments = `segments:${state.artifact}`;
  if (state.tab === "edit") return { left: "photo", right: state.edited ? "edited" : "photo" };
  if (state.tab === "device" && state.device) return { left: segments, right: "device" };
  return { left: "photo", right: segments };
}

/** @param {"welcome" | "viewfinder" | "bench"} name */
function showSection(name) {
  for (const id of ["welcome", "viewfinder", "bench"]) byId(id).hidden = id !== name;
}

function draw() {
  if (!state.photo || !result()) return;
  const all = layers();
  const chosen = { ...suited() };
  if (state.compare) {
    for (const side of SIDES) {
      const wanted = state.sides[side];
      if (wanted && all[wanted]) chosen[side] = wanted;
    }
  }
  for (const side of SIDES) fillSelect(byId(side), all, chosen[side]);
  const right = all[chosen.right];
  byId("opacity-field").hidden = !right.result && !(state.compare && all[chosen.left].result);
  stage.show({
    left: state.compare ? all[chosen.left] : null,
    right,
    names: Boolean(right.result) && !state.compare,
    result: right.result ?? result(),
    selected: state.selected,
    outlined: state.outlined,
    view: state.view,
    description: `${state.photo.name}: ${summary(result())}`,
  });
}

/**
 * @param {HTMLSelectElement} field
 * @param {Record<string, Panokit.Layer>} all
 * @param {string} value
 */
function fillSelect(field, all, value) {
  const wanted = Object.entries(all).map(([id, { label }]) => `${id}\n${label}`).join("\n");
  if (field.dataset.filled !== wanted) {
    field.replaceChildren(...Object.entries(all).map(([id, { label }]) => new Option(label, id)));
    field.dataset.filled = wanted;
  }
  field.value = value;
}

/**
 * @param {string} who
 * @param {string | null} text
 */
function setBusy(who, text) {
  busyWith.delete(who);
  if (text) busyWith.set(who, text);
  byId("busy").hidden = !busyWith.size;
  byId("busy-text").textContent = [...busyWith.values()].at(-1) ?? "";
  byId("stage").setAttribute("aria-busy", String(busyWith.size > 0));
}

function list() {
  /** @type {(id: number) => void} */
  const onSelect = (id) => select(id, null);
  /** @type {(id: number) => void} */
  const onHover = (id) => stage.hover(id);
  const { results, selected } = state;
  listSegments(result(), { results, offerOf, selected, onSelect, onHover });
}

/**
 * @param {number} id
 * @param {Panokit.Pair | null} point where it was tapped, in 0..1
 */
function select(id, point) {
  if (id !== state.selected || state.unknown) {
    state.corrections = { add: [], remove: [] };
    state.edited = edited; // the preview ends
  }
  state.unknown = false;
  state.selected = id;
  state.outlined = true;
  state.tap = id && point ? point : null;
  for (const row of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".segment"))) {
    row.setAttribute("aria-pressed", String(Number(row.dataset.id) === id));
  }
  const segment = result()?.byId.get(id);
  say(segment ? `${title(segment)} selected` : "Nothing selected");
  editPanel.update();
  draw();
}

/**
 * Select the region that stands out round a place where no segment lies.
 * @param {Panokit.Pair} point in 0..1
 */
async function propose(point) {
  select(0, null);
  Object.assign(state, { tap: point, unknown: true });
  if (await editPanel.preview()) {
    say("A region without a name selected");
    editPanel.update();
  } else select(0, null);
}

/**
 * The selected segment as a pick of edits.json: a tap in pixels of the whole photo.
 * @param {number} id
 * @returns {Panokit.EditPick}
 */
function pickOf(id) {
  const [x, y] = state.tap ?? insidePoint(result(), id);
  const { add, remove } = state.corrections;
  /** @type {(points: Panokit.Pair[]) => Panokit.Pair[]} */
  const placed = (points) => points.map(onPhoto);
  return {
    tap: onPhoto([x, y]),
    ...(add.length ? { add: placed(add) } : {}),
    ...(remove.length ? { remove: placed(remove) } : {}),
  };
}

/**
 * A place in 0..1 in pixels of the whole photo.
 * @param {Panokit.Pair} place
 * @returns {Panokit.Pair}
 */
function onPhoto([x, y]) {
  const [w, h] = known(state.photo).full;
  return [Math.round(10 * x * w) / 10, Math.round(10 * y * h) / 10];
}

/**
 * What a pick is about, in words.
 * @param {Panokit.EditPick} pick
 */
function nameAt({ tap, class: name, segment: id }) {
  const found = result();
  if (name) return readable(name);
  const { full } = known(state.photo);
  const at = tap && [tap[0] / full[0], tap[1] / full[1]];
  const [w, h] = found.size;
  const hit = at ? found.ids[Math.floor(at[1] * h) * w + Math.floor(at[0] * w)] : id;
  const segment = found.byId.get(/** @type {number} */ (hit));
  return segment ? title(segment) : at ? "object" : "";
}

// Opening photos, artifacts, tabs.

/** How many photos were chosen; the last one counts. */
let opened = 0;

/** @param {{ file?: File, sample?: string }} source */
async function open(source) {
  const order = ++opened;
  clearComplaint();
  try {
    await ready; // a photo may be chosen before the server has said what it can do
  } catch (error) {
    return complain(messageOf(error));
  }
  if (order !== opened) return; // another was chosen meanwhile
  const most = state.info.limits.upload_bytes;
  if (source.file && source.file.size > most) {
    return complain(`${source.file.name} has ${megabytes(source.file.size)}; at most ${megabytes(most)} can be used.`);
  }
  document.body.classList.add("opening");
  setBusy("open", "Segmenting");
  say("Segmenting the photo");
  try {
    const answer = await api.open({ ...source, artifact: state.artifact });
    const picture = await createImageBitmap(await api.photo(answer.session, "jpg"));
    if (state.photo) api.close(state.photo.session);
    begin(answer, picture);
  } catch (error) {
    complain(messageOf(error));
  } finally {
    setBusy("open", null);
    document.body.classList.remove("opening");
  }
}

/**
 * @param {Panokit.SessionAnswer} answer
 * @param {Panokit.Picture} picture
 */
function begin(answer, picture) {
  const { session, name } = answer;
  const [w, h] = answer.full_wh;
  edited = null;
  Object.assign(state, { device: null, edited, selected: 0, tap: null, unknown: false, results: new Map() });
  state.photo = { session, name, size: answer.size_wh, full: [w, h], picture };
  state.sides = { left: null, right: null };
  keep(answer.result);
  byId("about").textContent = `${name} · ${w} × ${h} pixels`;
  showSection("bench");
  document.body.dataset.state = "open";
  stage.fit(state.photo.size);
  editor.begin(session, name, state.artifact);
  devicePanel.begin();
  editPanel.offer();
  list();
  editPanel.update();
  draw();
  say(`Found ${summary(result())}`);
}

/** @param {Panokit.Answer} answer */
function keep(answer) {
  const made = makeResult(answer, offerOf(answer.artifact).taxonomy, known(state.photo).size);
  state.results.set(answer.artifact, made);
}

/** @param {string} artifact */
async function resultOf(artifact) {
  if (state.results.has(artifact)) return;
  setBusy("segment", `Running ${artifact}`);
  try {
    keep(await api.segment(known(state.photo).session, artifact));
  } finally {
    setBusy("segment", null);
  }
}

/** @param {string} id */
async function chooseArtifact(id) {
  const before = state.artifact;
  try {
    if (state.photo) await resultOf(id);
    state.artifact = id;
    if (!state.photo) return;
    Object.assign(state, { selected: 0, tap: null, unknown: false, device: null });
    devicePanel.begin();
    list();
    editor.useArtifact(id);
    editPanel.update();
    draw();
  } catch (error) {
    byId("artifact").value = before;
    complain(messageOf(error));
  }
}

/** @param {Panokit.DeviceAnswer | null} found */
function showDevice(found) {
  if (found) {
    const reference = result();
    const answer = /** @type {Panokit.Answer} */ ({ ...found, colors: {} });
    const made = makeResult(answer, offerOf(found.artifact).taxonomy, known(state.photo).size);
    made.colors = colorsLike(made.segments, reference);
    state.device = made;
    state.compare = byId("compare").checked = true;
    state.sides = { left: null, right: null };
  }
  draw();
}

/**
 * @param {string} name
 * @param {boolean} focus
 */
function chooseTab(name, focus = false) {
  state.tab = name;
  state.sides = { left: null, right: null };
  for (const tab of tabs()) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(known(tab.getAttribute("aria-controls"))).hidden = !chosen;
    if (chosen && focus) tab.focus();
  }
  byId("views").hidden = name === "edit" && !state.compare;
  draw();
}

/** @returns {NodeListOf<HTMLElement>} */
function tabs() {
  return document.querySelectorAll("[role=tab]");
}

function listenToTabs() {
  const all = [...tabs()];
  for (const [i, tab] of all.entries()) {
    tab.addEventListener("click", () => chooseTab(tab.id.slice(4)));
    tab.addEventListener("keydown", (event) => {
      /** @type {Record<string, number | undefined>} */
      const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -i, End: all.length - 1 - i };
      const step = steps[event.key];
      if (step === undefined) return;
      event.preventDefault();
      chooseTab(all[(i + step + all.length) % all.length].id.slice(4), true);
    });
  }
}

function listenToViewer() {
  byId("views").addEventListener("change", (event) => {
    state.view = /** @type {Panokit.View} */ (target(event).value);
    draw();
  });
  const setOpacity = () => byId("stage").style.setProperty("--opacity", String(Number(byId("opacity").value) / 100));
  byId("opacity").addEventListener("input", setOpacity);
  setOpacity();
  byId("compare").addEventListener("change", (event) => {
    state.compare = target(event).checked;
    chooseTab(state.tab);
  });
  for (const side of SIDES) {
    byId(side).addEventListener("change", async (event) => {
      const { value } = target(event);
      state.sides[side] = value;
      const [kind, artifact] = value.split(/:(.*)/s);
      if (kind === "segments") await resultOf(artifact).catch((error) => complain(messageOf(error)));
      list();
      draw();
    });
  }
}

function listenToFiles() {
  for (const id of ["file", "camera", "file-again"]) {
    byId(id).addEventListener("change", (event) => {
      const [file] = target(event).files ?? [];
      if (file) open({ file });
      target(event).value = "";
    });
  }
  /** @param {boolean} on */
  const dragging = (on) => document.body.classList.toggle("dragging", on);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    dragging(true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? dragging(false));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(false);
    const [file] = event.dataTransfer?.files ?? [];
    if (file) open({ file });
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((f) => f.type.startsWith("image/"));
    if (file) open({ file });
  });
  byId("start-again").addEventListener("click", () => {
    showSection("welcome");
    /** @type {HTMLElement | null} */ (document.querySelector(".samples button"))?.focus();
  });
}

function listenToTheme() {
  const root = document.documentElement;
  root.dataset.theme = localStorage.getItem("theme") ?? "";
  byId("theme").addEventListener("click", () => {
    const dark = getComputedStyle(root).colorScheme === "dark";
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });
}

/** @type {() => void} */
let markReady;
/** @type {(error: unknown) => void} */
let markFailed;
/** @type {Promise<void>} */
const ready = new Promise((resolve, reject) => {
  [markReady, markFailed] = [resolve, reject];
});
ready.catch(() => {}); // told by start, and by every photo that is chosen

async function start() {
  listenToTheme();
  listenToTabs();
  listenToViewer();
  listenToFiles();
  byId("toast-close").addEventListener("click", clearComplaint);
  window.addEventListener("pagehide", () => state.photo && api.close(state.photo.session));
  try {
    state.info = await api.info();
  } catch (error) {
    markFailed(error);
    return complain(messageOf(error));
  }
  const { artifacts, samples } = state.info;
  editPanel.offer();
  state.artifact = state.info.default;
  const options = artifacts.filter((a) => a.runs_here);
  byId("artifact").replaceChildren(
    ...options.map((a) => new Option(`${named(a)} · ${megabytes(a.bytes)}`, a.id))
  );
  byId("artifact").value = state.artifact;
  byId("artifact").addEventListener("change", (event) => chooseArtifact(target(event).value));
  byId("samples-title").hidden = !samples.length;
  byId("samples").replaceChildren(...samples.map(sampleButton));
  document.body.dataset.ready = "yes";
  markReady();
}

/** @param {Panokit.Offer} offer */
const named = ({ id, precision }) => (id.includes(precision) ? id : `${id} · ${precision}`);

/** @param {string} name */
function sampleButton(name) {
  const image = element("img", { src: api.addressOf(`api/samples/${encodeURIComponent(name)}`), alt: "", loading: "lazy" });
  const button = element("button", { type: "button" }, [image, element("span", { textContent: readable(name) })]);
  button.dataset.sample = name;
  button.addEventListener("click", () => open({ sample: name }));
  return element("li", {}, [button]);
}

start();
