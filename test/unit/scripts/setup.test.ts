import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import type { DebianPackage } from '../../../scripts/setup/apt.js';
import {
  cacheDir,
  componentDir,
  publishTree,
  readManifest,
  withCacheLock,
  workDir,
} from '../../../scripts/setup/cache.js';
import { components, selectPackages } from '../../../scripts/setup/components.js';
import { CpioArchive } from '../../../scripts/setup/cpio.js';
import { chooseComponents } from '../../../scripts/setup/install.js';
import { unpackKernel, unpackLz4Block } from '../../../scripts/setup/vmlinux.js';

const setupScript = fileURLToPath(new URL('../../../scripts/setup.js', import.meta.url));

let dir: string;
let cacheBefore: string | undefined;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'netbe-setup-'));
  cacheBefore = process.env.NETBE_CACHE;
  process.env.NETBE_CACHE = dir;
});
afterEach(() => {
  if (cacheBefore === undefined) delete process.env.NETBE_CACHE;
  else process.env.NETBE_CACHE = cacheBefore;
  rmSync(dir, { recursive: true, force: true });
});

describe('initramfs', () => {
  test('every entry is aligned to 4 bytes, folders come before what is in them, and the trailer ends it', () => {
    const archive = new CpioArchive();
    archive.file('bin/deep/tool', Buffer.from('12345'));
    archive.symlink('bin/sh', 'busybox');
    archive.charDevice('dev/console', 5, 1);
    archive.file('init', '#!/bin/sh\n');
    const entries = readCpio(archive.finish());
    assert.deepEqual(
      entries.map((e) => e.name),
      ['bin', 'bin/deep', 'bin/deep/tool', 'bin/sh', 'dev', 'dev/console', 'init', 'TRAILER!!!'],
    );
    const byName = new Map(entries.map((e) => [e.name, e]));
    assert.equal(byName.get('bin/deep/tool')?.data.toString(), '12345');
    assert.equal(byName.get('bin/sh')?.mode, 0o120777);
    assert.equal(byName.get('bin/sh')?.data.toString(), 'busybox');
    assert.deepEqual([byName.get('dev/console')?.mode, byName.get('dev/console')?.rdev], [0o020600, [5, 1]]);
    assert.equal(new Set(entries.map((e) => e.inode)).size, entries.length);
  });
});

describe('kernel image', () => {
  test('an LZ4 block unpacks to what was packed, overlapping matches too', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 600 }), (symbols) => {
        const plain = Buffer.from(symbols);
        const out = Buffer.alloc(plain.length);
        assert.equal(unpackLz4Block(naiveLz4(plain), out, 0), plain.length);
        assert.deepEqual(out, plain);
      }),
    );
  });

  test('a damaged block is refused, never written beyond its output', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        const out = Buffer.alloc(64);
        try {
          assert.ok(unpackLz4Block(Buffer.from(bytes), out, 0) <= 64);
        } catch (error) {
          assert.match((error as Error).message, /cannot be unpacked/);
        }
      }),
    );
  });

  const elf = Buffer.from('\x7fELF a kernel, a kernel, a kernel, a kernel', 'latin1');
  const noXz = (): Buffer => assert.fail('nothing here is packed with XZ');

  test('a kernel is unpacked by what its first bytes say: LZ4, gzip, XZ', () => {
    const block = naiveLz4(elf);
    const lz4 = Buffer.concat([Buffer.from('02214c18', 'hex'), Buffer.alloc(4), block]);
    lz4.writeUInt32LE(block.length, 4);
    assert.deepEqual(unpackKernel(bzImage(lz4, elf.length), noXz), elf);
    assert.deepEqual(unpackKernel(bzImage(gzipSync(elf), elf.length), noXz), elf);

    const xz = Buffer.from('\xfd7zXZ\0 and so on', 'latin1');
    const given: Buffer[] = [];
    const unxz = (packed: Buffer): Buffer => {
      given.push(packed);
      return elf;
    };
    assert.deepEqual(unpackKernel(bzImage(xz, elf.length), unxz), elf);
    assert.deepEqual(given, [xz]);
  });

  test('what is no bzImage, packed in an unknown way, or of another size than it says, is refused', () => {
    assert.throws(() => unpackKernel(Buffer.alloc(4096), noXz), /no boot protocol header/);
    const zstd = Buffer.from('28b52ffd0000', 'hex');
    assert.throws(() => unpackKernel(bzImage(zstd, 9), noXz), /payload magic 28b52ffd0000 is not that of/);
    assert.throws(() => unpackKernel(bzImage(gzipSync(elf), elf.length + 1), noXz), /unpacked to 43 bytes/);
  });
});

