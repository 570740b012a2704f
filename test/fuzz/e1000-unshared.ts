/** The target of e1000.ts, whose rings and most buffers are in memory that is not shared. */
import { pathToFileURL } from 'node:url';
import { makeUnsharedTarget } from './e1000.js';
import { fuzzMain } from './harness.js';

export { makeUnsharedTarget as makeTarget } from './e1000.js';

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) fuzzMain(makeUnsharedTarget);
