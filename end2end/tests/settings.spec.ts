// Settings: change a value, see where it comes from, be refused at the field; the same with WASM and by plain forms.
import { spawnSync } from 'node:child_process';
import type { Page } from '@playwright/test';
import { button, notice, rowIn } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

const setting = (page: Page, key: string) => page.locator(`[data-setting="${key}"]`);
const single = (page: Page, model: string) => page.locator(`.single tr[data-model="${model}"]`);

test('a value is saved, holds at once, and is there after a restart', async ({ page, open, server }) => {
  await open('/settings');
  const timeout = setting(page, 'idle_timeout');
  await expect(timeout).toContainText('the default');
  await expect(page.getByLabel('Idle timeout', { exact: true })).toHaveValue('15m');
  await timeout.locator('input').fill('7m');
  await button(timeout, 'Save Idle timeout').click();
  await expect(notice(page)).toContainText('Saved');
  await expect(timeout).toContainText('saved here');
  await expect(timeout.locator('input')).toHaveValue('7m');
  expect((await server.model()).idle_timeout_seconds).toBe(420);
  await page.goto('about:blank');
  await server.stop();
  await server.startAgain();
  await open('/settings');
  await expect(timeout.locator('input')).toHaveValue('7m');
  await expect(timeout).toContainText('saved here');
});

test('a wrong value is refused at its field, and what was typed stays there', async ({ page, open, server }) => {
  await open('/settings');
  for (const [key, label, typed, sentence] of [
    ['session_timeout', 'Session timeout', 'soon', /`soon` is no span of time: write 10m/],
    ['ram_limit', 'Memory limit', 'lots', /`lots` is no amount of memory: write 80%/],
  ] as const) {
    const field = setting(page, key);
    await field.locator('input').fill(typed);
    await button(field, `Save ${label}`).click();
    await expect(field.getByRole('alert')).toHaveText(sentence);
    await expect(field.locator('input')).toHaveValue(typed);
    await expect(field.locator('input')).toHaveAttribute('aria-invalid', 'true');
    const { body } = await server.post('/manage/settings', { [key]: typed });
    expect(body.error).toMatchObject({ code: 'bad_argument', field: key });
    await expect(field.getByRole('alert')).toContainText(body.error.message);
  }
  const { body } = await server.get('/manage/settings');
  expect([body.session_timeout.value, body.ram_limit.value]).toEqual(['5m', '80%']);
});

test('a model has its own idle timeout and can be pinned here', async ({ page, open, server }) => {
  await open('/settings');
  const row = single(page, 'smollm2');
  await expect(row).toContainText('the default of all models');
  await page.getByLabel('Idle timeout of smollm2').fill('3m');
  await button(row, 'Save Idle timeout of smollm2').click();
  await expect(row).toContainText('saved here');
  expect((await server.model()).idle_timeout_seconds).toBe(180);
  expect((await server.model('minilm')).idle_timeout_seconds).toBe(900);
  await page.getByLabel('Idle timeout of smollm2').fill('default');
  await button(row, 'Save Idle timeout of smollm2').click();
  await expect(row).toContainText('the default of all models');
  await expect(page.getByLabel('Idle timeout of smollm2')).toHaveValue('15m');
  expect((await server.model()).idle_timeout_seconds).toBe(900);
  await page.getByLabel('Idle timeout of smollm2').fill('3 fortnights');
  await button(row, 'Save Idle timeout of smollm2').click();
  await expect(row.getByRole('alert')).toContainText('`3 fortnights` is no span of time');
  await expect(page.getByLabel('Idle timeout of smollm2')).toHaveValue('3 fortnights');
  await button(row, 'Pin smollm2').click();
  await expect(button(row, 'Unpin smollm2')).toBeVisible();
  expect((await server.model()).pinned).toBe(true);
});

