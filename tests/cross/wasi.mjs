// SPDX-License-Identifier: Apache-2.0
// Runs a WebAssembly program under Node's WASI, with this machine's files: node wasi.mjs PROGRAM.wasm [ARGUMENT...]
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';

const [, , file, ...rest] = process.argv;
const wasi = new WASI({ version: 'preview1', args: [file, ...rest], preopens: { '/': '/' } });
const instance = await WebAssembly.instantiate(await WebAssembly.compile(await readFile(file)), { wasi_snapshot_preview1: wasi.wasiImport });
process.exit(wasi.start(instance));
