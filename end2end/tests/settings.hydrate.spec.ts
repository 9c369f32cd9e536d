// What a change of a setting does to other pages that are open.
import { button } from '../support/page.ts';
import { expect, live, test, watched } from '../support/test.ts';

test('a change on one page is seen on another within 250 ms of the answer', async ({ page, open, server, complaints, context }) => {
  await open('/settings');
  const other = await watched(await context.newPage(), complaints);
  await other.goto(`${server.url}/settings`);
  await live(other);
  const times: number[] = [];
  for (const value of ['3m', '11m', '90s', '2h', 'never']) {
    // The page itself notes when it shows the value, by the clock of this machine.
    await other.evaluate((value) => {
      const field = document.querySelector<HTMLInputElement>('[data-setting="idle_timeout"] input')!;
      (window as unknown as { shown: Promise<number> }).shown = new Promise((resolve) => {
        const look = () => field.value === value && (resolve(Date.now()), watch.disconnect());
        const watch = new MutationObserver(look);
        watch.observe(field, { attributes: true });
      });
    }, value);
    const { status } = await server.post('/manage/settings', { idle_timeout: value });
    const answered = Date.now();
    expect(status).toBe(200);
    const shown = await other.evaluate(() => (window as unknown as { shown: Promise<number> }).shown);
    times.push(shown - answered);
  }
  console.log(`seen on the other page ${times.join(', ')} ms after the answer`);
  expect(Math.max(...times)).toBeLessThan(250);
  await expect(page.locator('[data-setting="idle_timeout"] input')).toHaveValue('never');
});

test('what somebody is typing is not overwritten by somebody else, and a save follows again', async ({ page, open, server }) => {
  await open('/settings');
  const field = page.locator('[data-setting="session_timeout"]');
  await field.locator('input').fill('8m');
  await server.post('/manage/settings', { session_timeout: '2m' });
  await expect(field).toContainText('saved here');
  await expect(field.locator('input')).toHaveValue('8m');
  await button(field, 'Save Session timeout').click();
  await expect.poll(async () => (await server.get('/manage/settings')).body.session_timeout.value).toBe('8m');
  await server.post('/manage/settings', { session_timeout: '6m' });
  await expect(field.locator('input')).toHaveValue('6m');
});
