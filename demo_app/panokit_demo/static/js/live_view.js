/**
 * A camera's frame and what was found in it, drawn by WebGL 2.
 *
 * The network's cells are coarse. Each pixel takes from the cells around it, the more the nearer
 * they lie and the more alike their colour is (joint bilateral upsampling, Kopf et al. 2007), so
 * that mattes and segments end at the edges of the frame.
 */

import { sizeOf } from "./frames.js";
import { known } from "./page.js";

const CELL_STEP = 2; // what the cells say is worked out at half of the size
const BLUR_STEP = 4; // the background is blurred at a quarter of the size
const WIDEST = 0.035; // radius of the strongest blur, in shares of the longest side

const VERTEX = `#version 300 es
in vec2 corner;
out vec2 at;
uniform bool upsideDown;
void main() {
  at = 0.5 + 0.5 * corner;
  gl_Position = vec4(corner.x, upsideDown ? -corner.y : corner.y, 0.0, 1.0);
}`;

const HEAD = `#version 300 es
precision highp float;
in vec2 at;
out vec4 result;`;

/** What the cells around a place say: the overlay's colours by how much of them there is, or else
 * the matte in each channel. */
const CELLS = `${HEAD}
uniform sampler2D frame;
uniform sampler2D guide;
uniform sampler2D overlay;
uniform vec2 scale;
uniform vec2 shift;
uniform bool paints;
void main() {
  vec3 color = texture(frame, at).rgb;
  ivec2 last = textureSize(guide, 0) - 1;
  vec2 cell = at * scale + shift - 0.5;
  ivec2 base = ivec2(floor(cell + 0.5));
  vec4 sum = vec4(0.0);
  float total = 0.0;
  for (int y = -1; y <= 1; y++) for (int x = -1; x <= 1; x++) {
    ivec2 c = base + ivec2(x, y);
    ivec2 inside = clamp(c, ivec2(0), last);
    vec4 here = texelFetch(guide, inside, 0);
    vec2 near = max(vec2(0.0), 1.0 - abs(cell - vec2(c)) / 1.5);
    vec3 unlike = color - here.rgb;
    float weight = near.x * near.y * (exp(-40.0 * dot(unlike, unlike)) + 0.02);
    if (paints) {
      vec4 drawn = texelFetch(overlay, inside, 0);
      sum += weight * vec4(drawn.rgb * drawn.a, drawn.a);
    } else sum += weight * vec4(here.a);
    total += weight;
  }
  result = paints ? sum / total : smoothstep(0.25, 0.75, sum / total);
}`;

/** The frame without the subject: its colours by how much of them is background. */
const BEHIND = `${HEAD}
uniform sampler2D frame;
uniform sampler2D cells;
void main() {
  float rest = 1.0 - texture(cells, at).a;
  result = vec4(texture(frame, at).rgb * rest, rest);
}`;

const BLUR = `${HEAD}
uniform sampler2D source;
uniform vec2 step;
void main() {
  vec4 sum = vec4(0.0);
  float total = 0.0;
  for (int i = -7; i <= 7; i++) {
    float weight = exp(-float(i * i) / 24.5);
    sum += weight * texture(source, at + float(i) * step);
    total += weight;
  }
  result = sum / total;
}`;

const SHOW = `${HEAD}
uniform sampler2D frame;
uniform sampler2D cells;
uniform sampler2D blurred;
uniform int effect;
uniform float strength;
uniform vec3 top;
uniform vec3 bottom;
void main() {
  vec3 color = texture(frame, at).rgb;
  vec3 behind = color;
  vec4 found = texture(cells, at);
  if (effect == 0) behind = mix(color, found.rgb / max(found.a, 1e-3), strength * found.a);
  else if (effect == 1) {
    vec4 soft = texture(blurred, at);
    behind = soft.a > 0.01 ? soft.rgb / soft.a : color;
  } else if (effect == 2) behind = mix(top, bottom, at.y);
  else if (effect == 3) behind = mix(color, vec3(dot(color, vec3(0.2126, 0.7152, 0.0722))), strength);
  result = vec4(effect == 0 ? behind : mix(behind, color, found.a), 1.0);
}`;

/** @type {Record<string, number>} */
const EFFECTS = { none: -1, segments: 0, blur: 1, background: 2, color: 3 };

