/** TCP (RFC 9293 §3.1): where the fields are. */

const TCP_MIN_HDR_LEN = 20;
export const TCP_SEQ = 4;
/** header length in 4-byte units (upper 4 bits), then reserved bits */
const TCP_DATA_OFFSET = 12;
export const TCP_FLAGS = 13;
export const TCP_CHECKSUM = 16;

export const TCP_FIN = 0x01;
export const TCP_PSH = 0x08;
export const TCP_CWR = 0x80;

/** Length of the header at `off`, options included, or 0 unless it is whole within the `len` bytes there are. */
export function tcpHeaderLen(u8: Uint8Array, off: number, len: number): number {
  if (len < TCP_MIN_HDR_LEN) return 0;
  const hdrLen = ((u8[off + TCP_DATA_OFFSET] as number) >> 4) * 4;
  return hdrLen >= TCP_MIN_HDR_LEN && hdrLen <= len ? hdrLen : 0;
}
