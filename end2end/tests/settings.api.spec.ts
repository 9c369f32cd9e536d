// What is kept: only what can be used, for a restart and for files that come back; by one rule in API, CLI and environment.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Server, cleanEnvironment, linkModels, program } from '../support/server.ts';
import { expect, test } from '../support/test.ts';

const kept = (server: Server) => join(server.dataDir, 'settings.toml');

test('what is refused leaves nothing behind, whatever is repeated', async ({ server }) => {
  for (const [verb, form] of [
    ['pin', { pinned: 'true' }],
    ['idle_timeout', { idle_timeout: '5m' }],
    ['weight', { weight: '2' }],
  ] as const) {
    const { status, body } = await server.post(`/manage/${verb}`, { model: 'nobody', ...form });
    expect([status, body.error.code], verb).toEqual([404, 'unknown_model']);
  }
  expect(existsSync(kept(server))).toBe(false);
  expect((await server.get('/manage/settings')).body.models).toEqual([]);
});

test('a pin and a timeout outlast a restart, and the files too', async ({ server }) => {
  await server.post('/manage/pin', { model: 'smollm2', pinned: 'true' });
  await server.post('/manage/idle_timeout', { model: 'smollm2', idle_timeout: '7m' });
  const own = { pinned: true, idle_timeout_seconds: 420 };
  await server.stop();
  await server.startAgain();
  expect(await server.model()).toMatchObject(own);
  expect((await server.post('/manage/remove', { model: 'smollm2' })).status).toBe(200);
  await server.post('/manage/rescan');
  expect((await server.snapshot()).models.map(({ id }) => id)).toEqual(['minilm']);
  linkModels(join(server.dataDir, 'models'), ['smollm2']);
  await server.post('/manage/rescan');
  expect(await server.model()).toMatchObject(own);
});

test('what is saved while the server runs holds for files that come back, without a restart between', async ({ server }) => {
  await server.post('/manage/remove', { model: 'minilm' });
  await server.post('/manage/pin', { model: 'smollm2', pinned: 'true' });
  await server.post('/manage/remove', { model: 'smollm2' });
  linkModels(join(server.dataDir, 'models'), ['smollm2']);
  await server.post('/manage/rescan');
  expect((await server.model()).pinned).toBe(true);
  const { body } = await server.get('/manage/settings');
  expect(body.models).toMatchObject([{ model: 'smollm2', pinned: { value: 'true', source: 'saved' } }]);
});

test.describe('with variables', () => {
  const env = { INNKEEPER_MODELS__SMOLLM2__PINNED: 'true', INNKEEPER_IDLE__SESSION_TIMEOUT: '9m' };
  test.use({ settings: { env } });

  test('the environment decides for the house and for one model, and locks what it decides', async ({ server }) => {
    expect((await server.model()).pinned).toBe(true);
    const { body } = await server.get('/manage/settings');
    const [variable] = Object.keys(env);
    expect(body.models).toMatchObject([{ model: 'smollm2', pinned: { source: 'env', locked: true, place: variable } }]);
    expect(body.session_timeout).toMatchObject({ value: '9m', source: 'env', locked: true });
    const refused = await server.post('/manage/pin', { model: 'smollm2', pinned: 'false' });
    expect([refused.status, refused.body.error.message]).toEqual([409, expect.stringContaining(variable!)]);
    expect((await server.model()).pinned).toBe(true);
    expect((await server.post('/manage/settings', { session_timeout: '1m' })).status).toBe(409);
  });
});

test('a misspelt variable is an error in words, as it is in a file', ({ server }) => {
  for (const [name, words] of [
    ['INNKEEPER_MODELS__SMOLLM2__PIN', 'unknown key `models.smollm2.pin` (env INNKEEPER_MODELS__SMOLLM2__PIN)'],
    ['INNKEEPER_IDLE_TIMEOUT', 'INNKEEPER_IDLE__IDLE_TIMEOUT'],
  ] as const) {
    const env = { ...cleanEnvironment(), [name]: 'true' };
    const run = spawnSync(program(), ['config', 'check', '--data-dir', server.dataDir], { encoding: 'utf8', env });
    expect([run.status, run.stderr]).toEqual([1, expect.stringContaining(words)]);
  }
});
