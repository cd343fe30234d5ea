// Answers requests to Perfetto's trace_processor, in its own protocol: from stdin to stdout, until stdin ends.
//
//     node trace_processor.js DIRECTORY <REQUESTS >ANSWERS
//
// DIRECTORY is an unpacked package of Perfetto's page: the processor compiled to WebAssembly, and the script that
// runs it in a worker of a browser. The script runs as it is, with what it needs of a worker in place; only the
// bridge to the processor, which it keeps to itself, is taken out.
"use strict";
const fs = require("fs");
const path = require("path");

const PIECE = 1 << 20;
const BRIDGE = "const wasmBridge = new";

const read = (name) => fs.readFileSync(path.join(process.argv[2], name));
const wasm = read("trace_processor.wasm");
const script = read("engine_bundle.js").toString();
if (!script.includes(BRIDGE)) {
  throw new Error("the script of this package makes its bridge in another way");
}

class XMLHttpRequest {
  open() {}
  send() {
    this.response = new Uint8Array(wasm).buffer;
  }
}
const worker = { location: { href: "http://localhost/engine_bundle.js" }, addEventListener() {} };
// What it says of errors is in the exception that follows.
const quiet = { log() {}, warn() {}, error() {} };
const names = ["self", "location", "importScripts", "XMLHttpRequest", "console", "process", "require"];
const run = new Function(...names, script.replace(BRIDGE, "const wasmBridge = self.bridge = new"));
run(worker, worker.location, () => {}, XMLHttpRequest, quiet, undefined, undefined);

const port = {
  postMessage(answer) {
    for (let at = 0; at < answer.length; ) {
      at += fs.writeSync(1, answer, at);
    }
  },
};
worker.bridge.whenInitialized.then(() => {
  worker.bridge.initialize(port);
  const piece = Buffer.alloc(PIECE);
  for (let size; (size = fs.readSync(0, piece)) > 0; ) {
    port.onmessage({ data: new Uint8Array(piece.subarray(0, size)) });
  }
});
