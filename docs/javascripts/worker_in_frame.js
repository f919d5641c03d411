/**
 * Search where the manual is opened as files: browsers give such pages no workers, so the search runs
 * in a hidden frame. On pages of a server nothing is changed.
 */
if (location.protocol === "file:") {
  class FrameWorker extends EventTarget {
    #frame = document.createElement("iframe");
    #loaded;

    /** @param {string | URL} url */
    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      const inside = /** @type {any} */ (this.#frame.contentWindow);
      inside.postMessage = (/** @type {unknown} */ data) =>
        this.dispatchEvent(new MessageEvent("message", { data }));
      const load = (/** @type {string | URL} */ source) =>
        new Promise((done) => {
          const script = inside.document.createElement("script");
          script.onload = done;
          script.src = String(source);
          inside.document.body.append(script);
        });
      inside.importScripts = (/** @type {string[]} */ ...sources) => Promise.all(sources.map(load));
      this.#loaded = load(url);
    }

    /** @param {unknown} data */
    async postMessage(data) {
      await this.#loaded;
      const inside = /** @type {any} */ (this.#frame.contentWindow);
      inside.dispatchEvent(new inside.MessageEvent("message", { data }));
    }

    terminate() {
      this.#frame.remove();
    }
  }
  Object.assign(window, { Worker: FrameWorker, IFrameWorker: FrameWorker });
}
