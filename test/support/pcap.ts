/** Classic capture files (pcap-savefile(5)), written byte by byte. */

function words(values: readonly number[], little: boolean): Buffer {
  const out = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => {
    if (little) out.writeUInt32LE(value, i * 4);
    else out.writeUInt32BE(value, i * 4);
  });
  return out;
}

export function fileHeader(little: boolean): Buffer {
  const version = little ? 0x00040002 : 0x00020004;
  return words([0xa1b2c3d4, version, 0, 0, 65535, 1], little);
}

export function packetRecord(packet: Uint8Array, little: boolean): Buffer {
  return Buffer.concat([words([0, 0, packet.length, packet.length], little), packet]);
}
