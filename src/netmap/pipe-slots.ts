/**
 * What the kernel's pipeSend and pipeRelease do (kernel/netmap.ts), in plain TypeScript: for rings that it
 * does not reach, and to check it by.
 */
import { NS_BUF_CHANGED, NS_MOREFRAG } from './abi.js';
import { K_DROP_BAD, type KRing } from './kring.js';

/** Hands slots [hwcur, head) of `tx` over to `rx`. Returns how many whole frames that shows. */
export function pipeSendSlots(tx: KRing, rx: KRing, head: number): number {
  const from = tx.ring;
  const to = rx.ring;
  let frames = 0;
  let shown = rx.hwtail;
  let at = tx.hwcur;
  while (at !== head) {
    const t = from.slotWord + at * 4;
    const r = to.slotWord + at * 4;
    const idx = from.u32[t]!;
    const word = from.u32[t + 1]!;
    const flags = word >>> 16;
    if (tx.isValid(idx, word & 0xffff)) {
      to.u32[r] = idx;
      to.u32[r + 1] = word;
      to.u32[r + 2] = from.u32[t + 2]!;
      to.u32[r + 3] = from.u32[t + 3]!;
    } else {
      to.u32[r + 1] = flags << 16;
      tx.addCount(K_DROP_BAD, 1);
    }
    if ((flags & NS_BUF_CHANGED) !== 0) from.setSlotFlags(at, flags & ~NS_BUF_CHANGED);
    at = tx.next(at);
    if ((flags & NS_MOREFRAG) === 0) {
      shown = at;
      frames++;
    }
  }
  tx.hwcur = head;
  rx.hwtail = shown;
  return frames;
}

/** Gives slots [hwcur, head) of `rx` back to `tx`, with the buffers that were put in their place. */
export function pipeReleaseSlots(rx: KRing, tx: KRing, head: number): void {
  const from = rx.ring;
  const to = tx.ring;
  for (let at = rx.hwcur; at !== head; at = rx.next(at)) {
    const r = from.slotWord + at * 4;
    const idx = from.u32[r]!;
    const word = from.u32[r + 1]!;
    const flags = word >>> 16;
    if ((flags & NS_BUF_CHANGED) === 0) continue;
    if (rx.isValid(idx, 0)) {
      to.u32[to.slotWord + at * 4] = idx;
      to.u32[to.slotWord + at * 4 + 1] = word;
    } else rx.addCount(K_DROP_BAD, 1);
    from.setSlotFlags(at, flags & ~NS_BUF_CHANGED);
  }
  rx.hwcur = head;
  tx.hwtail = tx.prev(head);
}
