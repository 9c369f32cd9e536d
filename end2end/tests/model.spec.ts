// The page of one model: how it stands, its files, its settings, its history, its worker's log; and the way out.
import { existsSync } from 'node:fs';
import { button, notice } from '../support/page.ts';
import { near, privateBytes } from '../support/process.ts';
import { bytesOf } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

test('from its row to its page: files, prediction against measurement, history, log', async ({ page, open, server }) => {
  await server.load();
  await server.use();
  const { pid } = await server.measured();
  await open('/');
  await page.getByRole('main').getByRole('link', { name: 'smollm2', exact: true }).click();
  await expect(page).toHaveURL(`${server.url}/model/smollm2`);
  await expect(page).toHaveTitle('smollm2 - Innkeeper');
  const fact = (name: string) => page.locator('dt', { hasText: new RegExp(`^${name}$`) }).locator('xpath=following-sibling::dd[1]');
  await expect(page.locator('.files')).toContainText('smollm2');
  await expect(fact('Parameters')).toHaveText('134,515,008');
  await expect(fact('Quantisation')).toHaveText('Q4_1');
  await expect(fact('Chat template')).toHaveText('in the file');
  await expect(fact('Expected at ready')).toHaveText(/MiB$/);
  await expect(fact('Off by')).toHaveText(/% (more|less) than expected at ready/);
  expect(Math.abs(bytesOf(await fact('Measured now').innerText()) - privateBytes(pid))).toBeLessThan(2 * near(privateBytes(pid)));
  await expect(fact('Process')).toHaveText(String(pid));
  await expect(page.locator('.ledger tbody tr')).toHaveCount(1);
  await expect(page.getByRole('region', { name: 'Newest lines' })).not.toBeEmpty();
});

test('unload, load and reload from its page', async ({ page, open, server }) => {
  await server.load();
  await open('/model/smollm2');
  const state = page.locator('main .state').first();
  await expect(state).toHaveText('ready');
  await button(page, 'Reload smollm2').click();
  await expect(notice(page)).toContainText(/smollm2 gave back .* smollm2 is ready/);
  await button(page, 'Unload smollm2').click();
  await expect(state).toHaveText('unloaded');
  await expect(page.getByText('It is not loaded and takes nothing.')).toBeVisible();
  await button(page, 'Load smollm2').click();
  await expect(state).toHaveText('ready');
  await expect(page.locator('.ledger tbody tr')).toHaveCount(5);
});

test('its files are removed after a dialog that says what goes; a loaded one says why not', async ({ page, open, server, complaints }) => {
  // Its own page is 404 from then on.
  complaints.expect(/404/);
  await server.load('minilm');
  await open('/model/minilm');
  await expect(button(page, 'Remove files')).toHaveAttribute('aria-disabled', 'true');
  await button(page, 'Unload minilm').click();
  await expect(page.locator('main .state').first()).toHaveText('unloaded');
  await button(page, 'Remove files').click();
  const dialog = page.getByRole('dialog', { name: 'Remove the files of this model' });
  await expect(dialog).toContainText(/The files of minilm are deleted from this machine; the disk gets [\d.]+ MiB back\./);
  const before = (await server.get('/manage/model?model=minilm')).body.files.map(({ path }: { path: string }) => path);
  expect(before.length).toBe(3);
  await button(dialog, 'Remove files').click();
  await expect(notice(page)).toContainText(/Removed; [\d.]+ MiB of disk are free again/);
  expect(before.filter(existsSync)).toEqual([]);
  await expect(page.getByText('There is no model of this name any more')).toBeVisible();
  await page.getByRole('link', { name: 'Resources' }).first().click();
  await expect(page.locator('tr[data-model="minilm"]')).toHaveCount(0);
});

test('a model that is not there is 404', async ({ page, server, complaints }) => {
  complaints.expect(/404/);
  const response = await page.goto(`${server.url}/model/nobody`);
  expect(response!.status()).toBe(404);
  await expect(page.getByText('There is no model of this name')).toBeVisible();
});
