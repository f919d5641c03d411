/**
 * The page of `panokit annotate`: labels of photos, corrected by hand.
 *
 * The server holds the truth: each step is sent, done there, and its answer is drawn. Points are in
 * pixels of the photo.
 */

import { addressOf, Refused } from "./api.js";

/** @typedef {{ id: number, category: number, crowd: boolean, score: number | null, area: number, bbox: number[] }} Part */
/** @typedef {{ name: string, size_wh: [number, number], segments: Part[], can_undo: boolean, can_redo: boolean, done: boolean }} Labels */
/** @typedef {{ id: number, name: string, isthing: number, color: number[] }} Category */
/** @typedef {{ annotator: string, categories: Category[], photos: { name: string, done: boolean }[] }} Project */

/** @type {(id: string) => any} an element of the page, of whatever kind it is there */
const $ = (id) => document.getElementById(id);

/** @type {HTMLCanvasElement[]} */
const [base, overlay, canvas] = [$("base"), $("overlay"), $("canvas")];

/** @type {Project} */
let project = { annotator: "", categories: [], photos: [] };
/** @type {Labels | null} */
let labels = null;
let ids = new Int32Array(0);
let index = 0;
let category = 0;
/** @type {Set<number>} */
let selected = new Set();
/** @type {[number, number][] | null} */
let drawing = null;
/** @type {Promise<unknown>} */
let waiting = Promise.resolve();

const tool = () =>
  /** @type {HTMLInputElement} */ (document.querySelector("#tools input:checked")).value;
const radius = () => Number($("radius").value);
/** @type {(id: number) => Category} */
const categoryOf = (id) => /** @type {Category} */ (project.categories.find((c) => c.id === id));

// ---------------------------------------------------------------------------------- the server

/**
 * @param {string} path
 * @param {object} [body]
 * @returns {Promise<any>}
 */
async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(addressOf(`api/${path}`), options).catch(() => {
    throw new Refused("The server cannot be reached. What was done so far is kept there.", 0);
  });
  if (answer.ok) return answer.json();
  const detail = await answer.json().then((told) => told.detail, () => null);
  throw new Refused(detail ?? `The server answered ${answer.status}.`, answer.status);
}

/**
 * Do one thing after another; a refusal is shown.
 * @param {() => Promise<void>} work
 */
function inTurn(work) {
  waiting = waiting.then(async () => {
    $("busy").hidden = false;
    try {
      await work();
      $("toast").hidden = true;
    } catch (error) {
      $("toast").hidden = false;
      /** @type {HTMLElement} */ ($("toast").firstElementChild).textContent =
        /** @type {Error} */ (error).message;
      await draw();
    } finally {
      $("busy").hidden = true;
    }
  });
  return waiting;
}

/** @param {number} to */
function open(to) {
  return inTurn(async () => {
    index = Math.min(Math.max(to, 0), project.photos.length - 1);
    selected = new Set();
    labels = await ask(`photos/${index}`);
    const picture = await bitmap(`photos/${index}/photo.jpg`);
    const [w, h] = /** @type {Labels} */ (labels).size_wh;
    $("stage").style.setProperty("--ratio", String(w / h));
    for (const c of [overlay, canvas]) Object.assign(c, { width: w, height: h });
    Object.assign(base, { width: picture.width, height: picture.height });
    base.getContext("2d")?.drawImage(picture, 0, 0);
    await readIds();
    await draw();
    history.replaceState(null, "", `#${index + 1}`);
    if (index + 1 < project.photos.length) void ask(`photos/${index + 1}`).catch(() => {});
  });
}

/** @param {object} operation */
function apply(operation) {
  return inTurn(async () => {
    labels = await ask(`photos/${index}`, operation);
    await readIds();
    await draw();
  });
}

