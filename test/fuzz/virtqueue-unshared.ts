/** The target of virtqueue.ts, whose rings and buffers are in memory that is not shared. */
import { pathToFileURL } from 'node:url';
import { fuzzMain } from './harness.js';
import { makeUnsharedTarget } from './virtqueue.js';

export { makeUnsharedTarget as makeTarget } from './virtqueue.js';

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) fuzzMain(makeUnsharedTarget);
