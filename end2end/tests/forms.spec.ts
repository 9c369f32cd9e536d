// Every form that the other journeys do not send: with WASM, and as a plain form.
import { utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { button, notice, receipts, row, rowIn } from '../support/page.ts';
import { frozen } from '../support/frozen.ts';
import { modelsDir } from '../support/server.ts';
import { endless } from '../support/stream.ts';
import { expect, test } from '../support/test.ts';

test('Keep begins the time of a model anew', async ({ page, open, server }) => {
  await server.load();
  await open('/');
  const before = (await server.model()).unload_at!;
  await button(page, 'Keep smollm2 loaded').click();
  await expect(notice(page)).toContainText('smollm2 is ready');
  expect(Date.parse((await server.model()).unload_at!)).toBeGreaterThan(Date.parse(before));
});

test('End ends a session, cuts off what it runs, and gives back what was kept for it', async ({ page, open, server }) => {
  const named = { 'x-innkeeper-session': 'notebook' };
  const asked = JSON.stringify({ model: 'smollm2', max_tokens: 4, messages: [{ role: 'user', content: 'Count. '.repeat(60) }] });
  expect((await server.raw('/v1/chat/completions', asked, named)).status).toBe(200);
  const theirs = async () => (await server.snapshot()).sessions.find(({ label }) => label === 'api:notebook');
  await expect.poll(async () => (await theirs())?.held_bytes).toBeGreaterThan(0);
  await open('/');
  const session = page.locator('[data-session]').filter({ hasText: 'api:notebook' });
  await expect(session).toContainText(/with smollm2 · 1 request · holds [\d.]+ \w+ of conversation/);
  await expect(session).toContainText(/ends in (4 min \d+ s|5 min)/);
  await button(session, /^End session/).click();
  await expect(notice(page)).toHaveText(/The session was ended/);
  await expect(session).toHaveCount(0);
  expect(await theirs()).toBeUndefined();
  const { body } = await server.get('/manage/history?kind=session');
  expect(body.events).toMatchObject([{ model: 'smollm2', reason: 'asked' }]);
  expect(body.events[0].bytes_before).toBeGreaterThan(0);
});

test('a request in flight can be cancelled, and its reader is told', async ({ page, open, server }) => {
  const chat = endless(server.url);
  await chat.first;
  await open('/');
  const request = page.locator('[data-request]');
  await expect(request).toContainText('smollm2');
  await button(request, /^Cancel request/).click();
  await expect(notice(page)).toHaveText(/The request was cancelled/);
  expect(await chat.whole).toMatch(/"code":"cancelled"/);
  await expect(request).toHaveCount(0);
  expect((await server.model()).state).toBe('ready');
});

test('Unload now ends the patience of an unload that waits for a request', async ({ page, open, server }) => {
  const chat = endless(server.url);
  await chat.first;
  const unload = server.post('/manage/unload', { model: 'smollm2' });
  await server.reaches('smollm2', 'draining');
  await open('/');
  await expect(row(page)).toContainText('draining, 1 left');
  await button(page, 'Unload now smollm2').click();
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  expect((await unload).body).toMatchObject({ verdict: 'returned', cut_off_requests: 1 });
  expect(await chat.whole).toMatch(/data: \{"error":/);
});

test('a load is called off, and shows what it is at until then', async ({ page, open, server }) => {
  const { loading } = await frozen(server);
  await open('/');
  await expect(rowIn(page, 'loading')).toContainText(/starting|reading|building|loading/);
  await expect(rowIn(page, 'loading').getByRole('progressbar')).toBeVisible();
  await button(page, 'Cancel load smollm2').click();
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  const { status, body } = await loading;
  expect([status, body.error.code]).toEqual([503, 'load_cancelled']);
  expect(server.workers()).toEqual([]);
});

test('the box for busy models takes them too, and their requests end with a reason', async ({ page, open, server }) => {
  const chat = endless(server.url);
  await chat.first;
  await open('/');
  await button(page, /^Clean up AI resources/).click();
  const dialog = page.getByRole('dialog', { name: 'Clean up AI resources' });
  await expect(dialog.getByRole('listitem').filter({ hasText: 'smollm2' })).toContainText('request');
  await dialog.getByRole('checkbox', { name: /^Busy models too/ }).check();
  await button(dialog, /^Clean up/).click();
  await expect(receipts(page).first()).toContainText('smollm2 gave back');
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  expect(await chat.whole).toMatch(/data: \{"error":/);
});

test('Unpin takes a pin back', async ({ page, open, server }) => {
  await server.load();
  await server.post('/manage/pin', { model: 'smollm2', pinned: 'true' });
  await open('/');
  await button(page, 'Unpin smollm2').click();
  await expect(notice(page)).toHaveText(/smollm2 is no longer pinned/);
  await expect(button(page, 'Pin smollm2')).toBeVisible();
  expect(await server.model()).toMatchObject({ pinned: false, unload_at: expect.any(String) });
});

test.describe('with one model on the shelf', () => {
  test.use({ settings: { models: ['minilm'] } });

  test('a model is added: fetched by what one writes into the field, or found when one looks again', async ({ page, open, server }) => {
    await open('/');
    const add = page.locator('details.add');
    await add.getByText('Add a model').click();
    await page.getByLabel('Fetch').fill(join(modelsDir(), 'smollm2.gguf'));
    await button(add, 'Download').click();
    await expect.poll(async () => (await server.snapshot()).models.length, { timeout: 20_000 }).toBe(2);
    await page.reload();
    await expect(rowIn(page, 'unloaded')).toBeVisible();
    const poem = join(server.dataDir, 'models', 'poem.gguf');
    writeFileSync(poem, 'Roses are red.\n'.repeat(99));
    // What was written just now may still be on its way.
    utimesSync(poem, new Date(0), new Date(0));
    await add.getByText('Add a model').click();
    await button(add, 'Look again').click();
    await expect(notice(page)).toHaveText(/Looked again: 3 models/);
    await expect(row(page, 'poem')).toBeVisible();
  });
});
