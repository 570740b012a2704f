import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assemble, call, exit, ldMapFd, ldxW, mov, R1, R2, R3 } from '../../../src/sys/bpf.js';
import { openFdCount } from '../../../src/sys/fd.js';
import { interfaceNames, LinkWatch, netdevInfo } from '../../../src/sys/netdev.js';

describe('interfaces', () => {
  test('the loopback interface is among them, with its facts', () => {
    assert.ok(interfaceNames().includes('lo'));
    const { name, index, mtu, hardwareType, rxQueues } = netdevInfo('lo');
    assert.equal(name, 'lo');
    assert.ok(index >= 1 && mtu >= 1500 && rxQueues >= 1);
    assert.equal(hardwareType, 772); // ARPHRD_LOOPBACK
  });

  test('one that is not there is refused with the list of those that are', () => {
    for (const name of ['no-such-if', '', 'a-name-longer-than-linux-allows'])
      assert.throws(() => netdevInfo(name), { code: 'ENODEV', kind: 'usage', remedy: /\blo\b/ });
  });

  test('a watch tells the state, and that of an index nobody has is gone', () => {
    const before = openFdCount();
    const watch = new LinkWatch(netdevInfo('lo').index);
    assert.ok(['up', 'down', 'no-carrier'].includes(watch.state()));
    assert.equal(watch.read(), watch.state());
    watch.close();
    const none = new LinkWatch(0x7ffffff0);
    assert.equal(none.state(), 'gone');
    none.close();
    none.close();
    assert.equal(openFdCount(), before);
  });
});

test('eBPF instructions are laid out as the kernel reads them (struct bpf_insn)', () => {
  const code = assemble([...ldxW(R2, R1, 16), ...ldMapFd(R1, 7), ...mov(R3, 2), ...call(51), ...exit()]);
  const bytes = Buffer.from(code.u8).toString('hex').match(/.{16}/g);
  assert.deepEqual(bytes, [
    '6112100000000000',
    '1811000007000000',
    '0000000000000000',
    'b703000002000000',
    '8500000033000000',
    '9500000000000000',
  ]);
});
