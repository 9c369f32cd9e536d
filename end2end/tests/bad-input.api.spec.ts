// What must be answered in order, whatever is sent.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleanEnvironment, program } from '../support/server.ts';
import { expect, test } from '../support/test.ts';

const chat = (more: object) => JSON.stringify({ model: 'smollm2', messages: [{ role: 'user', content: 'x' }], ...more });

test('management refuses in one shape: code, message, hint', async ({ server }) => {
  const table: [string, Record<string, string>, number, string][] = [
    ['/manage/load', { model: 'nobody' }, 404, 'unknown_model'],
    ['/manage/load', {}, 400, 'bad_argument'],
    ['/manage/load', { model: '../../etc/passwd' }, 400, 'bad_argument'],
    ['/manage/load', { model: 'x'.repeat(129) }, 400, 'bad_argument'],
    ['/manage/load', { model: 'smollm2', idle_timeout: 'soon' }, 400, 'bad_argument'],
    ['/manage/load', { model: 'smollm2', idle_timeout: '99999999999999999999d' }, 400, 'bad_argument'],
    ['/manage/load', { model: 'smollm2', context: '-1' }, 400, 'bad_argument'],
    ['/manage/load', { model: 'smollm2', context: '99999999999999999999' }, 400, 'bad_argument'],
    ['/manage/unload', { model: 'nobody' }, 404, 'unknown_model'],
    ['/manage/unload', { model: 'smollm2', force: 'perhaps' }, 400, 'bad_argument'],
    ['/manage/reload', { model: 'nobody' }, 404, 'unknown_model'],
    ['/manage/cleanup', { what: 'everything' }, 400, 'bad_argument'],
    ['/manage/pin', { model: 'smollm2', pinned: '1' }, 400, 'bad_argument'],
    ['/manage/idle_timeout', { model: 'smollm2', idle_timeout: '' }, 400, 'bad_argument'],
  ];
  for (const [path, form, status, code] of table) {
    const answer = await server.post(path, form);
    const what = `${path} ${JSON.stringify(form).slice(0, 80)} -> ${JSON.stringify(answer.body).slice(0, 200)}`;
    expect([answer.status, answer.body.error?.code], what).toEqual([status, code]);
    expect(answer.body.error.message, what).toMatch(/\S/);
    expect(answer.body.error.hint, what).toMatch(/\S/);
  }
  expect(server.workers(), 'nothing was loaded by any of them').toEqual([]);
});

test('a JSON body, a repeated key, a wrong method, an unknown verb', async ({ server }) => {
  expect((await server.raw('/manage/load', '{"model":"smollm2"}')).status).toBe(400);
  const twice = await server.raw('/manage/load', 'model=smollm2&model=minilm', {
    'content-type': 'application/x-www-form-urlencoded',
  });
  expect(twice.status).toBe(400);
  expect((await server.get('/manage/load')).status).toBe(405);
  const unknown = await server.post('/manage/dance');
  expect([unknown.status, unknown.body.error.code]).toEqual([404, 'not_found']);
});

test('the OpenAI API refuses bad requests before any model is loaded', async ({ server }) => {
  const table: [string, BodyInit, number][] = [
    ['/v1/chat/completions', '', 400],
    ['/v1/chat/completions', '{', 400],
    ['/v1/chat/completions', '[]', 400],
    ['/v1/chat/completions', '{"model":"smollm2"}', 400],
    ['/v1/chat/completions', chat({ model: 'nobody' }), 404],
    ['/v1/chat/completions', chat({ model: 7 }), 400],
    ['/v1/chat/completions', chat({ messages: [] }), 400],
    ['/v1/chat/completions', chat({ messages: [{ role: 'ghost', content: 'x' }] }), 400],
    ['/v1/chat/completions', chat({ temperature: -1 }), 400],
    ['/v1/chat/completions', chat({ temperature: 1e300 }), 400],
    ['/v1/chat/completions', chat({ top_p: 2 }), 400],
    ['/v1/chat/completions', chat({ max_tokens: -5 }), 400],
    ['/v1/chat/completions', chat({ max_tokens: 1e30 }), 400],
    ['/v1/chat/completions', chat({ n: 1000 }), 400],
    ['/v1/chat/completions', chat({ stop: 7 }), 400],
    ['/v1/chat/completions', '['.repeat(100_000), 400],
    ['/v1/chat/completions', new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]), 400],
    ['/v1/embeddings', JSON.stringify({ model: 'minilm' }), 400],
    ['/v1/embeddings', JSON.stringify({ model: 'minilm', input: [] }), 400],
    ['/v1/embeddings', JSON.stringify({ model: 'minilm', input: 'x', encoding_format: 'morse' }), 400],
    ['/v1/embeddings', JSON.stringify({ model: 'smollm2', input: 'x' }), 400],
    ['/v1/chat/completions', chat({ model: 'minilm' }), 400],
  ];
  for (const [path, body, status] of table) {
    const answer = await server.raw(path, body);
    const what = `${path} ${String(body).slice(0, 90)} -> ${JSON.stringify(answer.body).slice(0, 200)}`;
    expect(answer.status, what).toBe(status);
    expect(answer.body.error?.message, what).toMatch(/\S/);
    expect(answer.headers.get('x-request-id'), what).toMatch(/\S/);
  }
  expect((await server.get('/healthz')).status).toBe(200);
});

