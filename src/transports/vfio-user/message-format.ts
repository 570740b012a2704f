/** How messages are found in a stream: see FrameReader. */
import { type FrameFormat, protocolError } from '../frame-reader.js';
import * as M from './messages.js';

function nameOf(view: DataView, have: number): string {
  return have < M.HEADER_SIZE ? 'header' : M.commandName(view.getUint16(M.HEADER_COMMAND, true));
}

function lengthOf(view: DataView): number {
  const size = view.getUint32(M.HEADER_SIZE, true);
  if (size < M.HEADER_BYTES || size > M.MAX_MESSAGE_BYTES)
    throw protocolError(
      `${nameOf(view, M.HEADER_BYTES)}: a message of ${size} bytes: it has ${M.HEADER_BYTES} to ${M.MAX_MESSAGE_BYTES}`,
    );
  return size;
}

export const messageFormat: FrameFormat = {
  headerBytes: M.HEADER_BYTES,
  maxBytes: M.MAX_MESSAGE_BYTES,
  maxFds: M.MAX_MSG_FDS,
  lengthOf,
  nameOf,
};
