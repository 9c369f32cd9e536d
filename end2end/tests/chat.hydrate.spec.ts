// Chat with WASM: the answer grows while it is made, and can be stopped.
import { button, lastAnswer, row, rowIn, say } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

test.setTimeout(120_000);

test('an answer streams, Stop keeps what has come, and the model is idle again', async ({ page, open, server }) => {
  await open('/chat');
  await say(page, 'Write a very long story about a lighthouse keeper and the sea.');
  const text = lastAnswer(page).locator('.text');
  await expect(text).not.toBeEmpty({ timeout: 30_000 });
  const early = await text.innerText();
  await expect.poll(async () => (await text.innerText()).length, { timeout: 30_000 }).toBeGreaterThan(early.length);
  expect(await server.model()).toMatchObject({ state: 'ready', in_flight: 1 });
  await button(page, 'Stop').click();
  await expect(lastAnswer(page).locator('.note')).toContainText('stopped');
  const kept = await text.innerText();
  expect(kept.startsWith(early.trim().slice(0, 10))).toBe(true);
  await expect.poll(async () => (await server.model()).in_flight, { timeout: 5_000 }).toBe(0);
  expect((await text.innerText()).length).toBe(kept.length);
});

test('while it answers, Resources shows the request, and it can be cancelled there', async ({ page, open }) => {
  await open('/chat');
  await say(page, 'Write a very long story about a lighthouse keeper and the sea.');
  await expect(lastAnswer(page).locator('.text')).not.toBeEmpty({ timeout: 30_000 });
  await page.getByRole('link', { name: 'Resources' }).click();
  await expect(row(page)).toContainText('1 request');
  await expect(row(page)).toContainText('not while in use');
  await button(page, /^Cancel request/).click();
  await expect(page.getByText('None.')).toBeVisible();
  await expect(rowIn(page, 'ready')).toContainText('nobody');
  await page.getByRole('link', { name: 'Chat' }).click();
  await expect(lastAnswer(page).locator('.text')).not.toBeEmpty();
});

test('Enter sends, Shift+Enter does not', async ({ page, open }) => {
  await open('/chat');
  const message = page.getByRole('textbox', { name: 'Message' });
  await message.click();
  await page.keyboard.type('one');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('two');
  await expect(page.locator('.turn')).toHaveCount(0);
  await page.keyboard.press('Enter');
  await expect(page.locator('.turn.user .text')).toHaveText(/one\s+two/);
  await expect(message).toHaveValue('');
  await button(page, 'Stop').click();
});
