/** Messages of a pipe node, laid out as netgraph/ng_pipe.h has them. */
import type { NgCommand } from '../node.js';
import { type StructValue, struct } from '../parse/composites.js';
import { uint32, uint64 } from '../parse/scalars.js';
import type { DirectionConfig, DirectionRequest } from './config.js';
import type { Shaper } from './shaper.js';

export const NGM_PIPE_COOKIE = 200708191;
export const NGM_PIPE_GET_STATS = 1;
export const NGM_PIPE_CLR_STATS = 2;
export const NGM_PIPE_GETCLR_STATS = 3;
export const NGM_PIPE_GET_RUN = 4;
export const NGM_PIPE_GET_CFG = 5;
export const NGM_PIPE_SET_CFG = 6;

const hookstatFields = {
  FwdOctets: uint64,
  FwdFrames: uint64,
  queueDropOctets: uint64,
  queueDropFrames: uint64,
  delayDropOctets: uint64,
  delayDropFrames: uint64,
};
const hookstat = struct(hookstatFields);
export const pipeStats = struct({ downstream: hookstat, upstream: hookstat });

const hookrun = struct({
  queues: uint32,
  queuedOctets: uint32,
  queuedFrames: uint32,
  delayedOctets: uint32,
  delayedFrames: uint32,
});
export const pipeRun = struct({ downstream: hookrun, upstream: hookrun });

const hookcfgFields = {
  bandwidth: uint64,
  BER: uint64,
  queuelen: uint32,
  delaylen: uint32,
  duplicate: uint32,
  fifo: uint32,
  drr: uint32,
  wfq: uint32,
  droptail: uint32,
  drophead: uint32,
};
const hookcfg = struct(hookcfgFields);
export const pipeCfg = struct({
  bandwidth: uint64,
  delay: uint64,
  header_offset: uint32,
  overhead: uint32,
  downstream: hookcfg,
  upstream: hookcfg,
});

const command = (cmd: number, name: string, types: Pick<NgCommand, 'mesgType' | 'respType'> = {}): NgCommand => ({
  cookie: NGM_PIPE_COOKIE,
  cmd,
  name,
  ...types,
});

export const pipeCommands: readonly NgCommand[] = [
  command(NGM_PIPE_GET_STATS, 'getstats', { respType: pipeStats }),
  command(NGM_PIPE_CLR_STATS, 'clrstats'),
  command(NGM_PIPE_GETCLR_STATS, 'getclrstats', { respType: pipeStats }),
  command(NGM_PIPE_GET_RUN, 'getrun', { respType: pipeRun }),
  command(NGM_PIPE_GET_CFG, 'getcfg', { respType: pipeCfg }),
  command(NGM_PIPE_SET_CFG, 'setcfg', { mesgType: pipeCfg }),
];

type HookCfg = StructValue<typeof hookcfgFields>;

export function toRequest(cfg: HookCfg): DirectionRequest {
  return {
    bandwidth: Number(cfg.bandwidth),
    ber: Number(cfg.BER),
    queueLimit: cfg.queuelen,
    delayLimit: cfg.delaylen,
    duplicate: cfg.duplicate,
    fifo: cfg.fifo,
    drr: cfg.drr,
    wfq: cfg.wfq,
    dropTail: cfg.droptail,
    dropHead: cfg.drophead,
  };
}

/** `bandwidth`: 0 where both directions have the same, which is said for both at once. */
export function fromConfig(config: DirectionConfig, bandwidth: number): HookCfg {
  return {
    bandwidth,
    BER: config.ber,
    queuelen: config.queueLimit,
    delaylen: config.delayLimit,
    duplicate: config.duplicate,
    fifo: config.fifo ? 1 : 0,
    drr: config.drr,
    wfq: config.wfq ? 1 : 0,
    droptail: config.dropHead ? 0 : 1,
    drophead: config.dropHead ? 1 : 0,
  };
}

export function runOf(shaper: Shaper) {
  return {
    queues: shaper.queues,
    queuedOctets: shaper.queuedOctets,
    queuedFrames: shaper.queuedFrames,
    delayedOctets: shaper.delayedOctets,
    delayedFrames: shaper.delayedFrames,
  };
}
