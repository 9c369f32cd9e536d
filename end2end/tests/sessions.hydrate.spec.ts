// Sessions of browsers: known while a page is open, ended after the last one closed; then the model goes too.
import type { BrowserContext, Page } from '@playwright/test';
import { hide, lastAnswer, receipts, say, shortAnswers } from '../support/page.ts';
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

test.describe('with a short time after the last session', () => {
  test.use({ settings: { config: '[idle]\nafter_last_session = "1s"\n' } });

  test('the last page closes: its session ends, then its model goes, with a receipt that says why', async ({ page, server, complaints, context }) => {
    expect(complaints.heard).toEqual([]);
    await chat(page, server.url);
    const { pid } = (await server.model()).instances[0]!;
    const second = await watched(await context.newPage(), complaints);
    await second.goto(server.url);
    await live(second);
    await page.close();
    // One page is still open, and says so.
    expect((await server.snapshot()).sessions).toMatchObject([{ kind: 'browser', model: 'smollm2', ends_at: null, kept_by: 'page open' }]);
    await expect(second.locator('[data-session]')).toContainText('page open');
    const closed = Date.now();
    await second.close();
    // The session itself would last for five minutes: what ends it is the page, thirty seconds after it was closed.
    await expect.poll(async () => (await server.snapshot()).sessions[0]?.ends_at).toBeTruthy();
    const [ending] = (await server.snapshot()).sessions;
    const half = Date.parse(ending!.ends_at!) - closed;
    expect(Math.abs(half - 30_000), `${half} ms from the closed page to the end`).toBeLessThan(1_000);
    await server.reaches('smollm2', 'unloaded', 40_000);
    const snapshot = await server.snapshot();
    expect(snapshot.sessions).toEqual([]);
    expect(snapshot.receipts[0]).toMatchObject({ model: 'smollm2', pid, reason: 'idle', asked_by: 'last session', verdict: 'returned' });
    const { body } = await server.get('/manage/history?kind=session');
    expect(body.events).toMatchObject([{ model: 'smollm2', asked_by: 'session timer' }]);
    const late = Date.parse(body.events[0].at) - Date.parse(ending!.ends_at!);
    console.log(`the session ended ${late} ms after its time`);
    expect(Math.abs(late)).toBeLessThan(1_000);
    const after = await watched(await context.newPage(), complaints);
    await after.goto(server.url);
    await expect(receipts(after).first()).toContainText('the last session that used it had ended');
  });
});

test.describe('with a session timeout of four seconds', () => {
  test.use({ settings: { config: '[idle]\nsession_timeout = "4s"\n' } });

  test('an open page keeps its session beyond the timeout', async ({ page, open, server }) => {
    await open('/');
    const { id } = (await server.snapshot()).sessions[0]!;
    const begun = Date.now();
    await expect.poll(() => Date.now() - begun, { timeout: 9_000, intervals: [250] }).toBeGreaterThan(5_000);
    expect((await server.snapshot()).sessions).toMatchObject([{ id, ends_at: null }]);
    await expect(page.locator(`[data-session="${id}"]`)).toContainText('page open');
  });
});

test('a hidden page is no closed one: its session lives out its time, and is there again when the page is seen', async ({ page, open, server }) => {
  await open('/');
  const { id } = (await server.snapshot()).sessions[0]!;
  const left = async () => {
    const { sessions } = await server.snapshot();
    const ends = sessions.find((session) => session.id === id)!.ends_at;
    return ends === null ? null : Math.round((Date.parse(ends) - Date.now()) / 1000);
  };
  await hide(page, true);
  await expect.poll(left).toBeGreaterThan(60);
  await hide(page, false);
  await live(page);
  await expect.poll(left).toBe(null);
  // Closed while it is hidden, it is gone for good.
  await hide(page, true);
  await expect.poll(left).toBeGreaterThan(60);
  await page.goto('about:blank');
  await expect.poll(left).toBeLessThanOrEqual(30);
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