export class LiveView {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false });
    if (!gl) throw new Error("This browser has no WebGL 2, which draws the camera's picture.");
    this.canvas = canvas;
    this.gl = gl;
    const corners = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, corners);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
    this.programs = {
      cells: makeProgram(gl, CELLS),
      behind: makeProgram(gl, BEHIND),
      blur: makeProgram(gl, BLUR),
      show: makeProgram(gl, SHOW),
    };
    this.textures = {
      frame: makeTexture(gl, gl.LINEAR),
      guide: makeTexture(gl, gl.NEAREST),
      overlay: makeTexture(gl, gl.NEAREST),
    };
    this.cells = makeTarget(gl);
    this.buffers = [makeTarget(gl), makeTarget(gl)];
  }

  /**
   * Draw a frame with an effect.
   * @param {Panokit.Frame} frame
   * @param {Panokit.LiveFrame} found
   * @param {Uint8Array} overlay RGBA of each cell
   * @param {{ effect: string, strength: number, fill: [number[], number[]] }} wish `strength` 0..1;
   *   `fill` the background's two colours, 0..1
   */
  draw(frame, found, overlay, { effect, strength, fill }) {
    const { gl, canvas, textures } = this;
    const [width, height] = sizeOf(frame);
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    fillTexture(gl, textures.frame, frame);
    fillTexture(gl, textures.guide, found.guide, found.grid);
    fillTexture(gl, textures.overlay, overlay, found.grid);
    const nothing = effect !== "segments" && !found.subject;
    const number = EFFECTS[nothing ? "none" : effect];
    if (!nothing) this.#upsample(found, effect === "segments");
    if (number === EFFECTS.blur) this.#blur(strength);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    this.#run(this.programs.show, {
      frame: textures.frame,
      cells: this.cells.texture,
      blurred: this.buffers[0].texture,
      effect: number,
      strength,
      top: fill[0],
      bottom: fill[1],
      upsideDown: true,
    });
  }

  /**
   * @param {Panokit.LiveFrame} found
   * @param {boolean} paints
   */
  #upsample({ place }, paints) {
    this.#aim(this.cells, CELL_STEP);
    this.#run(this.programs.cells, { ...this.textures, ...place, paints, upsideDown: false });
  }

  /** @param {number} strength */
  #blur(strength) {
    const { buffers, textures, programs } = this;
    this.#aim(buffers[0], BLUR_STEP);
    this.#run(programs.behind, { frame: textures.frame, cells: this.cells.texture, upsideDown: false });
    const [w, h] = buffers[0].size;
    const radius = (strength * WIDEST * Math.max(w, h)) / 7;
    for (const step of [[radius / w, 0], [0, radius / h]]) {
      const [from, to] = step[0] ? buffers : [buffers[1], buffers[0]];
      this.#aim(to, BLUR_STEP);
      this.#run(programs.blur, { source: from.texture, step, upsideDown: false });
    }
  }

  /**
   * What is drawn next goes into a target, so many times smaller than the frame.
   * @param {{ frame: WebGLFramebuffer, texture: WebGLTexture, size: number[] }} drawn
   * @param {number} smaller
   */
  #aim(drawn, smaller) {
    const { gl, canvas } = this;
    const [w, h] = [canvas.width, canvas.height].map((side) => Math.max(1, Math.round(side / smaller)));
    sizeTarget(gl, drawn, w, h);
    gl.bindFramebuffer(gl.FRAMEBUFFER, drawn.frame);
    gl.viewport(0, 0, w, h);
  }

  /**
   * Fill what is bound with what a program gives. Values by their type: a texture, a number, true
   * or false, or two or three numbers.
   * @param {WebGLProgram} program
   * @param {Record<string, any>} values
   */
  #run(program, values) {
    const { gl } = this;
    gl.useProgram(program);
    let unit = 0;
    for (const [name, value] of Object.entries(values)) {
      const at = gl.getUniformLocation(program, name);
      if (!at) continue;
      if (value instanceof WebGLTexture) {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, value);
        gl.uniform1i(at, unit++);
      } else if (typeof value === "boolean" || name === "effect") gl.uniform1i(at, Number(value));
      else if (typeof value === "number") gl.uniform1f(at, value);
      else if (value.length === 2) gl.uniform2f(at, value[0], value[1]);
      else gl.uniform3f(at, value[0], value[1], value[2]);
    }
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {string} fragment
 */
function makeProgram(gl, fragment) {
  const program = gl.createProgram();
  for (const [kind, text] of /** @type {[number, string][]} */ ([
    [gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment],
  ])) {
    const shader = known(gl.createShader(kind));
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    const log = gl.getShaderParameter(shader, gl.COMPILE_STATUS) ? "" : gl.getShaderInfoLog(shader);
    if (log) throw new Error(`The camera's picture cannot be drawn here: ${log}`);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
    throw new Error(`The camera's picture cannot be drawn here: ${gl.getProgramInfoLog(program)}`);
  }
  return program;
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {number} filter
 */
function makeTexture(gl, filter) {
  const texture = known(gl.createTexture());
  gl.bindTexture(gl.TEXTURE_2D, texture);
  for (const [name, value] of [
    [gl.TEXTURE_MIN_FILTER, filter], [gl.TEXTURE_MAG_FILTER, filter],
    [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
  ]) {
    gl.texParameteri(gl.TEXTURE_2D, name, value);
  }
  return texture;
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {WebGLTexture} texture
 * @param {Panokit.Frame | Uint8Array} source
 * @param {Panokit.Pair} [size]
 */
function fillTexture(gl, texture, source, size) {
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(gl.TEXTURE_2D, texture);
  if (source instanceof Uint8Array) {
    const [w, h] = known(size);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, w, h, 0, gl.RGBA, gl.UNSIGNED_BYTE, source);
  } else gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, source);
}

/** @param {WebGL2RenderingContext} gl */
function makeTarget(gl) {
  return { frame: gl.createFramebuffer(), texture: makeTexture(gl, gl.LINEAR), size: [0, 0] };
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {{ frame: WebGLFramebuffer, texture: WebGLTexture, size: number[] }} target
 * @param {number} w
 * @param {number} h
 */
function sizeTarget(gl, target, w, h) {
  if (target.size[0] === w && target.size[1] === h) return;
  target.size.splice(0, 2, w, h);
  gl.bindTexture(gl.TEXTURE_2D, target.texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, w, h, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
  gl.bindFramebuffer(gl.FRAMEBUFFER, target.frame);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, target.texture, 0);
}
