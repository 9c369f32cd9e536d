// Chat: ask, be answered; without JavaScript the same by a plain form.
import { button, lastAnswer, say, shortAnswers } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

test.setTimeout(120_000);

test('a question is answered, with speed and time to first token', async ({ page, open, server }) => {
  await shortAnswers(page);
  await open('/chat');
  await say(page, 'What is the capital of France? Answer in one short sentence.');
  await expect(lastAnswer(page).locator('.note')).toContainText(/tok\/s/, { timeout: 90_000 });
  await expect(lastAnswer(page).locator('.note')).toContainText(/first token/);
  await expect(lastAnswer(page).locator('.text')).toHaveText(/\w/);
  await expect.poll(() => server.model()).toMatchObject({ state: 'ready', in_flight: 0 });
});

test('what was said before is known, and a new conversation forgets it', async ({ page, open }) => {
  await shortAnswers(page);
  await open('/chat');
  await say(page, 'Say hello.');
  await expect(lastAnswer(page).locator('.note')).toContainText(/tok\/s/, { timeout: 90_000 });
  await page.reload();
  await expect(page.locator('.turn.user')).toHaveCount(1);
  await expect(page.locator('.turn.user')).toContainText('Say hello.');
  await button(page, 'New conversation').click();
  await expect(page.locator('.turn')).toHaveCount(0);
  await page.reload();
  await expect(page.locator('.turn')).toHaveCount(0);
});

test('what a model says is text and never markup', async ({ page, open }) => {
  await shortAnswers(page);
  await open('/chat');
  await say(page, '<img src=x onerror="document.title=1"><b>bold</b>');
  await expect(page.locator('.turn.user .text')).toContainText('<img src=x');
  await expect(page.locator('.turn.user img, .turn.user .text b')).toHaveCount(0);
  await page.getByRole('link', { name: 'Resources' }).click();
  await expect(page).toHaveTitle(/Resources/);
});
