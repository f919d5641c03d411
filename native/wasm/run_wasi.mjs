// Runs a program that was compiled for WASI: node run_wasi.mjs PROGRAM FOLDER...
// The folders among its arguments are opened to it, under their own names.
import { readFileSync, statSync } from "node:fs";
import { WASI } from "node:wasi";

const [program, ...words] = process.argv.slice(2);
const folders = words.filter((word) => statSync(word, { throwIfNoEntry: false })?.isDirectory());
const wasi = new WASI({
  version: "preview1",
  args: [program, ...words],
  preopens: Object.fromEntries(folders.map((folder) => [folder, folder])),
  returnOnExit: true,
});
const module = await WebAssembly.compile(readFileSync(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exitCode = wasi.start(instance);
