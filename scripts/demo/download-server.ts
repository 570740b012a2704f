/** Serves bytes over HTTP in a network namespace of its own: demo --host spawns it. Says its port when it is ready. */
import { createServer } from 'node:http';

export const DOWNLOAD_PORT = 8080;
const CHUNK = Buffer.alloc(1 << 20);

/** Answers GET /N with N MiB. */
export function serveDownloads(): Promise<void> {
  const server = createServer((request, response) => {
    let left = Number(request.url?.slice(1)) || 1;
    response.writeHead(200, { 'content-length': left * CHUNK.length });
    const more = (): void => {
      while (left > 0) {
        left--;
        if (!response.write(CHUNK)) {
          response.once('drain', more);
          return;
        }
      }
      response.end();
    };
    more();
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(DOWNLOAD_PORT, '0.0.0.0', () => {
      server.unref();
      resolve();
    });
  });
}
