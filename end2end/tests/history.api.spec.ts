// What is written down: the ledger over restarts, measurements, performance, the files to take away, and /metrics.
import { spawnSync } from 'node:child_process';
import { appendFileSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { program } from '../support/server.ts';
import { expect, test } from '../support/test.ts';

/** What the tests read of an event. */
interface Event { id: number; kind: string; model: string | null; reason: string; detail: string; receipt: { verdict: string } | null }

test('the ledger outlives a stop and a kill, and says how each run began', async ({ server }) => {
  const { instances } = await server.load();
  await server.post('/manage/unload', { model: 'smollm2' });
  await server.stop();
  await server.startAgain();
  await server.load();
  // A kill may take the last second with it.
  const kinds = async () => (await server.get('/manage/history')).body.events.map((event: Event) => event.kind);
  expect(await kinds()).toEqual(['load', 'server', 'server', 'unload', 'load', 'server']);
  // What performance tells is in the file, and with it what happened before.
  await server.use();
  const written = async () => (await server.get('/manage/performance')).body.models[0]?.windows[0].requests;
  await expect.poll(written).toBe(1);
  await server.kill();
  await server.startAgain();
  const events: Event[] = (await server.get('/manage/history')).body.events;
  expect(events.map((event) => `${event.kind} ${event.reason}`)).toEqual([
    'server started', 'load asked', 'server started', 'server stopped', 'unload asked', 'load asked', 'server started',
  ]);
  expect(events[0]!.detail).toMatch(/the server before was cut off while it held smollm2 \([\d.]+ MiB\)$/);
  expect(events[4]!.receipt).toMatchObject({ verdict: 'returned', pid: instances[0]!.pid });
  const ids = events.map((event) => event.id);
  expect(ids, 'numbers grow over restarts').toEqual([...ids].sort((a, b) => b - a));
  expect(new Set(ids).size).toBe(ids.length);
  expect((await server.model()).state, 'replaying the ledger gives what is').toBe('unloaded');
});

test('pages of the history follow one another, and its filters hold', async ({ server }) => {
  for (let round = 0; round < 3; round++) {
    await server.load();
    await server.post('/manage/unload', { model: 'smollm2' });
  }
  const all: Event[] = (await server.get('/manage/history')).body.events;
  const paged: Event[] = [];
  for (let after = ''; ; ) {
    const { body } = await server.get(`/manage/history?limit=3${after}`);
    expect(body.events.length).toBeLessThanOrEqual(3);
    paged.push(...body.events);
    if (body.next === null) break;
    after = `&after=${body.next}`;
  }
  expect(paged).toEqual(all);
  const loads = (await server.get('/manage/history?kind=load&model=smollm2&since=1h&until=')).body.events;
  expect(loads).toEqual(all.filter((event) => event.kind === 'load'));
  expect((await server.get('/manage/history?until=1h')).body).toEqual({ events: [], next: null });
  for (const bad of ['kind=party', 'since=soon', 'model=a%20b']) {
    expect((await server.get(`/manage/history?${bad}`)).status, bad).toBe(400);
  }
});

test('the history can be taken away as CSV and as JSON', async ({ server }) => {
  await server.load();
  await server.post('/manage/unload', { model: 'smollm2' });
  const { body: page } = await server.get('/manage/history');
  const json = await server.get('/manage/history.json');
  expect(json.headers.get('content-disposition')).toBe('attachment; filename="innkeeper-history.json"');
  expect(json.body).toEqual(page);
  const csv = await server.get('/manage/history.csv?kind=unload');
  expect(csv.headers.get('content-type')).toContain('text/csv');
  const [head, line, end] = (csv.body as string).split('\r\n');
  expect(head).toBe('id,at,kind,model,reason,asked_by,duration_ms,bytes_before,bytes_after,verdict,returned_bytes,residual_bytes,detail');
  expect(line).toMatch(/^\d+,[^,]+,unload,smollm2,asked,[^,]*,\d+,\d+,0,returned,\d+,0,$/);
  expect(end).toBe('');
  expect((await server.get('/manage/history.csv?since=soon')).status).toBe(400);
});

test('what a model held can be read back, and so can how it answered', async ({ server }) => {
  await server.load();
  await server.use();
  const held = (await server.measured()).memory!.private_bytes;
  const series = async (query: string) => (await server.get(`/manage/measurements?${query}`)).body;
  await expect.poll(async () => (await series('series=models&since=1m&step=1s')).points.at(-1)?.values.smollm2).toBe(held);
  const ram = (await series('series=ram&step=1m')).points.at(-1).values;
  const { books } = await server.snapshot() as unknown as { books: { total_bytes: number }[] };
  const sum = Object.values(ram as Record<string, number>).reduce((total, bytes) => total + bytes, 0);
  expect(Math.abs(sum - books[0]!.total_bytes), 'five columns make the machine').toBeLessThan(5);
  expect((await series('series=cpu')).points.at(-1).values.cpu_percent).toBeGreaterThanOrEqual(0);
  const wide = await series('since=365d&step=1s');
  expect(wide.step_seconds).toBeGreaterThan(10_000);
  // A request is written down within a second.
  const hour = async () => {
    const { body } = await server.get('/manage/performance');
    return body.models.find((one: { model: string }) => one.model === 'smollm2')?.windows[1];
  };
  await expect.poll(async () => (await hour())?.requests, { timeout: 10_000 }).toBe(1);
  const window = await hour();
  expect(window).toMatchObject({ window: '1h', failed: 0, completion_tokens: 8, requests_per_hour: 1 });
  for (const spread of ['load_ms', 'time_to_first_token_ms', 'queue_wait_ms', 'tokens_per_second']) {
    expect(window[spread], spread).toMatchObject({ count: 1 });
  }
  expect(window.time_to_first_token_ms.p99).toBeGreaterThan(0);
  // The next second's measurement counts as well.
  await expect.poll(async () => (await hour()).gib_hours).toBeGreaterThan(0);
});

test('no prompt, no answer and no token is ever written down', async ({ server }) => {
  const secret = 'xyzzy-plugh-4711';
  const headers = { authorization: `Bearer ${secret}-token-long-enough`, 'x-innkeeper-session': 'a notebook' };
  const messages = [{ role: 'user', content: `Repeat: ${secret}` }];
  const body = JSON.stringify({ model: 'smollm2', max_tokens: 24, temperature: 0, messages });
  const { status, body: answer } = await server.raw('/v1/chat/completions', body, headers);
  expect(status).toBe(200);
  const made = answer.choices[0].message.content.trim();
  const written = async () => (await server.get('/manage/performance')).body.models[0]?.windows[0].requests;
  await expect.poll(written).toBe(1);
  const files = readdirSync(server.dataDir).filter((name) => name.startsWith('history.db'));
  expect(files.length).toBeGreaterThan(1);
  for (const name of files) {
    const bytes = readFileSync(join(server.dataDir, name)).toString('latin1');
    for (const words of [secret, 'Repeat:', made]) expect(bytes.includes(words), `${words} in ${name}`).toBe(false);
  }
});

test('a damaged history is set aside with a word, and the server goes on', async ({ server }) => {
  await server.load();
  await server.stop();
  writeFileSync(join(server.dataDir, 'history.db'), 'this is no database, and it is long enough to be looked at');
  appendFileSync(join(server.dataDir, 'history.db'), 'x'.repeat(9_000));
  await server.startAgain();
  const { warnings } = await server.snapshot() as unknown as { warnings: { code: string; hint: string }[] };
  expect(warnings).toMatchObject([{ code: 'history_set_aside' }]);
  const kept = readdirSync(server.dataDir).find((name) => name.startsWith('history-damaged-'))!;
  expect(warnings[0]!.hint).toContain(kept);
  await server.load();
  expect((await server.get('/manage/history')).body.events.map((event: Event) => event.kind)).toEqual(['load', 'server']);
  const told = spawnSync(program(), ['status', '--server', server.url], { encoding: 'utf8', timeout: 20_000 });
  expect(told.stdout).toContain('Warning: The history was damaged and was set aside');
});

test('a scraper finds every metric, with its unit, and the dashboard names no other', ({ server }) => {
  const script = join(import.meta.dirname, '../clients/metrics.py');
  const dashboard = join(import.meta.dirname, '../../packaging/grafana.json');
  const python = process.env.INNKEEPER_PYTHON ?? 'python3';
  const run = spawnSync(python, [script, server.url, dashboard], { encoding: 'utf8', timeout: 50_000 });
  expect(run.status, run.error?.message ?? run.stderr).toBe(0);
  expect(run.stdout).toBe('metrics holds\n');
});
