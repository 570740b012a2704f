/** QEMU's machine protocol (QMP): commands to a running QEMU, one after the other. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

interface QmpMessage {
  return?: unknown;
  error?: { class: string; desc: string };
}

export class Qmp {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = createInterface(socket)[Symbol.asyncIterator]();
  }

  static async connect(path: string): Promise<Qmp> {
    const socket = connect(path);
    await once(socket, 'connect');
    const qmp = new Qmp(socket);
    await qmp.run('qmp_capabilities');
    return qmp;
  }

  /** Its answer; throws if QEMU refuses. Events that come in between are skipped. */
  async run(command: string, args: object = {}): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`QEMU ended the connection instead of an answer to ${command}`);
      const message = JSON.parse(value) as QmpMessage;
      if (message.error) throw new Error(`QEMU refuses ${command}: ${message.error.desc}`);
      if (message.return !== undefined) return message.return;
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