/** @param {string} path */
async function bitmap(path) {
  const answer = await fetch(addressOf(`api/${path}`), { cache: "no-store" });
  if (!answer.ok) throw new Refused("The photo cannot be read.", answer.status);
  return createImageBitmap(await answer.blob(), {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
}

async function readIds() {
  const picture = await bitmap(`photos/${index}/ids.png`);
  const scratch = new OffscreenCanvas(picture.width, picture.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
    scratch.getContext("2d", { willReadFrequently: true })
  );
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  ids = new Int32Array(picture.width * picture.height);
  for (let i = 0; i < ids.length; i++) {
    ids[i] = data[4 * i] | (data[4 * i + 1] << 8) | (data[4 * i + 2] << 16);
  }
  const there = new Set(labels?.segments.map((s) => s.id));
  selected = new Set([...selected].filter((id) => there.has(id)));
}

// ------------------------------------------------------------------------------------- drawing

/**
 * The nth of a class in a colour a little apart from the first's.
 * @returns {Map<number, [number, number, number]>}
 */
function colors() {
  const nth = new Map();
  const out = new Map();
  for (const s of labels?.segments ?? []) {
    const { color, isthing } = categoryOf(s.category);
    const n = nth.get(s.category) ?? 0;
    nth.set(s.category, n + 1);
    const turn = isthing ? ((n % 5) - 2) * 22 * (n ? 1 : 0) : 0;
    out.set(s.id, color.map((v, i) => Math.min(255, Math.max(0, v + turn * (i === n % 3 ? 1.6 : 1)))));
  }
  return out;
}

async function draw() {
  if (!labels) return;
  const [w, h] = labels.size_wh;
  const image = new ImageData(w, h);
  const palette = colors();
  for (let i = 0; i < ids.length; i++) {
    const color = palette.get(ids[i]);
    if (!color) continue;
    const edge = (i % w && ids[i - 1] !== ids[i]) || (i >= w && ids[i - w] !== ids[i]);
    const chosen = selected.size && selected.has(ids[i]);
    const shade = edge ? 0.45 : 1;
    const at = 4 * i;
    for (let c = 0; c < 3; c++) image.data[at + c] = color[c] * shade;
    image.data[at + 3] = chosen || edge ? 255 : selected.size ? 150 : 210;
  }
  overlay.getContext("2d")?.putImageData(image, 0, 0);
  marks();
  lists();
}

function marks() {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.clearRect(0, 0, canvas.width, canvas.height);
  const scale = canvas.width / Math.max(1, canvas.clientWidth);
  for (const s of labels?.segments ?? []) {
    if (!selected.has(s.id)) continue;
    const [x, y, w, h] = s.bbox;
    context.lineWidth = 2 * scale;
    context.strokeStyle = "#fff";
    context.strokeRect(x, y, w, h);
    context.setLineDash([6 * scale, 6 * scale]);
    context.strokeStyle = "#000";
    context.strokeRect(x, y, w, h);
    context.setLineDash([]);
  }
  if (!drawing) return;
  const wide = tool() === "paint" || tool() === "erase";
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = wide ? 2 * radius() : 2 * scale;
  const [r, g, b] = tool() === "erase" ? [255, 255, 255] : categoryOf(category).color;
  context.strokeStyle = context.fillStyle = `rgb(${r} ${g} ${b} / ${wide ? 0.6 : 1})`;
  context.beginPath();
  drawing.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (drawing.length === 1) context.lineTo(drawing[0][0] + 0.01, drawing[0][1]);
  context.stroke();
}

function lists() {
  if (!labels) return;
  const done = project.photos.filter((p) => p.done).length;
  $("progress").textContent = `${done} of ${project.photos.length} photos done`;
  $("photos").replaceChildren(
    ...project.photos.map((p, i) => new Option(`${p.done ? "✓ " : ""}${p.name}`, String(i), false, i === index)),
  );
  const find = $("search").value.trim().toLowerCase();
  $("classes").replaceChildren(
    ...project.categories
      .filter((c) => c.name.toLowerCase().includes(find))
      .map((c) => item(swatch(c.color), c.name, c.id === category, () => choose(c.id))),
  );
  const palette = colors();
  const total = labels.size_wh[0] * labels.size_wh[1];
  const parts = [...labels.segments].sort((a, b) => b.area - a.area);
  $("found").textContent = `${parts.length} segments`;
  $("segments").replaceChildren(
    ...parts.map((s) => {
      const share = `${((100 * s.area) / total).toFixed(1)} %`;
      const name = categoryOf(s.category).name + (s.crowd ? " (crowd)" : "");
      const row = item(swatch(palette.get(s.id) ?? [0, 0, 0]), name, selected.has(s.id), (event) =>
        select(s.id, event.shiftKey),
      );
      const button = /** @type {HTMLElement} */ (row.firstElementChild);
      button.className = "segment";
      button.dataset.segment = String(s.id);
      const number = document.createElement("span");
      number.className = "number";
      number.textContent = s.score === null ? share : `${Math.round(100 * s.score)} · ${share}`;
      button.append(number);
      return row;
    }),
  );
  const stuffed = labels.segments.filter((s) => selected.has(s.id));
  $("undo").disabled = !labels.can_undo;
  $("redo").disabled = !labels.can_redo;
  $("merge").disabled = selected.size < 2;
  $("part").disabled = stuffed.length !== 1 || !categoryOf(stuffed[0].category).isthing;
  $("delete").disabled = !selected.size;
  $("done").textContent = labels.done ? "✓ Right already, next" : "✓ Right, next";
}

/**
 * @param {HTMLElement} mark
 * @param {string} text
 * @param {boolean} pressed
 * @param {(event: MouseEvent) => void} act
 */
function item(mark, text, pressed, act) {
  const [row, button, name] = ["li", "button", "span"].map((tag) => document.createElement(tag));
  button.setAttribute("type", "button");
  button.setAttribute("aria-pressed", String(pressed));
  name.textContent = text;
  button.append(mark, name);
  button.addEventListener("click", act);
  row.append(button);
  return row;
}

/** @param {number[]} color */
function swatch(color) {
  const mark = document.createElement("span");
  mark.className = "swatch";
  mark.style.background = `rgb(${color.map(Math.round).join(" ")})`;
  return mark;
}

// -------------------------------------------------------------------------------------- acting

/**
 * @param {number} id
 * @param {boolean} more
 */
function select(id, more) {
  if (more) selected.has(id) ? selected.delete(id) : selected.add(id);
  else selected = selected.size === 1 && selected.has(id) ? new Set() : new Set([id]);
  const [one] = selected;
  const found = labels?.segments.find((s) => s.id === one);
  if (found) category = found.category;
  void draw();
}

/** @param {number} id */
function choose(id) {
  category = id;
  if (selected.size) void apply({ operation: "relabel", segments: [...selected], category: id });
  else lists();
}

/** @type {Record<string, () => unknown>} */
const acts = {
  undo: () => labels?.can_undo && apply({ operation: "undo" }),
  redo: () => labels?.can_redo && apply({ operation: "redo" }),
  merge: () => selected.size > 1 && apply({ operation: "merge", segments: [...selected] }),
  part: () => selected.size === 1 && apply({ operation: "cut", segment: [...selected][0] }),
  delete: () => selected.size && apply({ operation: "delete", segments: [...selected] }),
  previous: () => open(index - 1),
  next: () => open(index + 1),
  done: async () => {
    await inTurn(async () => {
      labels = await ask(`photos/${index}/done`, { done: true });
      project.photos[index].done = true;
      await draw();
    });
    const left = project.photos.findIndex((p, i) => !p.done && i > index);
    if (left >= 0) await open(left);
  },
};

/** @param {PointerEvent} event @returns {[number, number]} */
function place(event) {
  const box = canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * canvas.width) / box.width,
    ((event.clientY - box.top) * canvas.height) / box.height,
  ];
}

