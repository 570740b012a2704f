/**
 * vmnet: a tap that stays (vmnet(4) of FreeBSD): its interface, addresses and state are as they were
 * when the next one opens it. On Linux that is a persistent tap; `ip tuntap del NAME mode tap` removes it.
 */
import type { NetBackendType } from './net-backend.js';
import { TapBackend } from './tap/backend.js';
import { parseTapOptions, tapNeeds, tapOptions } from './tap/options.js';

export const vmnetBackend: NetBackendType = {
  prefix: 'vmnet',
  summary: 'a tap whose interface stays, with its addresses, when it is closed',
  example: 'vmnet0',
  options: tapOptions,
  needsReceive: false,
  needs: () => tapNeeds,
  open: (request) => new TapBackend(request, parseTapOptions('vmnet', request.device, request.options), true),
};