describe('components', () => {
  const p = (name: string, section: string, depends: string[] = []): DebianPackage => {
    return { name, version: '1', size: 1, section, depends };
  };

  test('libraries come along, what only an installation needs does not', () => {
    const guest = components.find((c) => c.name === 'guest')!;
    const resolved = [
      p('busybox-static', 'shells'),
      p('iperf3', 'net', ['libiperf0', 'debconf', 'adduser']),
      p('ethtool', 'net', ['libmnl0', 'libc6']),
      p('libiperf0', 'libs', ['libc6', 'libssl3']),
      p('libmnl0', 'libs'),
      p('libc6', 'libs'),
      p('libssl3', 'libs', ['debconf']),
      p('debconf', 'admin', ['perl-base']),
      p('adduser', 'admin'),
      p('perl-base', 'perl', ['libcrypt1']),
      p('libcrypt1', 'libs'),
    ];
    assert.deepEqual(
      selectPackages(guest, resolved)
        .map((x) => x.name)
        .sort(),
      ['busybox-static', 'ethtool', 'iperf3', 'libc6', 'libiperf0', 'libmnl0', 'libssl3'],
    );
  });

  test('without a name those of the tests are meant; an unknown one is refused with the list', () => {
    assert.deepEqual(
      chooseComponents([]).map((c) => c.name),
      ['uml', 'guest', 'qemu', 'qemu11', 'kernel', 'netgraph'],
    );
    assert.throws(() => chooseComponents(['xen']), /no component "xen"; there are uml, guest/);
  });
});

describe('cache', () => {
  test('is NETBE_CACHE, else below XDG_CACHE_HOME, else below the home folder', () => {
    assert.equal(cacheDir({ NETBE_CACHE: '/a', XDG_CACHE_HOME: '/b' }), '/a');
    assert.equal(cacheDir({ XDG_CACHE_HOME: '/b' }), '/b/netbe');
    assert.match(cacheDir({}), /\/\.cache\/netbe$/);
  });

  test('a component is there with its manifest or not at all, and a new one takes the place of the old', () => {
    assert.equal(readManifest('guest'), null);
    for (const version of ['1', '2']) {
      const tree = join(workDir(), 'tree');
      mkdirSync(tree, { recursive: true });
      writeFileSync(join(tree, `file${version}`), version);
      publishTree('guest', tree, { recipe: version, suite: 's', packages: {} });
      assert.equal(readManifest('guest')?.recipe, version);
      assert.deepEqual(readdirSync(componentDir('guest')).sort(), ['.netbe', `file${version}`]);
    }
  });

  test('one set-up at a time: the second waits until the first is done', async () => {
    const order: string[] = [];
    let waited = false;
    const first = withCacheLock(
      () => {},
      async () => {
        order.push('first begins');
        await sleep(300);
        order.push('first ends');
      },
    );
    while (order.length === 0) await sleep(5);
    const second = withCacheLock(
      () => {
        waited = true;
      },
      async () => void order.push('second'),
    );
    await Promise.all([first, second]);
    assert.deepEqual(order, ['first begins', 'first ends', 'second']);
    assert.ok(waited);
  });
});

