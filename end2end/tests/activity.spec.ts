// Activity: what happened, by what cause; filtered by the address; exported; with WASM it grows while one looks.
import type { Page } from '@playwright/test';
import { expect, test } from '../support/test.ts';

const rows = (page: Page) => page.locator('.ledger tbody tr');

test('loads, unloads and settings stand there with cause, who asked, bytes and time', async ({ page, open, server }) => {
  await server.load();
  await server.post('/manage/unload', { model: 'smollm2' });
  await server.post('/manage/settings', { idle_timeout: '9m' });
  await open('/activity');
  await expect(rows(page)).toHaveCount(3);
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
  await expect(rows(page)).toHaveCount(3);
  await page.getByLabel('Model').selectOption('smollm2');
  await page.getByRole('main').getByRole('button', { name: 'Show' }).click();
  await expect(page).toHaveURL(/\/activity\?kind=&model=smollm2$/);
  await expect(rows(page)).toHaveCount(2);
  await page.getByLabel('What').selectOption('unload');
  await page.getByRole('main').getByRole('button', { name: 'Show' }).click();
  await expect(rows(page)).toHaveCount(1);
  await expect(rows(page)).toContainText('smollm2');
  await open('/activity?model=minilm&kind=crash');
  await expect(page.getByText('Nothing of this kind has happened.')).toBeVisible();
  await expect(page.getByLabel('Model')).toHaveValue('minilm');
});

test('older events are a page away, and none is lost or shown twice', async ({ page, open, server }) => {
  for (let at = 0; at < 60; at++) await server.post('/manage/settings', { idle_timeout: `${at + 1}m` });
  await open('/activity');
  await expect(rows(page)).toHaveCount(50);
  const first = await rows(page).evaluateAll((all) => all.map((row) => row.getAttribute('data-event')));
  await page.getByRole('link', { name: 'Older' }).click();
  await expect(page).toHaveURL(/after=\d+/);
  await expect(rows(page)).toHaveCount(10);
  const second = await rows(page).evaluateAll((all) => all.map((row) => row.getAttribute('data-event')));
  expect(new Set([...first, ...second]).size).toBe(60);
  await expect(page.getByRole('link', { name: 'Older' })).toBeHidden();
  await page.getByRole('link', { name: 'Newest' }).click();
  await expect(rows(page)).toHaveCount(50);
});
