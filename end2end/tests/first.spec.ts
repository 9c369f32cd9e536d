// The first five minutes: no model yet, one is fetched with its progress, and can be called off.
import { writeFileSync } from 'node:fs';
import { button, notice, row, rowIn } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

test.use({ settings: { models: [] } });

test('an empty house offers both models of the catalogue and says where files of one\'s own go', async ({ page, open, server }) => {
  await open('/');
  await expect(page.getByRole('heading', { name: 'No models yet' })).toBeVisible();
  await expect(button(page, 'Download smollm2, 94 MiB')).toBeVisible();
  await expect(button(page, 'Download minilm, 87 MiB')).toBeVisible();
  await expect(page.getByText(`${server.dataDir}/models`).first()).toBeVisible();
  for (const path of ['/chat', '/activity', '/settings']) {
    await open(path);
    await expect(page.locator('h1')).toHaveCount(1);
  }
  await expect(page.getByText('There is no model yet.')).toBeVisible();
});

test('a download that cannot be had says why, and can be cleared away', async ({ page, open, server }) => {
  await open('/');
  await server.post('/manage/pull', { ref: '/nowhere/at/all.gguf' });
  await page.reload();
  const failed = page.locator('.download');
  await expect(failed).toContainText('/nowhere/at/all.gguf');
  await expect(failed.locator('.bad')).not.toBeEmpty();
  await button(failed, /^Dismiss/).click();
  await expect(page.locator('.download')).toHaveCount(0);
});

test('a file that is put there appears by itself', async ({ page, open, server, javaScriptEnabled }) => {
  await open('/');
  writeFileSync(`${server.dataDir}/models/poem.gguf`, 'Roses are red.\n'.repeat(99));
  await expect.poll(async () => (await server.snapshot()).models.length, { timeout: 15_000 }).toBe(1);
  if (!javaScriptEnabled) await page.reload();
  await expect(row(page, 'poem')).toBeVisible();
  await button(page, 'Load poem').click();
  await expect(notice(page)).toHaveAttribute('data-good', 'false');
  await expect(rowIn(page, 'unloaded', 'poem').or(rowIn(page, 'failed', 'poem'))).toBeVisible();
});

test('a download shows how far it is, and Cancel leaves nothing behind', async ({ page, open, server }) => {
  await open('/');
  await button(page, 'Download smollm2, 94 MiB').click();
  const download = page.locator('[data-download="smollm2"]');
  await expect(download.getByRole('progressbar')).toBeVisible();
  await expect(button(page, 'Download smollm2, 94 MiB')).toHaveAttribute('aria-disabled', 'true');
  await button(download, /^Cancel/).click();
  await expect.poll(async () => (await server.get('/manage/snapshot')).body.downloads).toEqual([]);
  await page.reload();
  await expect(download).toHaveCount(0);
  expect((await server.snapshot()).models).toEqual([]);
});
