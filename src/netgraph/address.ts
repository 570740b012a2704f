/**
 * Addresses of nodes (netgraph(4)): `name:`, `[hexid]:`, `.:` for the sender itself, each followed
 * by hooks joined by dots; or only hooks, relative to the sender.
 */
import { NG_NODESIZ, NG_PATHSIZ } from './abi.js';

export interface NgAddress {
  /** what stands before the colon; undefined for a relative address */
  readonly node: string | undefined;
  /** hooks to follow */
  readonly hooks: readonly string[];
}

/** The parts of an address, or undefined if it is malformed. */
export function parseAddress(address: string): NgAddress | undefined {
  if (address.length >= NG_PATHSIZ) return undefined;
  const colon = address.indexOf(':');
  const node = colon < 0 ? undefined : address.slice(0, colon);
  if (node === '' || (node !== '.' && node?.includes('.'))) return undefined;
  const path = address.slice(colon + 1);
  if (path.includes(':') || path.includes('..')) return undefined;
  return { node, hooks: path.split('.').filter((hook) => hook !== '') };
}

/** The ID in `[hexid]`, or 0 if that is not what the name is. */
export function decodeId(name: string): number {
  const id = /^\[(?:0[xX])?([0-9a-fA-F]{1,8})\]$/.exec(name)?.[1];
  return id === undefined ? 0 : Number.parseInt(id, 16);
}

export function idAddress(id: number): string {
  return `[${id.toString(16)}]:`;
}

/** Whether a node may be called that: 1 to 31 bytes without dot and colon that do not read as an ID. */
export function isNodeName(name: string): boolean {
  return name.length > 0 && name.length < NG_NODESIZ && !/[.:]/.test(name) && decodeId(name) === 0;
}
