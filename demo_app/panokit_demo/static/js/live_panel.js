/** The live camera: its frames go through the worker and onto the canvas, one at a time. */

import * as api from "./api.js";
import { grab, sizeOf } from "./frames.js";
import { LiveView } from "./live_view.js";
import { byId, complain, element, known, messageOf, readable, say, target } from "./page.js";

const WIDEST = 1280; // wished-for width of the camera's picture
const FILL = [[0.16, 0.3, 0.42], [0.75, 0.83, 0.86]]; // behind the subject: from above to below
const CONFIRMED = 5; // frames that an object must be seen in to be named
/** @type {Record<string, string>} */
const PROBLEMS = {
  NotAllowedError: "The browser did not allow the camera. Allow it for this page, then try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera cannot be read; another program may be using it.",
  OverconstrainedError: "The camera cannot give a picture that fits.",
};

class Camera {
  #video = element("video", { muted: true, playsInline: true });
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {Worker | null} */
  #worker = null;
  #opened = false; // whether the worker has its model
  #stopped = false;
  #fresh = false; // whether the camera has a frame that was not sent
  #waiting = false; // whether a frame is with the worker
  #subject = 0;
  /** @type {{ frame: Panokit.Frame, found: Panokit.LiveFrame, overlay: Uint8Array } | null} */
  #last = null;
  /** @type {number[]} */
  #times = []; // of the last frames
  #lost = 0; // frames since the subject was seen
  #said = "";
  /** @type {number[][]} */
  #named = []; // by channel: the numbers of its objects, in the order of their names
  facing = "user";

  /**
   * @param {Panokit.Offer} offer
   * @param {(error: Error) => void} onError
   */
  constructor(offer, onError) {
    this.offer = offer;
    this.onError = onError;
    this.effect = known(/** @type {HTMLInputElement} */ (document.querySelector("[name=live-effect]:checked"))).value;
  }

