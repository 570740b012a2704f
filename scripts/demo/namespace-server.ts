/** The process that keeps demo --host's second namespace: serves downloads in it until its parent goes. */
import { serveDownloads } from './download-server.js';

await serveDownloads();
process.stdout.write('ready\n');
process.stdin.on('end', () => process.exit(0)).resume();
