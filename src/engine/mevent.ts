/** The event loop of a fabric: see DESIGN. Being written. */
export const EVF_READ = 1;
export const EVF_WRITE = 4;

export interface MeventHandle {
  enable(): void;
  disable(): void;
  delete(): void;
}

export interface Mevent {
  add(fd: number, filter: number, callback: (fd: number) => void): MeventHandle;
  addDisabled(fd: number, filter: number, callback: (fd: number) => void): MeventHandle;
  /** Dispatches what is ready; blocks at most `timeoutMs` (-1: for ever, 0: not at all). Returns events served. */
  dispatch(timeoutMs: number): number;
  close(): void;
}
