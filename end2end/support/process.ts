// What the kernel says about processes, read by the test itself and not asked of the program under test.
import { readFileSync, readdirSync } from 'node:fs';

/** Whether a process exists; a zombie counts: somebody has still to reap it. */
export function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Whether a process runs. One that has ended runs no more, even if whoever inherited it has not reaped it yet. */
export function runs(pid: number): boolean {
  const state = statOf(pid)?.[0];
  return state !== undefined && state !== 'Z' && state !== 'X';
}

/** What a process was started with, for a person. */
export function command(pid: number): string {
  return `${pid} ${commandLine(pid).replaceAll('\0', ' ').slice(0, 120)}`.trim();
}

/** What a process was started with; nothing while it is being replaced by its program, or has ended. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** State, parent and the further fields of a process; nothing if there is none. */
function statOf(pid: number): string[] | undefined {
  try {
    // The name stands in brackets and may hold anything: the fields begin after the last one.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

/** All descendants of a process. */
export function descendants(pid: number): number[] {
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number);
  const parents = new Map(all.map((one) => [one, Number(statOf(one)?.[1])]));
  const found: number[] = [];
  for (let next = [pid]; next.length > 0; ) {
    next = all.filter((one) => next.includes(parents.get(one) ?? -1));
    found.push(...next);
  }
  return found;
}

/** Private bytes of a process: Pss_Anon + Pss_Shmem + SwapPss, what the machine gets back when it goes. */
export function privateBytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
  return (kib('Pss_Anon') + kib('Pss_Shmem') + kib('SwapPss')) * 1024;
}

/** How far apart two measurements of so many bytes may be: a worker breathes a little between them. */
export const near = (bytes: number): number => Math.max(2 ** 19, bytes * 0.02);
