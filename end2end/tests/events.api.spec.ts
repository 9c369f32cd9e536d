// The stream of events as a program reads it: at once a snapshot, each second a sample, each change when it happens.
import { expect, test } from '../support/test.ts';
import type { Server } from '../support/server.ts';

interface Event {
  event: string;
  id: number;
  data: any;
}

/** Reads events until a condition holds for all that came, or the stream ends. */
async function read(server: Server, until: (seen: Event[]) => boolean, headers: Record<string, string> = {}) {
  const leave = new AbortController();
  const late = setTimeout(() => leave.abort(new Error('the awaited events did not come within 15 s')), 15_000);
  const response = await fetch(`${server.url}/events`, { headers, signal: leave.signal });
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const seen: Event[] = [];
  let text = '';
  let ended = false;
  while (!until(seen)) {
    const { done, value } = await reader.read();
    if (done) {
      ended = true;
      break;
    }
    text += value;
    const blocks = text.split('\n\n');
    text = blocks.pop()!;
    for (const block of blocks) {
      const field = (name: string) => new RegExp(`^${name}: ?(.*)$`, 'm').exec(block)?.[1];
      const [event, id, data] = [field('event'), field('id'), field('data')];
      if (event && data) seen.push({ event, id: Number(id), data: JSON.parse(data) });
    }
  }
  clearTimeout(late);
  leave.abort();
  return { seen, ended };
}

const grows = (seen: Event[]) => seen.every(({ id }, at) => Number.isSafeInteger(id) && (at === 0 || id >= seen[at - 1]!.id));

test('a snapshot at once, then samples each second, with ids that grow', async ({ server }) => {
  const { seen } = await read(server, (seen) => seen.filter(({ event }) => event === 'sample').length >= 3);
  expect(seen[0]!.event).toBe('snapshot');
  expect(seen[0]!.data.models.map((model: { id: string }) => model.id)).toContain('smollm2');
  expect(grows(seen), JSON.stringify(seen.map(({ id }) => id))).toBe(true);
  const times = seen.filter(({ event }) => event === 'sample').map(({ data }) => Date.parse(data.at));
  expect(times[2]! - times[0]!).toBeGreaterThan(1_500);
  expect(times[2]! - times[0]!).toBeLessThan(3_500);
});

test('a load and an unload come as they happen: states in order, an entry of the ledger for each', async ({ server }) => {
  const ledger = (seen: Event[]) => seen.filter(({ event }) => event === 'ledger').map(({ data }) => data.kind);
  // States that pass within a quarter of a second are told together, so the unload waits until "ready" was told.
  let unload: Promise<unknown> | undefined;
  // The load waits for the snapshot that every stream begins with, so that it is of the state before.
  let load: Promise<unknown> | undefined;
  const { seen } = await read(server, (seen) => {
    if (seen.length > 0) load ??= server.load();
    if (stateOf(seen.at(-1)) === 'ready') unload ??= server.post('/manage/unload', { model: 'smollm2' });
    return ledger(seen).includes('unload') && stateOf(seen.at(-1)) === 'unloaded';
  });
  await load;
  await unload;
  expect(ledger(seen)).toEqual(['load', 'unload']);
  const states = seen.map(stateOf).filter((state, at, all) => state && state !== all[at - 1]);
  expect(states[0]).toBe('unloaded');
  expect(states).toContain('ready');
  expect(states.at(-1)).toBe('unloaded');
  const receipt = seen.find(({ data }) => data.kind === 'unload')!.data.receipt;
  expect(receipt).toMatchObject({ model: 'smollm2', verdict: 'returned' });
  expect(grows(seen)).toBe(true);
});

test('the stream ends when the server stops, and ids grow over the restart', async ({ server }) => {
  const stream = read(server, () => false);
  await expect.poll(async () => (await server.get('/readyz')).status).toBe(200);
  await server.stop();
  const { seen, ended } = await stream;
  expect(ended).toBe(true);
  await server.startAgain();
  const { seen: after } = await read(server, (seen) => seen.length > 0, { 'last-event-id': String(seen.at(-1)!.id) });
  expect(after[0]!.event).toBe('snapshot');
  expect(after[0]!.id).toBeGreaterThan(seen.at(-1)!.id);
});

function stateOf(event: Event | undefined): string | undefined {
  return event?.data.models?.find((model: { id: string; state?: string }) => model.id === 'smollm2')?.state;
}
