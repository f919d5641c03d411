/**
 * The worker of the live camera. It is a classic worker, for LiteRT.js loads its WebAssembly by
 * importScripts, which module workers lack; what it does is in live.js.
 */

const live = import(new URL("live.js", self.location.href).href);

/** @param {MessageEvent} event */
self.onmessage = async (event) => {
  const { answer } = await live;
  await answer(event.data, self);
};
