/** The tab "Edit": tools for the selected object and the scene, the list of edits, files to keep. */

import * as api from "./api.js";
import { editButtons, percentOf, portraitOf, words } from "./edit_form.js";
import { byId, complain, element, known, messageOf, save, target } from "./page.js";
import { title } from "./views.js";

const MAX_POINTS = 1000; // of each way, as picks have it
const MAX_EDITS_FILE = 200_000;

/**
 * Make the tab work. `offer()` makes its tools once the server has said what there is; `update()`
 * redraws it; `said(picture)` shows what the last drawing did.
 * @param {{
 *   state: Panokit.State,
 *   editor: import("./editor.js").Editor,
 *   pickOf: (id: number) => Panokit.EditPick | undefined,
 *   nameAt: (pick: Panokit.EditPick) => string,
 *   select: (id: number, tap: Panokit.Pair | null) => void,
 *   showEdited: () => void,
 *   onPreview: (edited: Panokit.Edited) => void,
 * }} page
 */
export function showEditPanel({ state, editor, pickOf, nameAt, select, showEdited, onPreview }) {
  const selected = () => state.results.get(state.artifact)?.byId.get(state.selected);
  /** @returns {{ name: string, isthing: boolean } | null} */
  const chosen = () => {
    const segment = selected();
    if (segment) return { name: title(segment), isthing: Boolean(segment.isthing) };
    return state.unknown ? { name: "object", isthing: true } : null;
  };

  /** @type {{ id: number, tap: Panokit.Pair | null, edits: number } | null} */
  let removed = null; // what was selected when it was removed, to be selected again by an undo

  /** Whether a tap adds to the selected object, takes away from it, or (nothing) selects. */
  const correctsBy = () =>
    chosen() && !byId("correct").hidden
      ? /** @type {"add" | "remove" | ""} */ (
          /** @type {HTMLInputElement | null} */ (document.querySelector?.("#correct input:checked"))?.value ?? ""
        )
      : "";

  const strokes = { add: 0, remove: 0 }; // of the selected object, for people to read

  /**
   * Take a stroke (or a tap: one point) up into the corrections of the selected object, and show it
   * lit up.
   * @param {Panokit.Pair[]} points in 0..1
   */
  async function correct(points) {
    const way = correctsBy();
    if (!way) return;
    const { add: more, remove: less } = state.corrections;
    if (!more.length && !less.length) Object.assign(strokes, { add: 0, remove: 0 });
    if (state.corrections[way].length + points.length > MAX_POINTS) {
      complain("These are more strokes than can be kept; choose what to do with the object first.");
      return;
    }
    state.corrections[way].push(...points);
    strokes[way]++;
    byId("correct-about").textContent = `${strokes.add} added, ${strokes.remove} taken away. Now choose what to do.`;
    byId("correct-about").hidden = false;
    await preview();
  }

  /** Show what is selected lit up, before anything is done to it; whether there is something. */
  async function preview() {
    const lit = { do: "highlight", dim: 0.35, pick: pickOf(state.selected) };
    /** @param {Panokit.Edit[]} edits */
    const draw = (edits) =>
      api.effect(known(editor.session), { edits: editor.toJson(edits), artifact: state.artifact, draft: true });
    try {
      let drawn = await draw([lit]);
      if (!drawn.applied) throw new Error("No object stands out here.");
      if (editor.edits.length) drawn = await draw([...editor.edits, lit]);
      const picture = await createImageBitmap(drawn.blob);
      onPreview({ ...drawn, picture });
      return true;
    } catch (error) {
      complain(messageOf(error));
      return false;
    }
  }

  /**
   * Take a picture up as a background.
   * @param {File} file
   */
  async function keep(file) {
    try {
      if (file.size > state.info.limits.upload_bytes) throw new Error(`${file.name} is too large to be used.`);
      return await api.background(known(editor.session), file);
    } catch (error) {
      complain(messageOf(error));
      return null;
    }
  }

  /** Make the tools anew: what they were set to belongs to the photo before. */
  function offer() {
    for (const group of ["object", "scene"]) {
      byId(`${group}-tools`).replaceChildren(...editButtons(state.info.edits, group, add, keep));
    }
    const quick = editButtons(state.info.edits, "object", (...edit) => {
      showEdited();
      add(...edit);
    });
    const blur = element("button", { type: "button", textContent: "Blur behind" });
    blur.addEventListener("click", () => {
      showEdited();
      const { name, parameter } = portraitOf(state.info.edits);
      const others = editor.edits.filter((e) => e.do !== name);
      editor.set([...others, { do: name, [parameter.name]: parameter.default, pick: pickOf(state.selected) }]);
    });
    byId("bar-tools").replaceChildren(blur, ...quick);
  }

  /**
   * @param {string} name
   * @param {Panokit.EditKind} kind
   * @param {Record<string, Panokit.EditValue>} settings
   */
  function add(name, kind, settings) {
    const pick = kind.parameters.some((p) => p.kind === "pick") && chosen();
    const edit = { do: name, ...settings, ...(pick ? { pick: pickOf(state.selected) } : {}) };
    editor.set([...editor.edits, edit]);
    if (name !== "remove") return;
    removed = { id: state.selected, tap: state.tap, edits: editor.edits.length };
    select(0, null); // it is gone: there is nothing to outline
  }

  let sliding = false; // the first move of a slide is a new step, the others change it
  byId("blur").addEventListener("input", () => {
    const { name, parameter } = portraitOf(state.info.edits);
    const share = Number(byId("blur").value) / 100;
    const strength = parameter.low + (parameter.high - parameter.low) * share;
    const others = editor.edits.filter((e) => e.do !== name);
    const old = editor.edits.find((e) => e.do === name);
    const thing = chosen()?.isthing;
    const pick = old ? old.pick : thing ? pickOf(state.selected) : undefined;
    const blur = { do: name, [parameter.name]: strength, ...(pick ? { pick } : {}) };
    const at = old ? editor.edits.indexOf(old) : others.length;
    const edits = share ? [...others.slice(0, at), blur, ...others.slice(at)] : others;
    editor.set(edits, { live: true, first: !sliding });
    sliding = true;
  });
  byId("blur").addEventListener("change", () => (sliding = false));

  byId("bar-close").addEventListener("click", () => select(0, null));
  byId("undo").addEventListener("click", () => editor.undo());
  byId("redo").addEventListener("click", () => editor.redo());
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || !state.photo) return;
    event.preventDefault();
    if (event.shiftKey) editor.redo();
    else editor.undo();
  });

  // The browser's Back takes back an edit, as long as there is one.
  globalThis.addEventListener?.("popstate", () => {
    if (state.photo && editor.canUndo) editor.undo();
  });

  const stem = () => known(state.photo).name.replace(/\.[^.]*$/, "");
  for (const kind of ["png", "jpg"]) {
    byId(`save-${kind}`).addEventListener("click", async (event) => {
      target(event).disabled = true;
      byId("save-about").textContent = "Drawing the whole photo …";
      try {
        const blob = await api.download(known(editor.session), editor.toJson(), state.artifact, kind);
        save(blob, `${stem()}-edited.${kind}`);
        byId("save-about").textContent = "Saved at full size, with the photo's profile and EXIF.";
      } catch (error) {
        byId("save-about").textContent = "";
        complain(messageOf(error));
      } finally {
        update();
      }
    });
  }
  byId("share").addEventListener("click", async (event) => {
    target(event).disabled = true;
    try {
      const kind = state.edited?.transparent ? "png" : "jpg";
      const blob = await api.download(known(editor.session), editor.toJson(), state.artifact, kind);
      const file = new File([blob], `${stem()}-edited.${kind}`, { type: blob.type });
      await navigator.share({ files: [file] });
    } catch (error) {
      if (/** @type {Error} */ (error).name !== "AbortError") complain(messageOf(error));
    } finally {
      target(event).disabled = false;
    }
  });
  const probe = new File([new Uint8Array(1)], "a.jpg", { type: "image/jpeg" });
  byId("share").hidden = !globalThis.navigator?.canShare?.({ files: [probe] });
  byId("save-edits").addEventListener("click", () => {
    const text = `${JSON.stringify(editor.toJson(), null, 2)}\n`;
    save(new Blob([text], { type: "application/json" }), "edits.json");
  });
  byId("load-edits").addEventListener("change", async (event) => {
    const [file] = known(target(event).files);
    target(event).value = "";
    if (!file) return;
    try {
      if (file.size > MAX_EDITS_FILE) throw new Error(`${file.name} is too large to be an edits.json.`);
      const { edits } = JSON.parse(await file.text());
      if (!Array.isArray(edits)) throw new Error(`${file.name} holds no list of edits.`);
      editor.set(edits, { kept: true });
    } catch (error) {
      complain(error instanceof SyntaxError ? `${file.name} is not JSON.` : messageOf(error));
    }
  });

  function update() {
    if (removed && editor.edits.length < removed.edits) {
      const { id, tap } = removed;
      removed = null;
      select(id, tap);
    }
    const segment = chosen();
    byId("correct").hidden = !segment?.isthing;
    const { add: more, remove: less } = state.corrections ?? { add: [], remove: [] };
    if (!more.length && !less.length) byId("correct-about").hidden = true;
    const first = /** @type {HTMLInputElement | null | undefined} */ (document.querySelector?.("#correct input"));
    if (!segment && first) first.checked = true;
    byId("object-bar").hidden = !segment;
    byId("bar-title").textContent = segment?.name ?? "";
    byId("picked-title").textContent = segment ? `The ${segment.name}` : "Tap an object";
    byId("picked-about").hidden = Boolean(segment);
    for (const button of byId("object-tools").querySelectorAll("button")) button.disabled = !segment;
    const { name, parameter } = portraitOf(state.info.edits);
    const blur = editor.edits.find((e) => e.do === name);
    const percent = blur ? percentOf(blur, parameter) : 0;
    byId("blur").value = String(percent);
    byId("blur-value").textContent = blur ? `${percent} %` : "off";
    const focus = blur ? blur.pick && nameAt(blur.pick) : segment?.isthing && segment.name;
    byId("blur-about").textContent = focus ? `Blurs what is behind the ${focus}.` : "Blurs what is behind the persons.";
    byId("undo").disabled = !editor.canUndo;
    byId("redo").disabled = !editor.canRedo;
    const items = editor.edits.map((e) => element("li", { textContent: words(e, state.info.edits, nameAt) }));
    byId("history").replaceChildren(...items);
    if (!editor.edits.length) byId("edit-message").textContent = "";
    const transparent = Boolean(state.edited?.transparent && editor.edits.length);
    byId("save-png").disabled = false;
    byId("save-jpg").disabled = transparent;
    if (transparent) byId("save-about").textContent = "A lifted object is transparent, so it is saved as PNG.";
  }

  /** @param {Panokit.Edited | null} edited */
  function said(edited) {
    byId("edit-message").textContent = edited?.message ?? "";
    byId("save-about").textContent = "";
    update();
  }

  return { offer, update, said, preview, correct, correctsBy };
}
