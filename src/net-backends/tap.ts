/**
 * tap: an interface of the host (tap(4) of FreeBSD, /dev/net/tun of Linux), whose wire ends in this
 * process. What the host sends out of it goes to the guest, what the guest sends comes in there.
 *
 * `tap0` is interface tap0, `tap:NAME` any other. One that exists is attached; else it is made, and goes
 * when the backend is closed.
 */
import type { NetBackendType } from './net-backend.js';
import { TapBackend } from './tap/backend.js';
import { parseTapOptions, tapNeeds, tapOptions } from './tap/options.js';

export const tapBackend: NetBackendType = {
  prefix: 'tap',
  summary: 'an interface of the host, whose other end is the guest',
  example: 'tap0',
  options: tapOptions,
  needsReceive: false,
  needs: () => tapNeeds,
  open: (request) => new TapBackend(request, parseTapOptions('tap', request.device, request.options), false),
};
