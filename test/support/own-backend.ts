/** A backend of one's own over FrameBackend, for the conformance suite: keeps what is sent, gives what it is told to. */
import { FrameBackend } from '../../src/net-backends/frame-backend.js';
import type { NetBackendType } from '../../src/net-backends/net-backend.js';

export class OwnBackend extends FrameBackend {
  readonly frames: Uint8Array[] = [];

  protected override onFrame(frame: Uint8Array): void {
    this.frames.push(frame.slice());
  }

  give(frame: Uint8Array): boolean {
    return this.deliver(frame);
  }
}

export const ownBackend: NetBackendType = {
  prefix: 'own',
  summary: 'for tests',
  example: 'own0',
  options: [],
  needsReceive: false,
  open: (request) => new OwnBackend(request, { slots: 64 }),
};
