// Activity: what happened, by what cause; filtered by the address; exported; with WASM it grows while one looks.
import type { Page } from '@playwright/test';
import { expect, test } from '../support/test.ts';

const rows = (page: Page) => page.locator('.ledger tbody tr');

test('loads, unloads and settings stand there with cause, who asked, bytes and time', async ({ page, open, server }) => {
  await server.load();
  await server.post('/manage/unload', { model: 'smollm2' });
  await server.post('/manage/settings', { idle_timeout: '9m' });
  await open('/activity');
  // The first line of all is the start of the server.
  await expect(rows(page)).toHaveCount(4);
  await expect(rows(page).nth(3)).toContainText(/server\s*Started\./);
  const [setting, unload, load] = [rows(page).nth(0), rows(page).nth(1), rows(page).nth(2)];
  await expect(setting).toContainText('idle_timeout = 9m');
  await expect(load).toContainText(/loaded\s*smollm2/);
  await expect(load).toContainText(/0 MiB → [\d.]+ MiB/);
  await expect(unload).toContainText(/Asked\.\s*by node/);
  await expect(unload).toContainText(/[\d.]+ MiB → [\d.]+ (MiB|KiB)/);
  await unload.getByText('Receipt').click();
  await expect(unload).toContainText(/smollm2 gave back [\d.]+ of [\d.]+ MiB/);
  await expect(unload).toContainText('itself, when told to go');
});

test('the filter is in the address and works by a plain form', async ({ page, open, server }) => {
  await server.load();
  await server.load('minilm');
  await server.post('/manage/unload', { model: 'smollm2' });
  await open('/activity');
  await expect(rows(page)).toHaveCount(4);
  await page.getByRole('combobox', { name: 'Model' }).selectOption('smollm2');
  await page.getByRole('main').getByRole('button', { name: 'Show' }).click();
  await expect(page).toHaveURL(/\/activity\?kind=&model=smollm2/);
  await expect(rows(page)).toHaveCount(2);
  await page.getByRole('combobox', { name: 'What' }).selectOption('unload');
  await page.getByRole('main').getByRole('button', { name: 'Show' }).click();
  await expect(rows(page)).toHaveCount(1);
  await expect(rows(page)).toContainText('smollm2');
  await open('/activity?model=minilm&kind=crash');
  await expect(page.getByText('Nothing of this kind has happened.')).toBeVisible();
  await expect(page.getByRole('combobox', { name: 'Model' })).toHaveValue('minilm');
});

test('older events are a page away, and none is lost or shown twice', async ({ page, open, server }) => {
  for (let at = 0; at < 60; at++) await server.post('/manage/settings', { idle_timeout: `${at + 1}m` });
  await open('/activity');
  await expect(rows(page)).toHaveCount(50);
  const first = await rows(page).evaluateAll((all) => all.map((row) => row.getAttribute('data-event')));
  await page.getByRole('link', { name: 'Older' }).click();
  await expect(page).toHaveURL(/after=\d+/);
  await expect(rows(page)).toHaveCount(11);
  const second = await rows(page).evaluateAll((all) => all.map((row) => row.getAttribute('data-event')));
  expect(new Set([...first, ...second]).size).toBe(61);
  await expect(page.getByRole('link', { name: 'Older' })).toBeHidden();
  await page.getByRole('link', { name: 'Newest' }).click();
  await expect(rows(page)).toHaveCount(50);
});

test('the export links give the same events as files', async ({ page, open, server }) => {
  await server.load();
  await server.post('/manage/unload', { model: 'smollm2' });
  await open('/activity?model=smollm2');
  const href = async (name: string) => server.url + (await page.getByRole('link', { name }).getAttribute('href'));
  const json = await (await fetch(await href('Export as JSON'))).json();
  expect(json.events.map((event: { kind: string }) => event.kind)).toEqual(['unload', 'load']);
  const csv = await fetch(await href('Export as CSV'));
  expect(csv.headers.get('content-type')).toMatch(/^text\/csv/);
  const lines = (await csv.text()).trim().split(/\r?\n/);
  expect(lines.length).toBe(3);
  expect(lines[0]).toContain('kind');
  expect(lines[1]).toContain('unload');
});

test('how well models answer: the middle value and the slow end, over the span in the address', async ({ page, open, server }) => {
  await server.use();
  await open('/activity?window=5m');
  const row = page.locator('.performance tr[data-model="smollm2"]');
  // The load is there before the request is.
  const requests = async () => ((await row.count()) === 1 ? row.locator('td').nth(0).innerText() : '');
  await expect
    .poll(async () => (await requests()).startsWith('1') || (await page.reload(), false), { timeout: 10_000 })
    .toBe(true);
  await expect(row.locator('td').nth(0)).toContainText(/^1\s*[\d,]+ in, 8 out$/);
  await expect(row.locator('td').nth(1)).toContainText(/^[\d.]+ m?s\s*p95 [\d.]+ m?s · p99 [\d.]+ m?s$/);
  await expect(row.locator('td').nth(2)).toContainText(/^[\d.]+\/s/);
  await expect(page.getByRole('link', { name: '5 min' })).toHaveAttribute('aria-current', 'true');
  await page.getByRole('link', { name: '24 h' }).click();
  await expect(page).toHaveURL(/window=24h/);
  await expect(row).toHaveCount(1);
});