describe('npm run setup', () => {
  const setup = (args: string[], env: NodeJS.ProcessEnv = {}) =>
    spawnSync(process.execPath, [setupScript, ...args], { encoding: 'utf8', env: { ...process.env, ...env } });

  test('without apt-get says which packages are needed, what for, and what to set instead', () => {
    const bin = join(dir, 'bin');
    mkdirSync(bin);
    symlinkSync(process.execPath, join(bin, 'node'));
    const { status, stderr } = setup(['uml'], { PATH: bin });
    assert.equal(status, 3);
    assert.match(stderr, /apt-get and apt-cache and dpkg-deb not found/);
    assert.match(stderr, /user-mode-linux.*NETBE_UML/);
  });

  test('a mirror that does not answer is an error that names it and leaves nothing half done', () => {
    // stands in for apt-get, so that no real one is asked
    const bin = join(dir, 'bin');
    mkdirSync(bin);
    for (const tool of ['apt-get', 'apt-cache', 'dpkg-deb']) {
      writeFileSync(
        join(bin, tool),
        '#!/bin/sh\n[ "$1" = --version ] || { echo "E: cannot reach mirror.example" >&2; exit 100; }\n',
      );
      chmodSync(join(bin, tool), 0o755);
    }
    const env = { PATH: `${bin}:${process.env.PATH}`, NETBE_DEBIAN_MIRROR: 'http://mirror.example/debian' };
    const { status, stderr } = setup(['uml'], env);
    assert.equal(status, 3);
    assert.match(stderr, /apt-get update failed:\n {2}E: cannot reach mirror\.example/);
    assert.equal(existsSync(componentDir('uml')), false);
  });

  test("takes a component of the person's own without a download", () => {
    const { status, stderr } = setup(['uml'], { NETBE_UML: '/somewhere/linux' });
    assert.deepEqual([status, stderr], [0, 'Set-up complete: uml\n']);
  });

  test('refuses an unknown component with status 2', () => {
    const { status, stderr } = setup(['xen']);
    assert.equal(status, 2);
    assert.match(stderr, /no component "xen"/);
  });
});

interface CpioEntry {
  name: string;
  inode: number;
  mode: number;
  rdev: [number, number];
  data: Buffer;
}

function readCpio(bytes: Buffer): CpioEntry[] {
  const entries: CpioEntry[] = [];
  for (let at = 0; at < bytes.length; ) {
    assert.equal(at % 4, 0);
    assert.equal(bytes.toString('latin1', at, at + 6), '070701');
    const field = (i: number): number => Number.parseInt(bytes.toString('latin1', at + 6 + 8 * i, at + 14 + 8 * i), 16);
    const nameAt = at + 110;
    const dataAt = Math.ceil((nameAt + field(11)) / 4) * 4;
    entries.push({
      name: bytes.toString('utf8', nameAt, nameAt + field(11) - 1),
      inode: field(0),
      mode: field(1),
      rdev: [field(9), field(10)],
      data: bytes.subarray(dataAt, dataAt + field(6)),
    });
    at = Math.ceil((dataAt + field(6)) / 4) * 4;
  }
  return entries;
}

/** A bzImage of one sector of set-up code, and a payload directly after it. */
function bzImage(payload: Buffer, unpackedLength: number): Buffer {
  const image = Buffer.alloc(1024 + payload.length + 4);
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt8(1, 0x1f1);
  image.writeUInt32LE(payload.length + 4, 0x24c);
  payload.copy(image, 1024);
  image.writeUInt32LE(unpackedLength, 1024 + payload.length);
  return image;
}

/** Packs greedily with the nearest earlier match of 4 bytes or more; the last bytes are literals, as the format demands. */
function naiveLz4(plain: Buffer): Buffer {
  const out: number[] = [];
  const extend = (n: number): void => {
    if (n < 15) return;
    let rest = n - 15;
    for (; rest >= 255; rest -= 255) out.push(255);
    out.push(rest);
  };
  let literalsFrom = 0;
  let at = 0;
  const emit = (to: number, match: { distance: number; length: number } | null): void => {
    const literals = to - literalsFrom;
    out.push((Math.min(literals, 15) << 4) | (match ? Math.min(match.length - 4, 15) : 0));
    extend(literals);
    out.push(...plain.subarray(literalsFrom, to));
    if (!match) return;
    out.push(match.distance & 255, match.distance >> 8);
    extend(match.length - 4);
  };
  while (at + 12 < plain.length) {
    let found: { distance: number; length: number } | null = null;
    for (let distance = 1; distance <= at && found === null; distance++) {
      let length = 0;
      while (at + length < plain.length - 5 && plain[at + length] === plain[at + length - distance]) length++;
      if (length >= 4) found = { distance, length };
    }
    if (found === null) {
      at++;
      continue;
    }
    emit(at, found);
    at += found.length;
    literalsFrom = at;
  }
  emit(plain.length, null);
  return Buffer.from(out);
}
