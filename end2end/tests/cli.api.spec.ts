// The command line against a real server: what each verb does, says and ends with.
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type Server, cleanEnvironment, program } from '../support/server.ts';
import { expect, test } from '../support/test.ts';

function run(server: Server, ...args: string[]): SpawnSyncReturns<string> {
  const env = { ...cleanEnvironment(), INNKEEPER_SERVER: server.url, INNKEEPER_DATA_DIR: server.dataDir };
  return spawnSync(program(), args, { encoding: 'utf8', timeout: 50_000, env });
}

/** What a verb prints that does what it should. */
function says(server: Server, ...args: string[]): string {
  const { status, stdout, stderr } = run(server, ...args);
  expect(status, `${args.join(' ')}: ${stderr}`).toBe(0);
  return stdout;
}

test('embed prints a vector a line, and the whole answer as JSON', ({ server }) => {
  const lines = says(server, 'embed', 'minilm', 'a room', 'a bed').trim().split('\n').map((line) => JSON.parse(line));
  expect(lines.map((vector) => vector.length)).toEqual([384, 384]);
  const whole = JSON.parse(says(server, 'embed', 'minilm', 'a room', '--json'));
  expect(whole.data[0].embedding[0]).toBeCloseTo(lines[0][0], 5);
  const wrong = run(server, 'embed', 'smollm2', 'a room');
  expect([wrong.status, wrong.stdout, wrong.stderr]).toEqual([1, '', expect.stringContaining('makes no embeddings')]);
});

test('pin, unpin and set change what holds; of two values none is taken when one is wrong', async ({ server }) => {
  expect(says(server, 'pin', 'smollm2')).toBe('smollm2 is pinned: only an unload makes it go.\n');
  expect((await server.model()).pinned).toBe(true);
  expect(says(server, 'unpin', 'smollm2')).toBe('smollm2 is not pinned any more.\n');
  expect((await server.model()).pinned).toBe(false);
  expect(says(server, 'set', 'smollm2', '--idle-timeout', '5m', '--weight', '2')).toContain('idle timeout 5 min.');
  const wrong = run(server, 'set', 'smollm2', '--idle-timeout', '7m', '--weight', 'bad');
  expect([wrong.status, wrong.stderr]).toEqual([2, expect.stringContaining('write a number from 0.01 to 100')]);
  expect((await server.model()).idle_timeout_seconds).toBe(300);
  expect(says(server, 'set', 'smollm2', '--idle-timeout', 'default')).toContain('15 min');
  const nobody = run(server, 'pin', 'nobody');
  expect([nobody.status, nobody.stderr]).toEqual([1, expect.stringContaining('nobody')]);
});

test('events are listed, followed, and end when their reader goes', async ({ server }) => {
  await server.load();
  expect(says(server, 'events', '--model', 'smollm2')).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  load .*smollm2.*\n$/);
  expect(JSON.parse(says(server, 'events', '--kind', 'server', '--json')).events).toHaveLength(1);
  expect(run(server, 'events', '--kind', 'nonsense').status).toBe(2);
  const env = { ...cleanEnvironment(), INNKEEPER_SERVER: server.url };
  const follower = spawn(program(), ['events', '-f', '--kind', 'unload'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const line = new Promise<string>((heard) => createInterface({ input: follower.stdout }).once('line', heard));
    await expect.poll(async () => (await server.post('/manage/unload', { model: 'smollm2' })).body.verdict).toBe('returned');
    expect(await line).toContain('smollm2 gave back');
  } finally {
    follower.kill();
  }
});

test('status shows every session with what it holds and when it ends', async ({ server }) => {
  const asked = JSON.stringify({ model: 'smollm2', max_tokens: 4, messages: [{ role: 'user', content: 'Hello' }] });
  await server.raw('/v1/chat/completions', asked, { 'x-innkeeper-session': 'notebook' });
  await expect.poll(async () => (await server.snapshot()).sessions[0]?.held_bytes).toBeGreaterThan(0);
  expect(says(server, 'status')).toMatch(/^api:notebook +smollm2 +[\d.]+ \w+ +request to smollm2 +in (4 min \d+ s|5 min)$/m);
});

test('doctor finds this machine fit, and says what is missing without a server', async ({ server }) => {
  const found = says(server, 'doctor');
  for (const what of ['memory', 'numbers', 'GPU', 'data folder', 'models', 'python3', 'server']) expect(found).toContain(what);
  expect(found).toMatch(/ok +models +2 models/);
  expect(found).toMatch(new RegExp(`ok +server +running, process ${server.pid}`));
  await server.stop();
  const alone = run(server, 'doctor');
  expect([alone.status, alone.stdout]).toEqual([0, expect.stringContaining('No server answers at')]);
});

test('config shows where each value is from; completions are a script that bash can read', ({ server }) => {
  const config = `${server.dataDir}/test.toml`;
  expect(says(server, 'config', 'show', '--config', config)).toMatch(/idle\.idle_timeout.*15m.*default/);
  expect(says(server, 'config', 'check', '--config', config)).toBe('The configuration can be used.\n');
  const gone = run(server, 'config', 'check', '--config', `${config}.nowhere`);
  expect([gone.status, gone.stderr]).toEqual([1, expect.stringContaining('cannot read')]);
  const script = says(server, 'completions', 'bash');
  const tried = spawnSync('bash', ['-c', `${script}\ncomplete -p innkeeper`], { encoding: 'utf8' });
  expect([tried.status, tried.stdout]).toEqual([0, expect.stringContaining('innkeeper')]);
  expect(run(server, 'completions', 'tcsh').status).toBe(2);
});

test('bench measures the server that runs', ({ server }) => {
  const { measured, load_ms } = JSON.parse(says(server, 'bench', 'smollm2', '--runs', '1', '--words', '40', '--tokens', '8', '--json'));
  expect(measured.map(({ what, unit }: Record<string, string>) => `${what} ${unit}`)).toEqual([
    'time to first token ms', 'prompt tokens/s', 'answer tokens/s',
  ]);
  for (const { what, median } of measured) expect(median, what).toBeGreaterThan(0);
  expect(load_ms).toBeGreaterThan(0);
  expect(says(server, 'bench', 'minilm', '--runs', '1')).toMatch(/^minilm on \d+ threads?, 1 run, its load took .*\n.*\n.*texts\/s\n.*tokens\/s\n$/);
});

test('without a server a verb ends with 3, and without room with 4', async ({ server }) => {
  await server.post('/manage/yield', { minutes: '5' });
  const refused = run(server, 'load', 'smollm2');
  expect(refused.status, refused.stderr).toBe(4);
  await server.stop();
  for (const verb of [['status'], ['pin', 'smollm2'], ['embed', 'minilm', 'x'], ['events']]) {
    const nobody = run(server, ...verb);
    expect([nobody.status, nobody.stderr], verb[0]).toEqual([3, expect.stringContaining('innkeeper serve')]);
  }
});