  /** @param {string} facing */
  async start(facing) {
    this.facing = facing;
    this.#busy("Starting the camera and the model");
    try {
      this.view = new LiveView(byId("live-view"));
      const wish = { facingMode: facing, width: { ideal: WIDEST }, frameRate: { ideal: 30 } };
      const [stream] = await Promise.all([this.#openStream(wish), this.#openWorker()]);
      if (this.#stopped) return this.stop();
      const [track] = stream.getVideoTracks();
      const real = track.getSettings().facingMode;
      byId("live-view").classList.toggle("mirrored", (real ?? facing) === "user");
      track.addEventListener("ended", () => this.onError(new Error("the camera went away")));
      this.#video.srcObject = stream;
      await this.#video.play();
      const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === "videoinput");
      byId("live-turn").hidden = cameras.length < 2;
      byId("live-shutter").disabled = false;
      this.#watch();
    } catch (error) {
      if (!this.#stopped) this.onError(/** @type {Error} */ (error));
    } finally {
      this.#busy("");
    }
  }

  /** @param {MediaTrackConstraints} wish */
  async #openStream(wish) {
    const stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
    this.#stream = stream;
    if (this.#stopped) this.stop(); // it came too late
    return stream;
  }

  async #openWorker() {
    const worker = new Worker(new URL("live_worker.js", import.meta.url));
    this.#worker = worker;
    const model = await api.model(this.offer.id);
    await new Promise((resolve, reject) => {
      worker.onerror = (event) => reject(new Error(event.message));
      worker.onmessage = ({ data }) => (data.kind === "ready" ? resolve(null) : reject(new Error(data.message)));
      worker.postMessage({ kind: "open", offer: this.offer, model });
    });
    worker.onerror = (event) => this.onError(new Error(event.message));
    worker.onmessage = ({ data }) => {
      if (this.#stopped) {
        data.frame?.close();
        if (data.kind === "closed") worker.terminate();
      } else if (data.kind === "error") this.onError(new Error(data.message));
      else this.#take(data);
    };
    this.#opened = true;
  }

  stop() {
    this.#stopped = true; // a frame that is on its way is closed as it comes
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#video.srcObject = null;
    if (this.#opened) this.#worker?.postMessage({ kind: "close" });
    else this.#worker?.terminate();
    this.#last?.frame.close();
    this.#last = null;
    byId("live-shutter").disabled = true;
    this.#busy("");
  }

  /** Look out for frames: the newest goes to the worker as soon as it is free. */
  #watch() {
    if (this.#stopped) return;
    const look = () => {
      this.#fresh = true;
      void this.#send();
      this.#watch();
    };
    if ("requestVideoFrameCallback" in this.#video) this.#video.requestVideoFrameCallback(look);
    else requestAnimationFrame(look);
  }

  async #send() {
    if (this.#stopped || this.#waiting || !this.#fresh) return;
    this.#waiting = true;
    this.#fresh = false;
    try {
      const frame = await grab(this.#video);
      known(this.#worker).postMessage({ kind: "frame", frame, subject: this.#subject }, [frame]);
    } catch {
      this.#waiting = false; // there is none, as after the page was hidden
    }
  }

  /** @param {Panokit.LiveFrame & { frame: Panokit.Frame }} answer */
  #take({ frame, ...found }) {
    this.#waiting = false;
    void this.#send(); // the worker goes on while this one is drawn
    this.#last?.frame.close();
    this.#last = { frame, found, overlay: this.#paint(found) };
    this.draw();
    this.#times.push(performance.now());
    if (this.#times.length > 31) this.#times.shift();
    if (this.#subject && !found.subject && !found.segments.some((s) => s.number === this.#subject)) {
      this.#lost += 1;
      if (this.#lost > 30) this.#subject = this.#lost = 0; // it does not come back
    } else this.#lost = 0;
    this.#tell(found);
  }

  draw() {
    if (!this.#last) return;
    const { frame, found, overlay } = this.#last;
    const [width, height] = sizeOf(frame);
    byId("live-stage").style.setProperty("--ratio", String(width / height));
    const strength = Number(byId("live-strength").value) / 100;
    const fill = /** @type {[number[], number[]]} */ (FILL);
    known(this.view).draw(frame, found, overlay, { effect: this.effect, strength, fill });
  }

  /** @param {string} effect */
  choose(effect) {
    this.effect = effect;
    byId("live-strength").disabled = effect === "background";
    this.draw();
  }

  /**
   * Make what lies at a place (0..1 of the canvas) the subject; all persons, where it is already.
   * @param {number} x
   * @param {number} y
   */
  tap(x, y) {
    if (!this.#last) return;
    const { found } = this.#last;
    const mirrored = byId("live-view").classList.contains("mirrored");
    const { scale, shift } = found.place;
    const u = Math.floor((mirrored ? 1 - x : x) * scale[0] + shift[0]);
    const v = Math.floor(y * scale[1] + shift[1]);
    const [w, h] = found.grid;
    if (u < 0 || v < 0 || u >= w || v >= h) return;
    const number = found.labels[v * w + u];
    this.#subject = number === this.#subject ? 0 : number;
    const segment = found.segments.find((s) => s.number === this.#subject);
    say(segment ? `${this.#nameOf(segment)} selected` : "All persons selected");
  }

  /** What the camera sees now, whole, as a JPEG. */
  async photo() {
    const { videoWidth: w, videoHeight: h } = this.#video;
    const canvas = new OffscreenCanvas(w, h);
    known(canvas.getContext("2d")).drawImage(this.#video, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
    const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
    return new File([blob], `camera-${time}.jpg`, { type: "image/jpeg" });
  }

  /**
   * The colours of the cells: a class's own, lighter or darker from object to object.
   * @param {Panokit.LiveFrame} found
   */
  #paint({ labels, segments }) {
    const { taxonomy } = this.offer;
    const colors = new Map(
      segments.map(({ number, channel, isthing }) => {
        const turn = isthing ? ((number - taxonomy.length) * 0.618034) % 1 : 0.5;
        const to = turn < 0.5 ? 0 : 255;
        const share = 0.7 * Math.abs(turn - 0.5);
        const color = taxonomy[channel].color.map((c) => Math.round(c + share * (to - c)));
        return [number, number === this.#subject ? [255, 255, 255] : color];
      })
    );
    const out = new Uint8Array(4 * labels.length);
    for (let i = 0; i < labels.length; i++) {
      const color = colors.get(labels[i]);
      if (!color) continue;
      out.set(color, 4 * i);
      out[4 * i + 3] = 255;
    }
    return out;
  }

  /**
   * A class and, of things, which one of that class it is.
   * @param {Panokit.LiveSegment} segment
   */
  #nameOf({ number, channel, isthing }) {
    const name = readable(this.offer.taxonomy[channel].name);
    if (!isthing) return name;
    const named = (this.#named[channel] ??= []);
    if (!named.includes(number)) named.push(number);
    return `${name} ${named.indexOf(number) + 1}`;
  }

  /** @param {Panokit.LiveFrame} found */
  #tell({ segments, subject, milliseconds }) {
    const things = segments.filter((s) => s.isthing && s.seen >= CONFIRMED).map((s) => this.#nameOf(s)).sort();
    const about = this.effect === "segments" || subject ? "" : " · nothing selected is in the picture";
    const text = (things.join(", ") || "no objects") + about;
    if (text !== this.#said) byId("live-found").textContent = this.#said = text;
    const times = this.#times;
    if (times.length < 2) return;
    const rate = (1000 * (times.length - 1)) / (known(times.at(-1)) - times[0]);
    byId("live-about").textContent =
      `${rate.toFixed(0)} frames a second on this device · network ${milliseconds.network.toFixed(0)} ms, ` +
      `all ${milliseconds.all.toFixed(0)} ms · ${this.offer.id}`;
    byId("viewfinder").dataset.rate = rate.toFixed(2);
    byId("viewfinder").dataset.frames = String(Number(byId("viewfinder").dataset.frames ?? 0) + 1);
  }

  /** @param {string} text */
  #busy(text) {
    byId("live-busy").hidden = !text;
    byId("live-busy-text").textContent = text && `${text} …`;
  }
}

/**
 * Make the live camera work. `onPhoto` takes the photo that was taken; `onClose` is called when it
 * is stopped.
 * @param {{
 *   state: Panokit.State,
 *   offerOf: (id: string) => Panokit.Offer,
 *   onPhoto: (file: File) => void,
 *   onOpen: () => void,
 *   onClose: () => void,
 * }} page
 */
export function showLivePanel({ state, offerOf, onPhoto, onOpen, onClose }) {
  /** @type {Camera | null} */
  let camera = null;

  async function start(facing = "user") {
    const offer = [offerOf(state.artifact), ...state.info.artifacts].find((o) => o.runs_in_browser);
    const problem = whyNot(state.info, offer);
    if (problem) return complain(problem);
    const again = camera !== null;
    stop();
    const made = (camera = new Camera(known(offer), (error) => {
      stop();
      onClose();
      complain(PROBLEMS[error.name] ?? `The live camera failed: ${messageOf(error)}`);
    }));
    onOpen();
    if (!again) history.pushState({ live: true }, ""); // Back leaves the camera
    await made.start(facing);
  }

  function stop() {
    camera?.stop();
    camera = null;
  }

  function leave() {
    if (!camera) return;
    stop();
    onClose();
  }

  byId("live-start").addEventListener("click", () => start());
  byId("live-stop").addEventListener("click", () => history.back());
  byId("live-turn").addEventListener("click", () => start(camera?.facing === "user" ? "environment" : "user"));
  byId("live-shutter").addEventListener("click", async () => {
    const photo = await known(camera).photo();
    leave();
    onPhoto(photo);
  });
  globalThis.addEventListener("popstate", leave);
  globalThis.addEventListener("pagehide", leave);
  byId("live-effects").addEventListener("change", (event) => camera?.choose(target(event).value));
  byId("live-strength").addEventListener("input", () => camera?.draw());
  byId("live-view").addEventListener("click", (event) => {
    const box = byId("live-view").getBoundingClientRect();
    camera?.tap((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
}

/**
 * Why the camera cannot be used, or nothing.
 * @param {Panokit.Info} info
 * @param {Panokit.Offer | undefined} offer
 */
function whyNot({ device }, offer) {
  if (!device.ready) return known(device.missing);
  if (!offer) return "None of the models here is one that LiteRT.js can run.";
  if (!navigator.mediaDevices?.getUserMedia) {
    return "The browser gives a camera only to pages of https or of this computer (localhost).";
  }
  if (typeof Worker !== "function" || typeof OffscreenCanvas !== "function") {
    return "This browser is too old: it lacks workers or OffscreenCanvas.";
  }
  return "";
}
