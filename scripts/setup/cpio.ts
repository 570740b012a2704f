/** Writes cpio archives in the "newc" format that Linux unpacks as its initramfs (kernel: early-userspace/buffer-format). */

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;

export class CpioArchive {
  readonly #parts: Buffer[] = [];
  readonly #dirs = new Set<string>();
  #inode = 1;

  /** Paths are relative, without a leading slash; the folders above are added as needed. */
  directory(path: string): void {
    if (path === '' || path === '.' || this.#dirs.has(path)) return;
    this.directory(path.split('/').slice(0, -1).join('/'));
    this.#dirs.add(path);
    this.#entry(path, S_IFDIR | 0o755);
  }

  file(path: string, data: Uint8Array | string, mode = 0o755): void {
    this.#parent(path);
    this.#entry(path, S_IFREG | mode, Buffer.from(data as Uint8Array));
  }

  symlink(path: string, target: string): void {
    this.#parent(path);
    this.#entry(path, S_IFLNK | 0o777, Buffer.from(target));
  }

  charDevice(path: string, major: number, minor: number): void {
    this.#parent(path);
    this.#entry(path, S_IFCHR | 0o600, Buffer.alloc(0), major, minor);
  }

  finish(): Buffer {
    this.#entry('TRAILER!!!', 0);
    return Buffer.concat(this.#parts);
  }

  #parent(path: string): void {
    this.directory(path.split('/').slice(0, -1).join('/'));
  }

  // Magic and 13 fields of 8 hexadecimal digits; name (with its NUL) and data are padded to 4 bytes.
  #entry(path: string, mode: number, data: Buffer = Buffer.alloc(0), rmajor = 0, rminor = 0): void {
    const name = Buffer.from(`${path}\0`);
    const inode = mode === 0 ? 0 : this.#inode++;
    const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, rmajor, rminor, name.length, 0];
    const header = Buffer.from(`070701${fields.map((f) => f.toString(16).padStart(8, '0')).join('')}`);
    this.#parts.push(header, name, pad(header.length + name.length), data, pad(data.length));
  }
}

function pad(length: number): Buffer {
  return Buffer.alloc((4 - (length & 3)) & 3);
}
