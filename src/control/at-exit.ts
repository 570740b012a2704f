/** What must happen before the process ends, in one listener however many fabrics there are. */
const tasks = new Set<() => void>();
let hooked = false;

/** Calls `task` when the process exits; returns what calls it off. */
export function atExit(task: () => void): () => void {
  tasks.add(task);
  if (!hooked) {
    hooked = true;
    process.on('exit', () => {
      for (const t of tasks) t();
    });
  }
  return () => tasks.delete(task);
}
