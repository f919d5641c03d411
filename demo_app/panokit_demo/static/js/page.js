/** Small helpers for the page: elements, messages, and what the server says when it refuses. */

export const byId = (id) => document.getElementById(id);

/** An element with properties and children. */
export function element(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Show a sentence that something went wrong, until it is closed or another takes its place. */
export function complain(sentence) {
  byId("toast-text").textContent = sentence;
  byId("toast").hidden = false;
}

export function clearComplaint() {
  byId("toast").hidden = true;
}

/** Tell people who listen to the page. */
export function say(sentence) {
  byId("live").textContent = sentence;
}

/** Give the browser time to draw before long work begins. */
export const drawn = () =>
  new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

/** Hand a file to the person. */
export function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const percent = (share) =>
  share >= 0.0995 ? `${Math.round(100 * share)} %` : `${(100 * share).toFixed(1)} %`;

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

export const readable = (name) => name.replaceAll("_", " ");
