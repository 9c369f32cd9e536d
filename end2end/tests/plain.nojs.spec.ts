// What only a page without JavaScript has to show.
import { button, row, rowIn, say } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

test('the badge says that this is a still picture', async ({ page, open }) => {
  await open('/');
  await expect(page.locator('header [data-link]')).toHaveText('Not live');
});

test('every number is there in the first HTML', async ({ page, open, server }) => {
  await server.load();
  // Books are written with the first sample, within a second.
  await expect.poll(async () => (await server.get('/', { accept: 'text/html' })).body).toContain('Models use');
  await open('/');
  await expect(page.locator('h1')).toHaveText(/Models use [\d.]+ MiB\. [\d.]+ GiB is free\./);
  await expect(row(page)).toContainText(/[\d.]+ MiB/);
  await expect(row(page)).toContainText(/in 1[45] min/);
  await expect(page.getByRole('listitem').filter({ hasText: 'other programs' })).toContainText(/GiB|MiB/);
});

test('the filter is a plain form too', async ({ page, open }) => {
  await open('/');
  await page.getByRole('searchbox', { name: 'Filter models by name' }).fill('mini');
  await page.keyboard.press('Enter');
  await expect(row(page, 'minilm')).toBeVisible();
  await expect(row(page, 'smollm2')).toBeHidden();
});

test('a question in the chat is answered on the next page', async ({ page, open }) => {
  test.setTimeout(120_000);
  await open('/chat');
  await say(page, 'Say hello.');
  await expect(page).toHaveURL(/\/chat$/);
  await expect(page.locator('.turn.assistant .text')).not.toBeEmpty();
});

test('the answer to a form goes back to the page it came from, never elsewhere', async ({ server }) => {
  const browser = { accept: 'text/html', 'sec-fetch-site': 'same-origin' };
  const home = await server.post('/manage/load', { model: 'smollm2' }, { ...browser, referer: `${server.url}/chat` });
  expect([home.status, home.headers.get('location')]).toEqual([303, '/chat']);
  expect(home.headers.get('set-cookie')).toMatch(/^innkeeper_notice=.*Max-Age=60; HttpOnly/);
  const foreign = await server.post('/manage/unload', { model: 'smollm2' }, { ...browser, referer: 'https://elsewhere.example/x' });
  expect([foreign.status, foreign.headers.get('location')]).toEqual([303, '/']);
});

test('the clean-up dialog can be left without doing anything', async ({ page, open, server }) => {
  await server.load();
  await open('/');
  await button(page, /^Clean up AI resources/).click();
  await expect(page.getByRole('dialog', { name: 'Clean up AI resources' })).toBeVisible();
  await button(page.getByRole('dialog', { name: 'Clean up AI resources' }), 'Cancel').click();
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await expect(rowIn(page, 'ready')).toBeVisible();
  expect((await server.model()).state).toBe('ready');
});
