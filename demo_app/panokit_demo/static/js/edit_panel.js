// @ts-nocheck: its types come with those of the edit form.
/** The tab "Edit": tools for the selected object and the scene, the list of edits, files to keep. */

import * as api from "./api.js";
import { words } from "./editor.js";
import { byId, complain, element, save } from "./page.js";
import { title } from "./views.js";

const MAX_EDITS_FILE = 200_000;

/** Make the tab work. `update()` redraws it; `said(picture)` shows what the last drawing did. */
export function showEditPanel({ state, editor, pickOf, nameAt, select }) {
  const selected = () => state.results.get(state.artifact)?.byId.get(state.selected);
  const tools = {
    remove: () => ({ pick: pickOf(state.selected) }),
    lift: () => ({ pick: pickOf(state.selected) }),
    highlight: () => ({ pick: pickOf(state.selected), dim: 0.2 }),
    pixelate: () => ({ pick: pickOf(state.selected) }),
    recolor: () => ({ pick: pickOf(state.selected), color: byId("recolor-color").value }),
    replace_background: () => ({ fill: gradient(), ...(selected() ? { pick: pickOf(state.selected) } : {}) }),
    replace_sky: () => ({ fill: gradient() }),
  };
  const gradient = () => ({ gradient: [byId("fill-top").value, byId("fill-bottom").value] });

  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => {
      const edit = { do: button.dataset.do, ...tools[button.dataset.do]() };
      editor.set([...editor.edits, edit]);
      if (edit.do === "remove") select(0, null); // it is gone: there is nothing to outline
    });
  }

  let sliding = false; // the first move of a slide is a new step, the others change it
  byId("blur").addEventListener("input", () => {
    const strength = byId("blur").value / 100;
    const others = editor.edits.filter((e) => e.do !== "blur_background");
    const old = editor.edits.find((e) => e.do === "blur_background");
    const thing = selected()?.isthing;
    const pick = old ? old.pick : thing ? pickOf(state.selected) : undefined;
    const blur = { do: "blur_background", strength, ...(pick ? { pick } : {}) };
    const at = old ? editor.edits.indexOf(old) : others.length;
    const edits = strength ? [...others.slice(0, at), blur, ...others.slice(at)] : others;
    editor.set(edits, { live: true, first: !sliding });
    sliding = true;
  });
  byId("blur").addEventListener("change", () => (sliding = false));

  byId("undo").addEventListener("click", () => editor.undo());
  byId("redo").addEventListener("click", () => editor.redo());
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || !state.photo) return;
    event.preventDefault();
    if (event.shiftKey) editor.redo();
    else editor.undo();
  });

  const stem = () => state.photo.name.replace(/\.[^.]*$/, "");
  for (const kind of ["png", "jpg"]) {
    byId(`save-${kind}`).addEventListener("click", async (event) => {
      event.target.disabled = true;
      byId("save-about").textContent = "Drawing the whole photo …";
      try {
        const blob = await api.download(editor.session, editor.toJson(), state.artifact, kind);
        save(blob, `${stem()}-edited.${kind}`);
        byId("save-about").textContent = "Saved at full size, with the photo's profile and EXIF.";
      } catch (error) {
        byId("save-about").textContent = "";
        complain(error.message);
      } finally {
        update();
      }
    });
  }
  byId("save-edits").addEventListener("click", () => {
    const text = `${JSON.stringify(editor.toJson(), null, 2)}\n`;
    save(new Blob([text], { type: "application/json" }), "edits.json");
  });
  byId("load-edits").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    try {
      if (file.size > MAX_EDITS_FILE) throw new Error(`${file.name} is too large to be an edits.json.`);
      const { edits } = JSON.parse(await file.text());
      if (!Array.isArray(edits)) throw new Error(`${file.name} holds no list of edits.`);
      editor.set(edits);
    } catch (error) {
      complain(error instanceof SyntaxError ? `${file.name} is not JSON.` : error.message);
    }
  });

  function update() {
    const segment = selected();
    byId("picked-title").textContent = segment ? `The ${title(segment)}` : "Tap an object";
    byId("picked-about").hidden = Boolean(segment);
    for (const button of byId("object-tools").querySelectorAll("button")) button.disabled = !segment;
    const blur = editor.edits.find((e) => e.do === "blur_background");
    byId("blur").value = String(Math.round(100 * (blur?.strength ?? 0)));
    byId("blur-value").textContent = blur ? `${Math.round(100 * blur.strength)} %` : "off";
    const focus = blur ? blur.pick && nameAt(blur.pick) : segment?.isthing && title(segment);
    byId("blur-about").textContent = focus ? `Blurs what is behind the ${focus}.` : "Blurs what is behind the persons.";
    byId("undo").disabled = !editor.canUndo;
    byId("redo").disabled = !editor.canRedo;
    const items = editor.edits.map((e) => element("li", { textContent: words(e, nameAt) }));
    byId("history").replaceChildren(...items);
    if (!editor.edits.length) byId("edit-message").textContent = "";
    const transparent = Boolean(state.edited?.transparent && editor.edits.length);
    byId("save-png").disabled = false;
    byId("save-jpg").disabled = transparent;
    if (transparent) byId("save-about").textContent = "A lifted object is transparent, so it is saved as PNG.";
  }

  function said(edited) {
    byId("edit-message").textContent = edited?.message ?? "";
    byId("save-about").textContent = "";
    update();
  }

  return { update, said };
}