test('the clean-up and the reinitialise stand here too', async ({ page, open, server }) => {
  await server.load();
  await open('/settings');
  await expect(page.getByText(/1 of 2 models loaded, holding [\d.]+ MiB\./)).toBeVisible();
  await expect(page.getByText(/Models may take up to [\d.]+ GiB; [\d.]+ MiB of it is spoken for\./)).toBeVisible();
  await expect(page.getByRole('heading', { name: 'Sessions' })).toBeVisible();
  await button(page, /^Clean up AI resources · frees about/).click();
  const dialog = page.getByRole('dialog', { name: 'Clean up AI resources' });
  await button(dialog, /^Clean up/).click();
  await expect(notice(page)).toContainText(/smollm2 gave back [\d.]+ of [\d.]+ MiB/);
  await expect(page.getByText('0 of 2 models loaded.')).toBeVisible();
  await expect(page).toHaveURL(/\/settings(\?|$)/);
});

test.describe('where the configuration decides', () => {
  test.use({ settings: { config: '[idle]\nsession_timeout = "9m"\n[models.smollm2]\nidle_timeout = "4m"\npinned = true\n' } });

  test('a value is locked and says by what', async ({ page, open, server }) => {
    await open('/settings');
    const field = setting(page, 'session_timeout');
    await expect(field.locator('input')).toHaveValue('9m');
    await expect(field).toContainText(/The configuration file .*test\.toml decides this/);
    await expect(field.locator('input')).toHaveAttribute('readonly', '');
    await expect(button(field, 'Save Session timeout')).toHaveAttribute('aria-disabled', 'true');
    await button(field, 'Save Session timeout').click({ force: true });
    await expect(page.getByText(/decide/).filter({ visible: true }).first()).toBeVisible();
    const row = single(page, 'smollm2');
    await expect(row).toContainText(/The configuration file .*test\.toml decides this/);
    await expect(button(row, 'Unpin smollm2')).toHaveAttribute('aria-disabled', 'true');
    const refused = await server.post('/manage/settings', { session_timeout: '1m' });
    expect([refused.status, refused.body.error.field]).toEqual([409, 'session_timeout']);
    await expect(field.locator('input')).toHaveValue('9m');
  });
});

test.describe('where the environment decides', () => {
  test.use({ settings: { env: { INNKEEPER_IDLE__AFTER_LAST_SESSION: '2m', INNKEEPER_MODELS__SMOLLM2__PINNED: 'true' } } });

  test('a value is locked and names its variable', async ({ page, open }) => {
    await open('/settings');
    const field = setting(page, 'after_last_session');
    await expect(field.locator('input')).toHaveValue('2m');
    await expect(field).toContainText('INNKEEPER_IDLE__AFTER_LAST_SESSION');
    await expect(field.locator('input')).toHaveAttribute('readonly', '');
    const unpin = button(single(page, 'smollm2'), 'Unpin smollm2');
    await expect(unpin).toHaveAttribute('aria-disabled', 'true');
    await expect(unpin).toHaveAttribute('title', /INNKEEPER_MODELS__SMOLLM2__PINNED/);
  });
});

test('the lines of the connect card work as they are shown', async ({ page, open, server }) => {
  test.setTimeout(120_000);
  await open('/settings');
  await expect(page.locator('#base-url')).toHaveText(`${server.url}/v1`);
  const curl = await page.locator('#snippet-curl').innerText();
  const asked = spawnSync('bash', ['-c', curl], { encoding: 'utf8', timeout: 50_000 });
  expect(asked.status, asked.stderr).toBe(0);
  // The model chooses its words, and has answered with nothing but emoji.
  expect(JSON.parse(asked.stdout).choices[0].message.content).toMatch(/\S/);
  const python = await page.locator('#snippet-python').innerText();
  const run = spawnSync(process.env.INNKEEPER_PYTHON ?? 'python3', ['-c', python], { encoding: 'utf8', timeout: 50_000 });
  expect(run.status, run.stderr).toBe(0);
  expect(run.stdout).toMatch(/\S/);
  await page.goto(`${server.url}/`);
  await expect(rowIn(page, 'ready')).toBeVisible();
});
