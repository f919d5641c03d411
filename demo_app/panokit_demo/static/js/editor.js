/** Edits of the photo: a list with undo and redo, drawn by the server, the latest wish first. */

import * as api from "./api.js";
import { known } from "./page.js";

const MOST_STEPS = 200;

/**
 * @typedef {{
 *   onChange: (editor: Editor) => void,
 *   onPicture: (edited: Panokit.Edited | null) => void,
 *   onBusy: (busy: boolean) => void,
 *   onError: (error: Error) => void,
 *   onNothing: (message: string) => void,
 *   isSlow: (edit: Panokit.Edit) => boolean,
 * }} Listeners
 */

export class Editor {
  /** @type {Panokit.Edit[][]} */
  #steps = [[]];
  #at = 0;
  /** @type {WeakSet<Panokit.Edit[]>} */
  #kept = new WeakSet();
  #running = false;
  #wanted = false;
  #draft = false; // while a slider moves, and before slow edits: smaller pictures, sooner
  /** @type {AbortController | null} */
  #finishing = null; // ends the drawing of a whole picture that is wanted no more

  // What is edited, and whose segments the edits are about.
  /** @type {string | null} */
  session = null;
  name = "";
  artifact = "";

  /**
   * `onChange(editor)` after every step; `onPicture({picture, …} | null)` when one is drawn.
   * `isSlow(edit)`: whether the whole picture takes a second, so that a smaller one comes first.
   * @param {Listeners} listeners
   */
  constructor({ onChange, onPicture, onBusy, onError, onNothing, isSlow }) {
    this.onChange = onChange;
    this.onPicture = onPicture;
    this.onBusy = onBusy;
    this.onError = onError;
    this.onNothing = onNothing;
    this.isSlow = isSlow;
  }

  get edits() {
    return this.#steps[this.#at];
  }

  get canUndo() {
    return this.#at > 0;
  }

  get canRedo() {
    return this.#at < this.#steps.length - 1;
  }

  /**
   * Begin with another photo.
   * @param {string} session
   * @param {string} name
   * @param {string} artifact
   */
  begin(session, name, artifact) {
    this.#steps = [[]];
    this.#at = 0;
    this.session = session;
    this.name = name;
    this.artifact = artifact;
    this.onChange(this);
  }

  /**
   * The file edits.json.
   * @param {Panokit.Edit[]} edits
   * @returns {Panokit.EditsFile}
   */
  toJson(edits = this.edits) {
    return { version: 1, photo: this.name, edits };
  }

  /**
   * A new step. With `live`, it takes the place of the last one, which was live too.
   * @param {Panokit.Edit[]} edits
   * @param {{ live?: boolean, first?: boolean, kept?: boolean }} options `kept`: also when it changes
   *   nothing, as what a file holds
   */
  set(edits, { live = false, first = false, kept = false } = {}) {
    if (kept) this.#kept.add(edits);
    if (live && !first && this.#at > 0) this.#steps[this.#at] = edits;
    else {
      this.#steps = [...this.#steps.slice(0, this.#at + 1), edits].slice(-MOST_STEPS);
      this.#at = this.#steps.length - 1;
      globalThis.history?.pushState({ edit: this.#at }, ""); // Back takes it back
    }
    this.#steps.length = this.#at + 1;
    this.#draft = live;
    this.#changed();
  }

  undo() {
    if (!this.canUndo) return;
    this.#draft = false;
    this.#at--;
    this.#changed();
  }

  redo() {
    if (!this.canRedo) return;
    this.#draft = false;
    this.#at++;
    this.#changed();
  }

  /** @param {string} artifact */
  useArtifact(artifact) {
    this.artifact = artifact;
    if (this.edits.length) this.#changed();
  }

  #changed() {
    this.onChange(this);
    this.#wanted = true;
    if (this.edits.some(this.isSlow)) this.#draft = true;
    this.#finishing?.abort();
    if (!this.#running) this.#draw();
  }

  /** Draw until what is shown is what is wanted. */
  async #draw() {
    this.#running = true;
    this.onBusy(true);
    while (this.#wanted) {
      this.#wanted = false;
      const { session, edits, artifact } = this;
      const draft = this.#draft;
      this.#finishing = draft ? null : new AbortController();
      try {
        const wish = { edits: this.toJson(edits), artifact, draft };
        const drawn = edits.length ? await api.effect(known(session), wish, this.#finishing?.signal) : null;
        const picture = drawn && (await createImageBitmap(drawn.blob));
        // While a slider moves, what is behind it is shown too; after an undo it is not.
        const current = edits.length === this.edits.length;
        if (session === this.session && drawn && current && !drawn.applied && this.#isLast(edits)) {
          this.#forget(drawn.message);
          continue;
        }
        if (session === this.session && current) this.onPicture(drawn && { ...drawn, picture: known(picture) });
        if (draft && !this.#wanted) {
          this.#draft = false;
          this.#wanted = true;
        }
      } catch (caught) {
        const error = /** @type {api.Refused} */ (caught);
        if (session === this.session && error.name !== "AbortError") this.#takeBack(error, edits);
      }
    }
    this.#finishing = null;
    this.#running = false;
    this.onBusy(false);
  }

  /**
   * Whether a list is the last step, and not one that a slider still changes.
   * @param {Panokit.Edit[]} edits
   */
  #isLast(edits) {
    return this.edits === edits && !this.#kept.has(edits) && this.#at === this.#steps.length - 1 && this.#at > 0;
  }

  /**
   * An edit that changed nothing leaves the list again, and what it said is shown.
   * @param {string} message
   */
  #forget(message) {
    this.#steps.length = this.#at;
    this.#at--;
    this.onChange(this);
    this.onNothing(message);
    this.#wanted = this.edits.length > 0;
    if (!this.edits.length) this.onPicture(null);
  }

  /**
   * An edit that was refused leaves the list again.
   * @param {api.Refused} error
   * @param {Panokit.Edit[]} edits
   */
  #takeBack(error, edits) {
    this.onError(error);
    if (error.status === 422 && this.edits === edits && this.#at > 0) {
      this.#steps.splice(this.#at, 1);
      this.#at--;
      this.onChange(this);
      this.#wanted = true;
    }
  }
}
