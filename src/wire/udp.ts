/** UDP (RFC 768): where the fields are. */

export const UDP_HDR_LEN = 8;
/** of the header and what follows, in bytes */
export const UDP_LEN = 4;
export const UDP_CHECKSUM = 6;
