/** The first packet of a capture file, pcap or pcapng, for pkt-gen -P. */
import { usageError } from '../../errors.js';

const PCAP_MAGICS = [0xa1b2c3d4, 0xa1b23c4d];
const PCAPNG_SECTION = 0x0a0d0d0a;
const PCAPNG_BYTE_ORDER = 0x1a2b3c4d;
const BLOCK_ENHANCED_PACKET = 6;
const BLOCK_SIMPLE_PACKET = 3;
const PCAP_HDR_LEN = 24;
const PCAP_RECORD_HDR_LEN = 16;

/** Throws a usage error for what is neither, or has no packet. */
export function firstPacketOf(file: Uint8Array, path: string): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const wrong = (why: string) =>
    usageError(`${path}: ${why}`, path, 'Give a capture with at least one packet, for instance from tcpdump -w.');
  if (file.length < PCAP_HDR_LEN) throw wrong('not a capture file');
  const packet = view.getUint32(0, true) === PCAPNG_SECTION ? fromPcapng(view, file) : fromPcap(view, file);
  if (packet === undefined) throw wrong('not a capture file');
  if (packet.length === 0) throw wrong('there is no packet in it');
  return packet;
}

function fromPcap(view: DataView, file: Uint8Array): Uint8Array | undefined {
  const little = PCAP_MAGICS.includes(view.getUint32(0, true));
  if (!little && !PCAP_MAGICS.includes(view.getUint32(0, false))) return undefined;
  const at = PCAP_HDR_LEN + PCAP_RECORD_HDR_LEN;
  if (file.length < at) return new Uint8Array(0);
  return file.subarray(at, at + view.getUint32(PCAP_HDR_LEN + 8, little));
}

function fromPcapng(view: DataView, file: Uint8Array): Uint8Array | undefined {
  const little = view.getUint32(8, true) === PCAPNG_BYTE_ORDER;
  if (!little && view.getUint32(8, false) !== PCAPNG_BYTE_ORDER) return undefined;
  for (let at = 0; at + 12 <= file.length; ) {
    const type = view.getUint32(at, little);
    const length = view.getUint32(at + 4, little);
    if (length < 12 || at + length > file.length) break;
    if (type === BLOCK_ENHANCED_PACKET && length >= 32) {
      const captured = Math.min(view.getUint32(at + 20, little), length - 32);
      return file.subarray(at + 28, at + 28 + captured);
    }
    if (type === BLOCK_SIMPLE_PACKET && length >= 16) {
      const captured = Math.min(view.getUint32(at + 8, little), length - 16);
      return file.subarray(at + 12, at + 12 + captured);
    }
    at += length;
  }
  return new Uint8Array(0);
}
