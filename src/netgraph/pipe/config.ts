/**
 * What a pipe node is told (ng_pipe(4), NGM_PIPE_SET_CFG) and how it changes what was told before: a field
 * that is zero, or out of its range, changes nothing, and -1 means zero.
 */

/** struct ng_pipe_hookcfg: one direction. */
export interface DirectionConfig {
  /** bits a second; 0: no limit */
  bandwidth: number;
  /** bits from one bit error to the next, on average; 0: none; 1: the link is down */
  ber: number;
  /** frames that wait for bandwidth (queuelen) */
  queueLimit: number;
  /** frames that are under way (delaylen); 0: as many as there is memory for */
  delayLimit: number;
  /** of 100 frames, how many are sent twice */
  duplicate: number;
  fifo: boolean;
  /** quantum in bytes; 0: no deficit round robin */
  drr: number;
  wfq: boolean;
  /** which frame of a full queue is dropped: the first, or else the last */
  dropHead: boolean;
}

/** Numbers as a message carries them, unsigned; a direction's fields, 0 where nothing is said. */
export interface DirectionRequest {
  bandwidth: number;
  ber: number;
  queueLimit: number;
  delayLimit: number;
  duplicate: number;
  fifo: number;
  drr: number;
  wfq: number;
  dropTail: number;
  dropHead: number;
}

/** -1 as an unsigned field of 32 bits, and of 64 bits as a double. */
const MINUS_ONE_32 = 0xffffffff;
const MINUS_ONE_64 = 2 ** 64;

export const isMinusOne = (value: number): boolean => value === -1 || value === MINUS_ONE_32 || value === MINUS_ONE_64;

const MIN_BANDWIDTH = 100;
/** the original stops at 1 Gbit/s */
const MAX_BANDWIDTH = 100e9;
const MAX_BER = 1e12;
const MIN_LIMIT = 5;
const MAX_DUPLICATE = 50;
const MIN_QUANTUM = 32;
const DEFAULT_QUANTUM = 2048;

export function newDirectionConfig(): DirectionConfig {
  return {
    bandwidth: 0,
    ber: 0,
    queueLimit: 50,
    delayLimit: 0,
    duplicate: 0,
    fifo: true,
    drr: 0,
    wfq: false,
    dropHead: false,
  };
}

export function isBandwidth(value: number): boolean {
  return value >= MIN_BANDWIDTH && value <= MAX_BANDWIDTH;
}

function changed(value: number, now: number, min: number, max: number): number {
  if (isMinusOne(value)) return 0;
  return value >= min && value <= max ? value : now;
}

/** parse_cfg of ng_pipe.c */
export function changeDirection(config: DirectionConfig, request: DirectionRequest): void {
  config.ber = changed(request.ber, config.ber, 1, MAX_BER);
  config.queueLimit = changed(request.queueLimit, config.queueLimit, MIN_LIMIT, MINUS_ONE_32 - 1);
  config.delayLimit = changed(request.delayLimit, config.delayLimit, MIN_LIMIT, MINUS_ONE_32 - 1);
  config.duplicate = changed(request.duplicate, config.duplicate, 1, MAX_DUPLICATE);
  if (request.fifo !== 0) setDiscipline(config, true, false, 0);
  if (request.wfq !== 0) setDiscipline(config, false, true, 0);
  if (request.drr !== 0)
    setDiscipline(config, false, false, request.drr >= MIN_QUANTUM ? request.drr : DEFAULT_QUANTUM);
  if (request.dropTail !== 0) config.dropHead = false;
  if (request.dropHead !== 0) config.dropHead = true;
  if (isMinusOne(request.bandwidth)) {
    config.bandwidth = 0;
    setDiscipline(config, true, false, 0);
  } else if (isBandwidth(request.bandwidth)) config.bandwidth = request.bandwidth;
}

function setDiscipline(config: DirectionConfig, fifo: boolean, wfq: boolean, drr: number): void {
  config.fifo = fifo;
  config.wfq = wfq;
  config.drr = drr;
}
