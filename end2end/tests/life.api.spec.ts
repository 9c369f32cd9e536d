// The life of a model as a program sees it: load, use, idle, unload, reload, clean up, and the memory each time.
import { exists, near, privateBytes, runs } from '../support/process.ts';
import { endless } from '../support/stream.ts';
import { expect, test } from '../support/test.ts';
import type { Receipt } from '../support/words.ts';

/** Milliseconds from a deadline to the beginning of the unload, by the receipt itself: the test asks only now and then. */
const afterIts = (deadline: string, { at, duration_ms }: Receipt): number =>
  Date.parse(at) - duration_ms - Date.parse(deadline);

test('a load has a worker whose private bytes are those the page would show', async ({ server }) => {
  expect(server.workers()).toEqual([]);
  const model = await server.load();
  const { pid, memory } = model.instances[0]!;
  expect(server.workers()).toContain(pid);
  expect(memory!.quality).toBe('exact');
  const measured = privateBytes(pid);
  expect(Math.abs(measured - memory!.private_bytes)).toBeLessThan(near(measured));
});

test('an unload gives back what the worker held, measured by somebody else', async ({ server }) => {
  const { pid } = (await server.load()).instances[0]!;
  await server.use();
  const held = privateBytes(pid);
  const { status, body: receipt } = await server.post('/manage/unload', { model: 'smollm2' });
  expect(status).toBe(200);
  expect(receipt).toMatchObject({ model: 'smollm2', pid, reason: 'asked', verdict: 'returned', cut_off_requests: 0 });
  expect(Math.abs(receipt.ram.held_bytes - held)).toBeLessThan(near(held));
  expect(receipt.ram.returned_bytes).toBeGreaterThanOrEqual(receipt.ram.held_bytes * 0.95);
  expect(exists(pid)).toBe(false);
  expect(server.workers()).toEqual([]);
  expect(await server.model()).toMatchObject({ state: 'unloaded', instances: [] });
});

test('unloading what is not loaded says so and is no error', async ({ server }) => {
  const { status, body } = await server.post('/manage/unload', { model: 'smollm2' });
  expect(status).toBe(200);
  expect(body.verdict).toBe('not_loaded');
});

test('a chat loads the model it asks for', async ({ server }) => {
  const { status, body } = await server.raw('/v1/chat/completions', JSON.stringify({
    model: 'smollm2', max_tokens: 4, messages: [{ role: 'user', content: 'Hello' }],
  }));
  expect(status).toBe(200);
  expect(body.choices[0].message.content).not.toBe('');
  expect(body.timings.ttft_ms).toBeGreaterThan(0);
  // The lease is given back a moment after the answer's last byte.
  await expect.poll(() => server.model()).toMatchObject({ state: 'ready', in_flight: 0 });
});

test('the worker that waits is Innkeeper\'s own until a load takes it, and another one waits then', async ({ server }) => {
  const waiting = async () => (await server.snapshot()).server.spare;
  await expect.poll(waiting).not.toBeNull();
  const { server: own, books } = await server.snapshot();
  expect(books[0]!.server_bytes, 'with the server').toBe(own.private_bytes! + own.spare!.private_bytes);
  const held = privateBytes(own.spare!.pid);
  expect(Math.abs(own.spare!.private_bytes - held)).toBeLessThan(near(held));
  expect(own.spare!.private_bytes).toBeLessThan(4 * 2 ** 20);
  const { pid } = (await server.load()).instances[0]!;
  expect(pid).toBe(own.spare!.pid);
  await expect.poll(async () => (await waiting())?.pid ?? pid).not.toBe(pid);
  expect(server.workers()).toEqual([pid]);
});

test('loading twice at once is one load', async ({ server }) => {
  const [one, two] = await Promise.all([server.load(), server.load()]);
  expect(one.instances[0]!.pid).toBe(two.instances[0]!.pid);
  expect(server.workers().length).toBe(1);
});

test('a load that is not waited for answers 202 while it is under way, 200 when there is nothing to wait for', async ({ server }) => {
  const first = await server.post('/manage/load', { model: 'smollm2', wait: 'false' });
  expect(first.status).toBe(202);
  expect(first.body.state).not.toBe('ready');
  await server.load();
  const { status, body } = await server.post('/manage/load', { model: 'smollm2', wait: 'false' });
  expect([status, body.state]).toEqual([200, 'ready']);
});

test('an unload while it loads cancels the load', async ({ server }) => {
  const loading = server.post('/manage/load', { model: 'smollm2' });
  await expect.poll(async () => (await server.model()).state, { intervals: [1] }).not.toBe('unloaded');
  const { status } = await server.post('/manage/unload', { model: 'smollm2', force: 'true' });
  expect(status).toBe(200);
  const answer = await loading;
  // The load may have won the race by a hair; then it was unloaded as a ready model.
  if (answer.status !== 200) expect([answer.status, answer.body.error.code]).toEqual([503, 'load_cancelled']);
  await server.reaches('smollm2', 'unloaded');
  expect(server.workers()).toEqual([]);
});

test('reload gives a receipt for the old instance and another process', async ({ server }) => {
  const old = (await server.load()).instances[0]!;
  const { status, body } = await server.post('/manage/reload', { model: 'smollm2' });
  expect(status).toBe(200);
  expect(body.receipt).toMatchObject({ pid: old.pid, reason: 'reload', verdict: 'returned' });
  expect(body.model.state).toBe('ready');
  expect(body.model.instances[0].pid).not.toBe(old.pid);
  expect(body.model.instances[0].epoch).toBeGreaterThan(old.epoch);
  expect(exists(old.pid)).toBe(false);
});