canvas.addEventListener("pointerdown", (event) => {
  if (!labels || event.button) return;
  const [x, y] = place(event);
  if (tool() === "select") {
    const id = ids[Math.floor(y) * canvas.width + Math.floor(x)];
    if (id) select(id, event.shiftKey);
    else if (!event.shiftKey) {
      selected = new Set();
      void draw();
    }
    return;
  }
  canvas.setPointerCapture(event.pointerId);
  drawing = [[x, y]];
  marks();
});
canvas.addEventListener("pointermove", (event) => {
  if (!drawing) return;
  for (const each of event.getCoalescedEvents?.() ?? [event]) drawing.push(place(each));
  marks();
});
canvas.addEventListener("pointercancel", () => {
  drawing = null;
  marks();
});
canvas.addEventListener("pointerup", () => {
  if (!drawing) return;
  const points = thinned(drawing);
  drawing = null;
  const [one] = selected;
  const free = $("free").checked;
  if (tool() === "cut") {
    const [x, y] = points[Math.floor(points.length / 2)];
    const under = ids[Math.floor(y) * canvas.width + Math.floor(x)];
    void apply({ operation: "cut", segment: one ?? under, points });
  } else if (tool() === "erase") {
    void apply({ operation: "paint", points, radius: radius(), segment: 0 });
  } else {
    const fill = tool() === "outline";
    const known = labels?.segments.find((s) => s.id === one);
    const grows = selected.size === 1 && known?.category === category;
    const to = grows ? { segment: one } : { category };
    void apply({ operation: "paint", points, radius: radius(), fill, free, ...to });
  }
});

