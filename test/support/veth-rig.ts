/** A veth pair l0, l1: l0 is this namespace's, whose stack `host` speaks for, l1 that of another one, `peer`. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach } from 'node:test';
import { Namespace } from './namespace.js';
import { whileRunning } from './patch.js';
import { type TestRuntime, testRuntime } from './runtime.js';
import { enterOwnNetwork, ip } from './tap.js';

export class VethRig {
  runtime!: TestRuntime;
  host!: Namespace;
  peer!: Namespace;
  readonly #bytes: number;

  /** To be made within describe(): it has hooks. `bytes`: of the streams of hostTalksToPeer(); `leave`: before the runtime is closed. */
  constructor(bytes: number, leave: () => void = () => {}) {
    this.#bytes = bytes;
    before(async () => {
      enterOwnNetwork();
      this.host = await Namespace.here();
      this.peer = await Namespace.create();
      await this.peer.listen();
    });
    after(async () => {
      await this.host?.close();
      await this.peer?.close();
    });
    beforeEach(() => {
      this.runtime = testRuntime();
      ip('link add l0 type veth peer name l1');
      ip('link set l0 address 02:00:00:00:00:02');
      ip('link set l1 address 02:00:00:00:00:01');
      ip('addr add 10.0.0.2/24 dev l0');
      ip('addr add fd00::2/64 dev l0 nodad');
      ip('link set l0 up');
      this.peer.adopt('l1', ['10.0.0.1/24', 'fd00::1/64']);
    });
    afterEach(() => {
      try {
        leave();
      } finally {
        this.runtime.close();
        ip('link del l0');
      }
    });
  }

  /** Datagrams and a stream each by IPv4 and IPv6 while the runtime runs. */
  async hostTalksToPeer(what: string): Promise<void> {
    for (const address of ['10.0.0.1', 'fd00::1']) {
      const { echoed } = await whileRunning(this.runtime, this.host.echo(address, [1, 17, 1000, 1400]));
      assert.deepEqual(echoed, [1, 17, 1000, 1400], `${what}: datagrams to ${address}`);
      const result = await whileRunning(this.runtime, this.host.transfer(address, this.#bytes));
      assert.deepEqual(result, { bytes: this.#bytes, intact: true }, `${what}: a stream to ${address}`);
    }
  }
}