test('a body over the limit is 413, in the words of the path', async ({ server }) => {
  const answer = await server.raw('/v1/chat/completions', chat({ junk: 'x'.repeat(3 << 20) }));
  expect(answer.status).toBe(413);
  expect(answer.body.error.message).toMatch(/\S/);
});

test('a prompt longer than the context is refused with its code, and the model stays', async ({ server }) => {
  const answer = await server.raw('/v1/chat/completions', chat({ messages: [{ role: 'user', content: 'word '.repeat(30_000) }] }));
  expect([answer.status, answer.body.error.code]).toEqual([400, 'context_length_exceeded']);
  await expect.poll(() => server.model()).toMatchObject({ state: 'ready', in_flight: 0 });
});

test('a file that is no model answers 422 with the reason, a broken one too, and both harm nobody', async ({ server }) => {
  const { pid } = (await server.load()).instances[0]!;
  const models = join(server.dataDir, 'models');
  writeFileSync(join(models, 'poem.gguf'), 'Roses are red, violets are blue.\n'.repeat(100));
  const whole = readdirSync(models).find((name) => name.endsWith('.gguf') && name !== 'poem.gguf')!;
  copyFileSync(join(models, whole), join(models, 'broken.gguf'));
  truncateSync(join(models, 'broken.gguf'), 3_000_000);
  const header = readFileSync(join(models, whole)).subarray(0, 64);
  header.writeBigUInt64LE(2n ** 63n, 8);
  writeFileSync(join(models, 'giant.gguf'), header);
  // A file that somebody may still be writing is left alone, and is no model until then.
  for (const id of ['poem', 'broken', 'giant']) {
    const status = async () => (await server.post('/manage/load', { model: id })).status;
    await expect.poll(status, { timeout: 10_000, message: `${id} is whole` }).not.toBe(409);
    const answer = await server.post('/manage/load', { model: id });
    expect([id, answer.status, answer.body.error?.code], JSON.stringify(answer.body)).toEqual([id, 422, 'unsupported_model']);
    const chatted = await server.raw('/v1/chat/completions', chat({ model: id }));
    expect([id, chatted.status]).toEqual([id, 422]);
  }
  expect((await server.model()).instances[0]!.pid).toBe(pid);
  expect(server.workers()).toEqual([pid]);
});

test('a foreign page may change nothing', async ({ server }) => {
  const foreign: Record<string, string>[] = [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: 'https://elsewhere.example' },
  ];
  for (const headers of foreign) {
    const answer = await server.post('/manage/load', { model: 'smollm2' }, headers);
    expect([answer.status, answer.body.error.code], JSON.stringify(headers)).toEqual([403, 'forbidden']);
  }
  expect((await server.model()).state).toBe('unloaded');
});

test('a name that the server does not listen as is refused on every route', async ({ server }) => {
  for (const path of ['/', '/manage/snapshot', '/v1/models', '/events', '/healthz']) {
    const status = await new Promise<number>((resolve, reject) => {
      const call = request(server.url + path, { headers: { host: 'rebound.example' } }, (response) => {
        response.destroy();
        resolve(response.statusCode!);
      });
      call.on('error', reject).end();
    });
    expect([path, status]).toEqual([path, 403]);
  }
});

test.describe('a server that cannot start says why and what to do, and ends with 1', () => {
  const serve = (...args: string[]) =>
    spawnSync(program(), ['serve', ...args], { encoding: 'utf8', timeout: 20_000, env: cleanEnvironment() });
  let dir = '';
  test.beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'innkeeper-e2e-'))));
  test.afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test('the port is in use', ({ server }) => {
    const run = serve('--listen', new URL(server.url).host, '--data-dir', dir);
    expect([run.status, run.stdout], run.stderr).toEqual([1, '']);
    expect(run.stderr).toMatch(/in use/i);
  });

  test('the data folder is a file', () => {
    const file = join(dir, 'file');
    writeFileSync(file, 'not a folder');
    const run = serve('--listen', '127.0.0.1:0', '--data-dir', file);
    expect([run.status, run.stdout], run.stderr).toEqual([1, '']);
    expect(run.stderr).toContain(file);
  });

  test('another server has the data folder', ({ server }) => {
    const run = serve('--listen', '127.0.0.1:0', '--data-dir', server.dataDir);
    expect([run.status, run.stdout], run.stderr).toEqual([1, '']);
    expect(run.stderr).toMatch(/another|already/i);
  });

  test('the configuration has a typing error', () => {
    const file = join(dir, 'bad.toml');
    writeFileSync(file, '[memory]\nram_limt = "80%"\n');
    const run = serve('--listen', '127.0.0.1:0', '--data-dir', dir, '--config', file);
    expect([run.status, run.stdout], run.stderr).toEqual([1, '']);
    expect(run.stderr).toContain('ram_limt');
  });

  test('an unknown option is a usage error', () => {
    expect(serve('--lisen', 'x').status).toBe(2);
  });
});
