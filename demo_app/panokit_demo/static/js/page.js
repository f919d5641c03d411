/** Small helpers for the page: elements, messages, and what the server says when it refuses. */

/** @type {<Id extends string>(id: Id) => Panokit.ElementOf<Id>} */
export const byId = (id) => /** @type {any} */ (document.getElementById(id));

/**
 * A value that is there: where it is missing, the program is wrong.
 * @template T
 * @param {T} value
 */
export const known = (value) => /** @type {NonNullable<T>} */ (value);

/**
 * The field that an event came from.
 * @param {Event} event
 */
export const target = (event) => /** @type {HTMLInputElement} */ (event.target);

/**
 * What a caught error says.
 * @param {unknown} error
 */
export const messageOf = (error) => /** @type {Error} */ (error).message;

/**
 * An element with properties and children.
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Partial<HTMLElementTagNameMap[Name]>} properties
 * @param {(Node | string)[]} children
 */
export function element(name, properties = {}, children = []) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

/**
 * Show a sentence that something went wrong, until it is closed or another takes its place.
 * @param {string} sentence
 */
export function complain(sentence) {
  byId("toast-text").textContent = sentence;
  byId("toast").hidden = false;
}

export function clearComplaint() {
  byId("toast").hidden = true;
}

/**
 * Tell people who listen to the page.
 * @param {string} sentence
 */
export function say(sentence) {
  byId("live").textContent = sentence;
}

/**
 * Give the browser time to draw before long work begins.
 * @returns {Promise<void>}
 */
export const drawn = () =>
  new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

/**
 * Hand a file to the person.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** @param {number} share */
export const percent = (share) =>
  share >= 0.0995 ? `${Math.round(100 * share)} %` : `${(100 * share).toFixed(1)} %`;

/** @param {number} bytes */
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** @param {string} name */
export const readable = (name) => name.replaceAll("_", " ");
