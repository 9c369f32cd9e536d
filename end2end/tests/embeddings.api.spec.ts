// Embeddings as a program asks for them: many at once in their order, and an end when nobody wants them any more.
import { readFileSync } from 'node:fs';
import type { Server } from '../support/server.ts';
import { expect, test } from '../support/test.ts';

const embed = (server: Server, body: object, signal?: AbortSignal) =>
  fetch(`${server.url}/v1/embeddings`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'minilm', ...body }),
    signal: signal ?? null,
  });

/** So much that nobody sees its end: minutes of work. */
const ENDLESS = Array.from({ length: 2_048 }, (_, n) => `${n} `.concat('an inn keeps its rooms for guests who come and go '.repeat(12)));

/** Processor time of a process in ticks of 10 ms. */
function ticks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** The worker computes no more. */
async function rests(pid: number): Promise<void> {
  let before = ticks(pid);
  const since = () => {
    const now = ticks(pid);
    const spent = now - before;
    before = now;
    return spent;
  };
  await expect.poll(since, { message: 'ticks in half a second', intervals: [500], timeout: 5_000 }).toBeLessThanOrEqual(2);
}

test('fifty texts in one request come back in their order, as each alone', async ({ server }) => {
  const texts = Array.from({ length: 50 }, (_, n) => `Room ${n} of the inn ${'has a view of the sea '.repeat(n % 7)}`);
  const whole = await (await embed(server, { input: texts, encoding_format: 'float' })).json();
  expect(whole.data.map(({ index }: { index: number }) => index)).toEqual(texts.map((_, n) => n));
  const cosine = (a: number[], b: number[]) => a.reduce((sum, x, n) => sum + x * b[n]!, 0);
  // The worker takes sixteen at a time: both sides of each seam, and the ends.
  let tokens = 0;
  for (const n of [0, 15, 16, 17, 31, 32, 47, 48, 49]) {
    const alone = await (await embed(server, { input: texts[n] })).json();
    expect(cosine(whole.data[n].embedding, alone.data[0].embedding), texts[n]!).toBeGreaterThan(0.99999);
    expect(cosine(whole.data[n].embedding, whole.data[(n + 1) % 50].embedding)).toBeLessThan(0.9999);
    tokens += alone.usage.prompt_tokens;
  }
  expect(whole.usage.prompt_tokens).toBeGreaterThan(tokens);
  const packed = await (await embed(server, { input: texts, encoding_format: 'base64' })).json();
  const bytes = Buffer.from(packed.data[49].embedding, 'base64');
  expect(bytes.length).toBe(384 * 4);
  expect(bytes.readFloatLE(0)).toBeCloseTo(whole.data[49].embedding[0], 6);
});

test('embeddings can be cancelled: the asker is told, the worker rests, and a row says so', async ({ server }) => {
  const { pid } = (await server.load('minilm')).instances[0]!;
  const asked = embed(server, { input: ENDLESS });
  await expect.poll(async () => (await server.snapshot()).requests.length).toBe(1);
  const { id } = (await server.snapshot()).requests[0]!;
  const began = performance.now();
  expect((await server.post('/manage/cancel', { request: id })).body).toEqual({ cancelled: true });
  const answer = await asked;
  expect([answer.status, (await answer.json()).error.code]).toEqual([499, 'cancelled']);
  await expect.poll(async () => (await server.model('minilm')).in_flight, { timeout: 5_000 }).toBe(0);
  console.log(`a cancelled request gave its lease back after ${(performance.now() - began).toFixed(0)} ms`);
  await rests(pid);
  expect((await server.get('/metrics')).body).toContain('innkeeper_requests_total{model="minilm",outcome="cancelled"} 1');
});

test('who goes away cancels too, and until the worker rests the model is not idle', async ({ server }) => {
  const { pid } = (await server.load('minilm')).instances[0]!;
  const leave = new AbortController();
  const asked = embed(server, { input: ENDLESS }, leave.signal);
  await expect.poll(async () => (await server.snapshot()).requests.length).toBe(1);
  // A stopped worker cannot end what it is at.
  process.kill(pid, 'SIGSTOP');
  leave.abort();
  await asked.catch(() => undefined);
  await expect.poll(async () => (await server.snapshot()).requests).toMatchObject([{ model: 'minilm', state: 'cancelling' }]);
  expect(await server.model('minilm')).toMatchObject({ in_flight: 1, unload_at: null });
  process.kill(pid, 'SIGCONT');
  await expect.poll(async () => (await server.model('minilm')).in_flight, { timeout: 5_000 }).toBe(0);
  await rests(pid);
  await expect
    .poll(async () => (await server.get('/metrics')).body)
    .toContain('innkeeper_requests_total{model="minilm",outcome="cancelled"} 1');
});

test('an empty user names nobody, as in chats', async ({ server }) => {
  for (const user of ['', undefined]) expect((await embed(server, { input: 'a room', user })).status).toBe(200);
  expect((await server.get('/manage/sessions')).body.sessions).toMatchObject([{ requests: 2 }]);
});
