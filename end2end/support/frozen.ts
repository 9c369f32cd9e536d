// A load that stands still, so that what is shown and offered meanwhile can be looked at: its worker is stopped.
import { readFileSync, readdirSync } from 'node:fs';
import { expect } from '@playwright/test';
import type { Answer, Server } from './server.ts';

/** A load whose worker has been stopped on the way, and the answer of the load itself. */
export async function frozen(server: Server, id = 'smollm2'): Promise<{ pid: number; loading: Promise<Answer> }> {
  // Workers that only looked into files have gone by then.
  await expect.poll(() => server.workers()).toEqual([]);
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const loading = server.post('/manage/load', { model: id });
    let over = false;
    loading.finally(() => (over = true));
    while (!over) {
      // The one that was started ahead is among them, and may be the one that loads.
      const stopped = children(server.pid).filter((pid) => signal(pid, 'SIGSTOP'));
      await new Promise((resolve) => setImmediate(resolve));
      // One that is known by its number has become a worker: before that even the server waits for it.
      const { state, instances } = await server.model(id);
      const pid = stopped.find((one) => state === 'loading' && instances[0]?.pid === one);
      stopped.filter((one) => one !== pid).forEach((one) => signal(one, 'SIGCONT'));
      if (pid !== undefined) return { pid, loading };
    }
    // The load was faster; it is tried again.
    await loading;
    await server.post('/manage/unload', { model: id });
  }
  throw new Error('no load could be stopped on its way');
}

/** Sends it; whether there was anybody to hear it. */
function signal(pid: number, name: 'SIGSTOP' | 'SIGCONT'): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

/** Processes that this one has started itself; quicker to ask than all descendants. */
function children(pid: number): number[] {
  try {
    const tasks = readdirSync(`/proc/${pid}/task`);
    return tasks.flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number));
  } catch {
    // A thread ended meanwhile.
    return [];
  }
}