/**
 * Points without those that hardly move.
 * @param {[number, number][]} points
 */
function thinned(points) {
  const kept = [points[0]];
  for (const [x, y] of points) {
    const [a, b] = kept[kept.length - 1];
    if (Math.hypot(x - a, y - b) >= 0.75) kept.push([x, y]);
  }
  return kept;
}

for (const name of Object.keys(acts)) $(name).addEventListener("click", () => acts[name]());
$("photos").addEventListener("change", () => open(Number($("photos").value)));
$("opacity").addEventListener("input", () => {
  $("stage").style.setProperty("--opacity", String(Number($("opacity").value) / 100));
});
$("search").addEventListener("input", lists);
$("search").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  const find = $("search").value.trim().toLowerCase();
  const match = project.categories.find((c) => c.name.toLowerCase().includes(find));
  if (event.key === "Enter" && match) {
    $("search").value = "";
    canvas.focus();
    choose(match.id);
  }
  if (event.key === "Escape") canvas.focus();
});
/** @type {HTMLElement} */ ($("toast").lastElementChild).addEventListener("click", () => {
  $("toast").hidden = true;
});

/** @type {Record<string, string>} */
const TOOLS = { v: "select", b: "paint", o: "outline", e: "erase", x: "cut" };
/** @type {Record<string, string>} */
const KEYS = { m: "merge", s: "part", n: "next", p: "previous", delete: "delete", backspace: "delete", enter: "done" };

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.matches("input[type=search], select");
  if (typing || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === "enter" && target.matches("button")) return;
  if (key === "z") acts[event.shiftKey ? "redo" : "undo"]();
  else if (event.ctrlKey || event.metaKey) return;
  else if (TOOLS[key]) {
    const input = /** @type {HTMLInputElement} */ (document.querySelector(`#tools [value=${TOOLS[key]}]`));
    input.checked = true;
  } else if (KEYS[key]) acts[KEYS[key]]();
  else if (key === "/") $("search").focus();
  else if (key === "[" || key === "]") $("radius").value = String(radius() * (key === "[" ? 0.8 : 1.25));
  else if (key === "escape") {
    selected = new Set();
    void draw();
  } else return;
  event.preventDefault();
});

await inTurn(async () => {
  project = await ask("project");
  category = project.categories[0].id;
});
const asked = Number(location.hash.slice(1)) - 1;
const first = project.photos.findIndex((p) => !p.done);
await open(asked >= 0 ? asked : Math.max(0, first));
document.body.dataset.ready = "true";