test('a forced unload ends a running stream with a reason', async ({ server }) => {
  const chat = endless(server.url);
  await chat.first;
  const { body } = await server.post('/manage/unload', { model: 'smollm2', force: 'true' });
  expect(body).toMatchObject({ verdict: 'returned', cut_off_requests: 1 });
  expect(await chat.whole).toMatch(/data: \{"error":/);
});

test('a clean-up keeps what is busy and says why, and with force takes it too', async ({ server }) => {
  const leave = new AbortController();
  const chat = endless(server.url, leave.signal);
  await chat.first;
  await server.load('minilm');
  const gentle = await server.post('/manage/cleanup');
  expect(gentle.body.receipts.map((receipt: { model: string }) => receipt.model)).toEqual(['minilm']);
  expect(gentle.body.kept).toEqual([{ model: 'smollm2', reason: expect.stringContaining('request') }]);
  const forced = await server.post('/manage/cleanup', { force: 'true' });
  expect(forced.body.receipts).toMatchObject([{ model: 'smollm2', verdict: 'returned', cut_off_requests: 1 }]);
  expect(forced.body.kept).toEqual([]);
  leave.abort();
});

test('a dry clean-up changes nothing and expects what is there', async ({ server }) => {
  const { pid } = (await server.load()).instances[0]!;
  const { body } = await server.post('/manage/cleanup', { dry_run: 'true' });
  expect(body.would_unload).toEqual([{ model: 'smollm2', expected_bytes: expect.any(Number) }]);
  const held = privateBytes(pid);
  expect(Math.abs(body.would_unload[0].expected_bytes - held)).toBeLessThan(near(held));
  expect(exists(pid)).toBe(true);
  const frightening = await server.post('/manage/cleanup', { dry_run: '' });
  expect(frightening.status).toBe(400);
  expect(exists(pid)).toBe(true);
});

test.describe('with an idle timeout of two seconds', () => {
  test.use({ settings: { idleTimeout: '2s' } });

  test('an idle model goes by itself within a second of its deadline', async ({ server }) => {
    const { unload_at } = await server.load();
    await server.reaches('smollm2', 'unloaded');
    const receipt = (await server.snapshot()).receipts[0]!;
    const late = afterIts(unload_at!, receipt);
    console.log(`the unload began ${late} ms after the deadline, and was proved ${receipt.duration_ms} ms later`);
    expect(late, 'ms after the deadline').toBeGreaterThanOrEqual(0);
    expect(late, 'ms after the deadline').toBeLessThan(1_000);
    expect(receipt).toMatchObject({ model: 'smollm2', reason: 'idle', verdict: 'returned' });
    expect(server.workers()).toEqual([]);
  });

  test('a model in use stays, and its time counts from the end of the use', async ({ server }) => {
    const leave = new AbortController();
    const chat = endless(server.url, leave.signal);
    await chat.first;
    const begun = Date.now();
    // Twice its timeout in use: what is waited for here is the time itself.
    await expect.poll(() => Date.now() - begun, { timeout: 8_000, intervals: [250] }).toBeGreaterThan(4_000);
    expect(await server.model()).toMatchObject({ state: 'ready', in_flight: 1, unload_at: null });
    leave.abort();
    await expect.poll(async () => (await server.model()).in_flight).toBe(0);
    expect(Date.parse((await server.model()).unload_at!)).toBeGreaterThan(Date.now());
    await server.reaches('smollm2', 'unloaded');
  });

  test('a pinned model stays', async ({ server }) => {
    await server.load();
    expect((await server.post('/manage/pin', { model: 'smollm2', pinned: 'true' })).body.pinned).toBe(true);
    const begun = Date.now();
    await expect.poll(() => Date.now() - begun, { timeout: 8_000, intervals: [250] }).toBeGreaterThan(3_500);
    expect(await server.model()).toMatchObject({ state: 'ready', unload_at: null });
  });

  test('reads do not reset the timer', async ({ server }) => {
    const { unload_at } = await server.load();
    await expect
      .poll(async () => (await server.get('/v1/models'), (await server.model()).state), { intervals: [50], timeout: 6_000 })
      .toBe('unloaded');
    expect(afterIts(unload_at!, (await server.snapshot()).receipts[0]!)).toBeLessThan(1_000);
  });
});

test('a worker that is killed ends its stream with a sentence, and the server goes on', async ({ server }) => {
  const chat = endless(server.url);
  await chat.first;
  const { pid } = (await server.model()).instances[0]!;
  process.kill(pid, 'SIGKILL');
  const said = await chat.whole;
  const error = JSON.parse(/data: (\{"error":.*\})/.exec(said)![1]!).error;
  expect(error.code).toBe('worker_died');
  expect(error.message).toMatch(/\w+ .+\./);
  expect((await server.get('/healthz')).status).toBe(200);
  const again = await server.raw('/v1/chat/completions', JSON.stringify({
    model: 'smollm2', max_tokens: 2, messages: [{ role: 'user', content: 'Still there?' }],
  }));
  expect(again.status).toBe(200);
});

test('a worker dies with its server, even when the server is killed', async ({ server }) => {
  const { pid } = (await server.load()).instances[0]!;
  await server.kill();
  // Nobody of the house is left to reap it; that is for the system to do, when it likes.
  await expect.poll(() => runs(pid), { timeout: 2_000 }).toBe(false);
  await server.startAgain();
  expect(await server.model()).toMatchObject({ state: 'unloaded' });
});

test('a stop ends running streams in order', async ({ server }) => {
  const chat = endless(server.url);
  await chat.first;
  await server.stop();
  expect(await chat.whole).toContain('data: ');
});
