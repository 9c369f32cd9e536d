// Sessions of browsers: known while a page is open, ended after the last one closed; then the model goes too.
import type { BrowserContext, Page } from '@playwright/test';
import { lastAnswer, receipts, say, shortAnswers } from '../support/page.ts';
import { expect, live, test, watched } from '../support/test.ts';

test.setTimeout(120_000);

/** Says something, so that the session uses a model. */
async function chat(page: Page, url: string): Promise<void> {
  await shortAnswers(page);
  await page.goto(`${url}/chat`);
  await live(page);
  await say(page, 'Say hello.');
  await expect(lastAnswer(page).locator('.note')).toContainText(/tok\/s/, { timeout: 60_000 });
}

const cookie = async (context: BrowserContext) =>
  (await context.cookies()).find(({ name }) => name === 'innkeeper_session')?.value;

test.describe('with short timers', () => {
  test.use({ settings: { config: '[idle]\nsession_timeout = "2s"\nafter_last_session = "1s"\n' } });

  test('the last page closes: its session ends, then its model goes, with a receipt that says why', async ({ page, server, complaints, context }) => {
    expect(complaints.heard).toEqual([]);
    await chat(page, server.url);
    const { pid } = (await server.model()).instances[0]!;
    const second = await watched(await context.newPage(), complaints);
    await second.goto(server.url);
    await live(second);
    await page.close();
    // One page is still open: its session stays, whatever the timers say.
    const begun = Date.now();
    await expect.poll(() => Date.now() - begun, { timeout: 8_000, intervals: [250] }).toBeGreaterThan(4_000);
    expect((await server.snapshot()).sessions).toMatchObject([{ kind: 'browser', model: 'smollm2', ends_at: null }]);
    expect((await server.model()).state).toBe('ready');
    await second.close();
    await server.reaches('smollm2', 'unloaded');
    const snapshot = await server.snapshot();
    expect(snapshot.sessions).toEqual([]);
    expect(snapshot.receipts[0]).toMatchObject({ model: 'smollm2', pid, reason: 'idle', asked_by: 'last session', verdict: 'returned' });
    const { body } = await server.get('/manage/history?kind=session');
    expect(body.events).toMatchObject([{ model: 'smollm2', asked_by: 'session timer' }]);
    const after = await watched(await context.newPage(), complaints);
    await after.goto(server.url);
    await expect(receipts(after).first()).toContainText('the last session that used it had ended');
  });
});

test('a reload keeps the session', async ({ page, server, complaints, context }) => {
  expect(complaints.heard).toEqual([]);
  await chat(page, server.url);
  const before = (await server.snapshot()).sessions;
  expect(before).toMatchObject([{ kind: 'browser', model: 'smollm2' }]);
  const known = await cookie(context);
  await page.reload();
  await live(page);
  expect((await server.snapshot()).sessions.map(({ id }) => id)).toEqual(before.map(({ id }) => id));
  expect(await cookie(context)).toBe(known);
});

test('a private window is a session of its own', async ({ page, open, server, complaints, browser }) => {
  await open('/');
  const context = await browser.newContext();
  const other = await watched(await context.newPage(), complaints);
  await other.goto(server.url);
  await live(other);
  await expect.poll(async () => (await server.snapshot()).sessions.length).toBe(2);
  const [one, two] = (await server.snapshot()).sessions;
  expect(one!.id).not.toBe(two!.id);
  expect(await cookie(context)).not.toBe(await cookie(page.context()));
  await context.close();
});
