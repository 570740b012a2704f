/**
 * A null port (NR_REG_NULL, netmap_null.c): rings in a memory region that lead nowhere. Its user has a hold on the
 * region and on extra buffers in it, for instance to keep frames that came through other ports of the region.
 * Syncs do nothing.
 */
import { NetmapAdapter } from './adapter.js';

export class NullAdapter extends NetmapAdapter {
  protected transmit(): void {}

  protected release(): void {}
}
