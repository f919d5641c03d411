/** Frames of a camera: video frames where the browser has them, else pictures. */

import { known } from "./page.js";

/**
 * The size that a frame is shown in.
 * @param {Panokit.Frame} frame
 * @returns {Panokit.Pair}
 */
export const sizeOf = (frame) =>
  "displayWidth" in frame ? [frame.displayWidth, frame.displayHeight] : [frame.width, frame.height];

/**
 * What a video shows now.
 * @param {HTMLVideoElement} video
 * @returns {Promise<Panokit.Frame>}
 */
export const grab = async (video) =>
  typeof VideoFrame === "function" ? new VideoFrame(video) : createImageBitmap(video);

/**
 * A frame's pixels [h][w][4] in planes that a processor reads at once; null where the browser keeps
 * it otherwise. Only the layouts that cameras give: I420 and NV12.
 * @param {Panokit.Frame} frame
 * @returns {Promise<Uint8Array | null>}
 */
export async function readPlanes(frame) {
  if (!("copyTo" in frame) || !["I420", "NV12"].includes(frame.format ?? "")) return null;
  const rect = known(frame.visibleRect);
  const [w, h] = sizeOf(frame);
  if (rect.width !== w || rect.height !== h) return null; // it is shown in another size
  const data = new Uint8Array(frame.allocationSize());
  const layout = await frame.copyTo(data);
  const [y, u, v] = layout;
  const chroma = v
    ? { u: u.offset, v: v.offset, stride: u.stride, step: 1 }
    : { u: u.offset, v: u.offset + 1, stride: u.stride, step: 2 };
  return toRgba(data, [w, h], y, chroma, frame.colorSpace);
}

/**
 * @param {Uint8Array} data
 * @param {Panokit.Pair} size
 * @param {PlaneLayout} luma
 * @param {{ u: number, v: number, stride: number, step: number }} chroma
 * @param {VideoColorSpace} space
 */
function toRgba(data, [w, h], luma, chroma, space) {
  const [kr, kb] = space.matrix === "bt709" ? [0.2126, 0.0722] : [0.299, 0.114];
  const [low, range, color] = space.fullRange ? [0, 255, 255] : [16, 219, 224];
  // Whole numbers with 16 bits of fraction.
  const fixed = (/** @type {number} */ value) => Math.round(value * 65536);
  const scale = fixed(255 / range);
  const red = fixed((2 * (1 - kr) * 255) / color);
  const blue = fixed((2 * (1 - kb) * 255) / color);
  const kg = 1 - kr - kb;
  const [greenU, greenV] = [fixed((2 * kb * (1 - kb) * 255) / (kg * color)), fixed((2 * kr * (1 - kr) * 255) / (kg * color))];
  const out = new Uint8ClampedArray(4 * w * h);
  for (let row = 0, to = 0; row < h; row++) {
    const line = luma.offset + row * luma.stride;
    const lineU = chroma.u + (row >> 1) * chroma.stride;
    const lineV = chroma.v + (row >> 1) * chroma.stride;
    for (let x = 0; x < w; x++, to += 4) {
      const grey = (data[line + x] - low) * scale + 32768;
      const at = (x >> 1) * chroma.step;
      const u = data[lineU + at] - 128;
      const v = data[lineV + at] - 128;
      out[to] = (grey + red * v) >> 16;
      out[to + 1] = (grey - greenU * u - greenV * v) >> 16;
      out[to + 2] = (grey + blue * u) >> 16;
      out[to + 3] = 255;
    }
  }
  return new Uint8Array(out.buffer);
}
