// What the page does by itself: countdown, idle unload, other people's changes, a lost connection, a dead worker.
import { exists } from '../support/process.ts';
import { button, hide, lastAnswer, notice, receipts, row, rowIn, say, shortAnswers } from '../support/page.ts';
import { endless } from '../support/stream.ts';
import { expect, live, test, watched } from '../support/test.ts';

test.describe('with an idle timeout of six seconds', () => {
  test.use({ settings: { idleTimeout: '6s' } });

  test('the countdown runs, "Keep" begins it anew, and at its end the model goes with a receipt', async ({ page, open, server }) => {
    await open('/');
    await button(page, 'Load smollm2').click();
    await expect(rowIn(page, 'ready')).toBeVisible();
    const seconds = async () => Number(/\bin (\d+) s\b/.exec(await row(page).innerText())?.[1]);
    await expect.poll(seconds).toBeLessThanOrEqual(4);
    await button(page, 'Keep smollm2 loaded').click();
    await expect.poll(seconds).toBeGreaterThanOrEqual(5);
    await expect.poll(seconds).toBeLessThanOrEqual(3);
    await expect(rowIn(page, 'unloaded')).toBeVisible({ timeout: 8_000 });
    await expect(receipts(page).first()).toContainText(/smollm2 gave back .* idle/s);
    expect(server.workers()).toEqual([]);
  });
});

test('two people see the same: a load and an unload show on the other page within a second', async ({ page, open, server, complaints, context }) => {
  await open('/');
  const other = await watched(await context.newPage(), complaints);
  await other.goto(server.url);
  await live(other);
  for (const [verb, state] of [['Load', 'ready'], ['Unload', 'unloaded']] as const) {
    await button(page, `${verb} smollm2`).click();
    await expect(rowIn(page, state)).toBeVisible();
    const began = performance.now();
    await expect(rowIn(other, state)).toBeVisible({ timeout: 1_000 });
    console.log(`the other page showed ${state} ${(performance.now() - began).toFixed(0)} ms after the first`);
  }
  await expect(receipts(other).first()).toContainText('smollm2 gave back');
});

test('reinitialise while a chat streams: it may end, newcomers wait for the new instance', async ({ page, open, server }) => {
  const leave = new AbortController();
  const chat = endless(server.url, leave.signal);
  await chat.first;
  const { pid } = (await server.model()).instances[0]!;
  await open('/');
  await expect(row(page)).toContainText('1 request');
  await button(page, /^Reinitialise loaded models/).click();
  const dialog = page.getByRole('dialog', { name: 'Reinitialise loaded models' });
  await expect(dialog).toContainText('1 request in flight');
  await button(dialog, /^Reinitialise 1 model/).click();
  await expect(rowIn(page, 'draining')).toBeVisible();
  await expect(row(page)).toContainText('draining, 1 left');
  const newcomer = server.raw('/v1/chat/completions', JSON.stringify({
    model: 'smollm2', max_tokens: 2, messages: [{ role: 'user', content: 'Hello' }],
  }));
  await expect.poll(async () => (await server.model()).queued).toBe(1);
  leave.abort();
  await expect(rowIn(page, 'ready')).toBeVisible();
  await expect(notice(page)).toContainText('smollm2 gave back');
  expect((await newcomer).status).toBe(200);
  expect((await server.model()).instances[0]!.pid).not.toBe(pid);
  expect(exists(pid)).toBe(false);
});

test('a draining model can be unloaded now, and the stream ends with a reason', async ({ page, open, server }) => {
  const chat = endless(server.url);
  await chat.first;
  await open('/');
  await button(page, 'Unload smollm2').click();
  await expect(rowIn(page, 'draining')).toBeVisible();
  await button(page, 'Unload now smollm2').click();
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  expect(await chat.whole).toMatch(/data: \{"error":/);
});

test('a worker that is killed while it answers: plain words, and the next question is answered', async ({ page, open, server }) => {
  test.setTimeout(120_000);
  await open('/chat');
  await say(page, 'Write a very long story about a lighthouse keeper.');
  await expect(lastAnswer(page).locator('.text')).not.toBeEmpty({ timeout: 30_000 });
  const { pid } = (await server.model()).instances[0]!;
  process.kill(pid, 'SIGKILL');
  await expect(lastAnswer(page)).toHaveAttribute('data-failed', 'true');
  await expect(lastAnswer(page).locator('.note')).toHaveText(/^[A-Z].+\.$/);
  await expect(lastAnswer(page).locator('.note')).toContainText(/killed|signal|died|ended/);
  await page.getByRole('link', { name: 'Resources' }).click();
  await expect(row(page)).not.toHaveAttribute('data-state', 'ready');
  await page.getByRole('link', { name: 'Chat' }).click();
  await shortAnswers(page);
  await say(page, 'Say hello.');
  await expect(lastAnswer(page).locator('.note')).toContainText(/tok\/s/, { timeout: 30_000 });
});

test('the server goes and comes back: the page says so, and is live again with the truth', async ({ page, open, server, complaints }) => {
  // A browser logs each refused connection; nothing can keep it from that.
  complaints.expect(/ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)/);
  await server.load();
  await open('/');
  await expect(rowIn(page, 'ready')).toBeVisible();
  await server.stop();
  await expect(page.locator('header [data-link]')).toHaveText(/Reconnecting|Stale/);
  await expect(page.getByText(/Connection lost/)).toBeVisible();
  await server.startAgain();
  await live(page);
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  await expect(page.getByText(/Connection lost/)).toBeHidden();
  await button(page, 'Load smollm2').click();
  await expect(rowIn(page, 'ready')).toBeVisible();
});

test('a hidden page closes its stream, and is up to date when it is seen again', async ({ page, open, server }) => {
  await open('/');
  await hide(page, true);
  await server.load();
  await expect(rowIn(page, 'unloaded')).toBeVisible();
  await hide(page, false);
  await expect(rowIn(page, 'ready')).toBeVisible();
  await live(page);
});

test('a sample changes texts and bars, and builds no element anew', async ({ page, open, server }) => {
  await server.load();
  await open('/');
  await expect(rowIn(page, 'ready')).toBeVisible();
  // This page's own session is a row too, and comes with its first sign of life.
  await expect(page.locator('[data-session]')).toContainText('page open');
  const built = await page.evaluate(async () => {
    const main = document.querySelector('main')!;
    let texts = 0;
    const elements: string[] = [];
    const watch = new MutationObserver((records) => {
      for (const record of records) {
        if (record.type === 'characterData') texts += 1;
        for (const node of record.addedNodes) if (node instanceof Element) elements.push(node.outerHTML.slice(0, 120));
      }
    });
    watch.observe(main, { subtree: true, childList: true, characterData: true });
    await new Promise((done) => setTimeout(done, 4_000));
    return { texts, elements };
  });
  expect(built.texts, 'something is measured each second').toBeGreaterThan(0);
  expect(built.elements).toEqual([]);
});
