// Resources: load, see what it takes, give it back. The same journeys with WASM and with plain forms.
import { exists, near, privateBytes } from '../support/process.ts';
import { button, bytesOf, notice, receipts, row, rowIn } from '../support/page.ts';
import { expect, hydrated, test, withoutEvents } from '../support/test.ts';

const MIB = 2 ** 20;

test('load, see what it takes, unload, see what came back', async ({ page, open, server }) => {
  await expect.poll(async () => (await server.snapshot()).server.spare).not.toBeNull();
  await open('/');
  await expect(page.getByRole('listitem').filter({ hasText: 'Innkeeper itself' })).toContainText(/itself [\d.]+ MiB \([\d.]+ MiB of it a worker that waits/);
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  await button(page, 'Load smollm2').click();
  await expect(rowIn(page, 'ready')).toBeVisible();
  await expect(notice(page)).toContainText('smollm2 is ready');
  const { pid } = (await server.model()).instances[0]!;
  const held = privateBytes(pid);
  const shown = row(page).getByText(/^[\d.]+ MiB$/).first();
  expect(Math.abs(bytesOf(await shown.innerText()) - held)).toBeLessThan(near(held));
  await expect(row(page)).toContainText('exact');
  await button(page, 'Unload smollm2').click();
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  await expect(notice(page)).toContainText(/smollm2 gave back [\d.]+ of [\d.]+ MiB/);
  await expect(receipts(page).first()).toContainText('smollm2 gave back');
  expect(exists(pid)).toBe(false);
});

test('a notice is shown once', async ({ page, open }) => {
  await open('/');
  await button(page, 'Load smollm2').click();
  await expect(notice(page)).toContainText('smollm2 is ready');
  await page.reload();
  await expect(rowIn(page, 'ready')).toBeVisible();
  await expect(notice(page)).not.toContainText('smollm2');
});

test('clean up: the dialog lists what goes, the receipt agrees with the kernel', async ({ page, open, server }) => {
  await server.load();
  await server.use();
  const { pid } = await server.measured();
  await open('/');
  const promise = button(page, /^Clean up AI resources/);
  await expect(promise).toContainText(/frees about [\d.]+ MiB/);
  await promise.click();
  const dialog = page.getByRole('dialog', { name: 'Clean up AI resources' });
  await expect(dialog.getByRole('listitem').filter({ hasText: 'smollm2' })).toContainText('MiB');
  await expect(dialog.getByRole('listitem').filter({ hasText: 'minilm' })).toHaveCount(0);
  const held = privateBytes(pid);
  expect(Math.abs(bytesOf(await dialog.getByRole('listitem').first().innerText()) - held)).toBeLessThan(near(held));
  await button(dialog, /^Clean up/).click();
  await expect(receipts(page).first()).toContainText('smollm2 gave back');
  const [, returned, whole] = /gave back ([\d.]+) of ([\d.]+) MiB/.exec(await receipts(page).first().innerText())!;
  expect(Math.abs(Number(whole) * MIB - held)).toBeLessThan(near(held));
  expect(Number(returned)).toBeGreaterThanOrEqual(Number(whole) * 0.95);
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  expect(exists(pid)).toBe(false);
  expect(server.workers()).toEqual([]);
});

test('with nothing loaded a clean-up says that there is nothing to free', async ({ page, open }) => {
  await open('/');
  await button(page, /^Clean up AI resources/).click({ force: true });
  await expect(page.getByText(/nothing to free|No idle model is loaded/).filter({ visible: true }).first()).toBeVisible();
});

test('reinitialise: another process, and a receipt for the old one', async ({ page, open, server }) => {
  const { pid } = (await server.load()).instances[0]!;
  await open('/');
  await button(page, /^Reinitialise loaded models/).click();
  const dialog = page.getByRole('dialog', { name: 'Reinitialise loaded models' });
  await expect(dialog.getByRole('listitem')).toContainText(['smollm2']);
  await button(dialog, /^Reinitialise 1 model/).click();
  await expect(receipts(page).first()).toContainText('smollm2 gave back');
  await expect(rowIn(page, 'ready')).toBeVisible();
  await server.reaches('smollm2', 'ready');
  expect((await server.model()).instances[0]!.pid).not.toBe(pid);
  expect(exists(pid)).toBe(false);
});

test('reload one model from its row', async ({ page, open, server }) => {
  const { pid } = (await server.load()).instances[0]!;
  await open('/');
  await button(page, 'Reload smollm2').click();
  await expect(notice(page)).toContainText(/smollm2 gave back .* smollm2 is ready/);
  expect((await server.model()).instances[0]!.pid).not.toBe(pid);
});

test('set an idle timeout; when it is over the model goes by itself', async ({ page, open, server }) => {
  await server.load();
  await open('/');
  await row(page).getByText('idle timeout 15 min').click();
  await page.getByRole('textbox', { name: 'Idle timeout of smollm2' }).or(page.getByLabel('Idle timeout of smollm2')).fill('1s');
  await button(row(page), 'Save Idle timeout of smollm2').click();
  await server.reaches('smollm2', 'unloaded');
  expect((await server.snapshot()).receipts[0]).toMatchObject({ model: 'smollm2', reason: 'idle', verdict: 'returned' });
  await page.reload();
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  await expect(receipts(page).first()).toContainText('idle');
});

test('a bad idle timeout is refused in words', async ({ page, open, server }) => {
  await server.load();
  await open('/');
  await row(page).getByText('idle timeout 15 min').click();
  await page.getByLabel('Idle timeout of smollm2').fill('soon');
  await button(row(page), 'Save Idle timeout of smollm2').click();
  await expect(row(page).getByRole('alert')).toContainText('`soon` is no span of time');
  await expect(page.getByLabel('Idle timeout of smollm2')).toHaveValue('soon');
  expect((await server.model()).idle_timeout_seconds).toBe(900);
});

test('pin: a clean-up leaves it alone, and says so', async ({ page, open, server }) => {
  await server.load();
  await open('/');
  await button(page, 'Pin smollm2').click();
  await expect(button(page, 'Unpin smollm2')).toBeVisible();
  await expect(row(page)).toContainText('pinned');
  await button(page, /^Clean up AI resources/).click();
  const dialog = page.getByRole('dialog', { name: 'Clean up AI resources' });
  await expect(dialog.getByRole('listitem').filter({ hasText: 'smollm2' })).toContainText('pinned');
  expect((await server.model()).state).toBe('ready');
});

test('a page that is behind is told that the model had gone already', async ({ page, open, server, javaScriptEnabled }) => {
  await server.load();
  if (javaScriptEnabled) {
    await withoutEvents(page);
    await page.goto(server.url);
    await hydrated(page);
  } else {
    await open('/');
  }
  await expect(rowIn(page, 'ready')).toBeVisible();
  await server.post('/manage/unload', { model: 'smollm2' });
  await button(page, 'Unload smollm2').click();
  await expect(notice(page)).toContainText('smollm2 was not loaded');
});

test('a file that is no model is refused with its reason and what to do', async ({ page, open, server }) => {
  const { writeFileSync } = await import('node:fs');
  writeFileSync(`${server.dataDir}/models/poem.gguf`, 'Roses are red.\n'.repeat(99));
  await expect.poll(async () => (await server.post('/manage/load', { model: 'poem' })).status).toBe(422);
  await open('/');
  await expect(row(page, 'poem')).toBeVisible();
  await button(page, 'Load poem').click();
  await expect(notice(page)).toHaveAttribute('data-good', 'false');
  await expect(notice(page)).toContainText(/GGUF/);
});
