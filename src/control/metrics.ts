/** The counters of a fabric as Prometheus metrics. */
import { Counter, Gauge, Registry } from 'prom-client';
import { meaningOf } from './counter-names.js';
import type { Counters, FabricInfo } from './fabric-types.js';

export interface MetricsSource {
  version: string;
  counters(): Counters;
  show(): Promise<FabricInfo>;
}

export async function metricsText(source: MetricsSource): Promise<{ contentType: string; body: string }> {
  const registers = new Registry();
  const registersOnly = { registers: [registers] };
  const byPort = ['port', 'direction'] as const;
  const counters = {
    frames: new Counter({
      name: 'netbe_frames_total',
      help: 'Frames, tx from the guest',
      labelNames: byPort,
      ...registersOnly,
    }),
    bytes: new Counter({
      name: 'netbe_bytes_total',
      help: 'Bytes of frames, tx from the guest',
      labelNames: byPort,
      ...registersOnly,
    }),
    drops: new Counter({
      name: 'netbe_drops_total',
      help: 'Frames lost, by reason',
      labelNames: [...byPort, 'reason'],
      ...registersOnly,
    }),
    events: new Counter({
      name: 'netbe_events_total',
      help: 'Everything else that is counted, by name',
      labelNames: ['port', 'event'],
      ...registersOnly,
    }),
  };
  for (const [port, set] of Object.entries(source.counters()))
    for (const [name, value] of Object.entries(set)) {
      const meaning = meaningOf(name);
      if (!meaning || meaning.what === 'events') counters.events.inc({ port, event: name }, value);
      else if (meaning.what === 'drops')
        counters.drops.inc({ port, direction: meaning.direction, reason: meaning.reason }, value);
      else counters[meaning.what].inc({ port, direction: meaning.direction }, value);
    }

  const info = await source.show();
  const gauge = (name: string, help: string, labelNames: readonly string[]) =>
    new Gauge({ name, help, labelNames, ...registersOnly });
  const connected = gauge('netbe_connected', '1 while a hypervisor is connected', ['port']);
  const link = gauge('netbe_link_up', '1 while the link is up', ['port']);
  for (const nic of info.nics) {
    connected.set({ port: nic.name }, nic.transport.state === 'connected' ? 1 : 0);
    link.set({ port: nic.name }, nic.device.link === 'up' ? 1 : 0);
  }
  const addresses = gauge('netbe_switch_addresses', 'Learned MAC addresses', ['switch']);
  for (const sw of info.switches) addresses.set({ switch: sw.name }, sw.table.length);
  gauge('netbe_info', 'Always 1; the version is a label', ['version']).set({ version: source.version }, 1);
  return { contentType: registers.contentType, body: await registers.metrics() };
}
