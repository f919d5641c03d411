/** The server's API. A refusal becomes an Error with its sentence. */

/** Where the server's paths begin: this file lies at static/js/ below it, also behind a proxy. */
const ROOT = new URL("../../", import.meta.url);

/**
 * The address of a path of this server, such as "api/info".
 * @param {string} path
 */
export const addressOf = (path) => new URL(path, ROOT).href;

const PATIENCE = [400, 900, 1800, 3500]; // pauses before asking a busy server again

export class Refused extends Error {
  /**
   * @param {string} sentence
   * @param {number} status
   */
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/**
 * @param {string} path
 * @param {RequestInit} options
 */
async function request(path, options = {}) {
  for (let attempt = 0; ; attempt++) {
    let answer;
    try {
      answer = await fetch(addressOf(path), options);
    } catch (error) {
      if (/** @type {Error} */ (error).name === "AbortError") throw error;
      throw new Refused("The server cannot be reached; is it still running?", 0);
    }
    if (answer.ok) return answer;
    if ([429, 503].includes(answer.status) && attempt < PATIENCE.length) {
      await new Promise((resolve) => setTimeout(resolve, PATIENCE[attempt]));
      continue;
    }
    const detail = await answer.json().then((body) => body.detail, () => null);
    throw new Refused(detail ?? `The server answered ${answer.status}.`, answer.status);
  }
}

/** @param {object} body */
const json = (body) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

/** @param {Record<string, string | Blob | null | undefined>} fields */
function form(fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value != null) body.append(name, value);
  return { method: "POST", body };
}

/** @returns {Promise<Panokit.Info>} */
export const info = async () => (await request("api/info")).json();

/**
 * Begin with a photo file or a sample's name.
 * @param {{ file?: File, sample?: string, artifact: string }} wish
 * @returns {Promise<Panokit.SessionAnswer>}
 */
export const open = async ({ file, sample, artifact }) =>
  (await request("api/sessions", form({ photo: file, sample, artifact }))).json();

/** @param {string} session */
export const close = (session) =>
  fetch(addressOf(`api/sessions/${session}`), { method: "DELETE", keepalive: true }).catch(() => {});

/** @type {(session: string, format: "jpg" | "png") => Promise<Blob>} */
export const photo = async (session, format) =>
  (await request(`api/sessions/${session}/photo?format=${format}`)).blob();

/** @type {(session: string, artifact: string) => Promise<Panokit.Answer>} */
export const segment = async (session, artifact) =>
  (await request(`api/sessions/${session}/segment`, json({ artifact }))).json();

/**
 * Keep a picture that a fill can name; its name.
 * @type {(session: string, file: File) => Promise<string>}
 */
export const background = async (session, file) =>
  (await (await request(`api/sessions/${session}/background`, form({ photo: file }))).json()).name;

/**
 * The working copy with edits (smaller as a draft): the picture, and what was done in words.
 * @param {string} session
 * @param {{ edits: Panokit.EditsFile, artifact: string, draft: boolean }} wish
 * @param {AbortSignal} [signal]
 * @returns {Promise<Panokit.Drawing>}
 */
export async function effect(session, { edits, artifact, draft }, signal) {
  const body = json({ edits, artifact, draft });
  const answer = await request(`api/sessions/${session}/effect`, { ...body, signal });
  return {
    blob: await answer.blob(),
    message: decodeURIComponent(answer.headers.get("X-Panokit-Message") ?? ""),
    applied: answer.headers.get("X-Panokit-Applied") === "1",
    transparent: answer.headers.get("X-Panokit-Transparent") === "1",
    milliseconds: Number(answer.headers.get("X-Panokit-Milliseconds")),
  };
}

/**
 * The whole photo with edits, as a file.
 * @type {(session: string, edits: Panokit.EditsFile, artifact: string, format: string) => Promise<Blob>}
 */
export const download = async (session, edits, artifact, format) =>
  (await request(`api/sessions/${session}/download`, json({ edits, artifact, format }))).blob();

/** @param {string} artifact */
export const model = async (artifact) =>
  new Uint8Array(await (await request(`api/artifacts/${artifact}/model`)).arrayBuffer());

/** @type {(dump: Panokit.FileBytes, name: string, artifact: string) => Promise<Panokit.Verdict>} */
export const validate = async (dump, name, artifact) => {
  const file = new File([dump], name, { type: "application/octet-stream" });
  return (await request("api/validate", form({ dump: file, artifact, diagnose: "true" }))).json();
};
