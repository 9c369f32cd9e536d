// A picture of each page, in both themes and on a phone, kept in end2end/screenshots. The house is in use: one model
// answers, one is idle, one has given its memory back.
import { join } from 'node:path';
import { ALL_PAGES, lastAnswer, receipts, rowIn, say, shortAnswers } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

const folder = join(import.meta.dirname, '../screenshots');
const name = (path: string) => (path === '/' ? 'resources' : path.slice(1).replaceAll('/', '-'));

test('pictures of every page', async ({ page, open, server }) => {
  test.setTimeout(180_000);
  await server.load('minilm');
  await server.post('/manage/unload', { model: 'minilm' });
  await shortAnswers(page);
  await open('/chat');
  await say(page, 'What is the capital of France? Answer in one short sentence.');
  await expect(lastAnswer(page).locator('.note')).toContainText(/tok\/s/, { timeout: 90_000 });
  await server.load('minilm');
  for (const [kind, size] of [['', { width: 1280, height: 900 }], ['phone', { width: 390, height: 844 }]] as const) {
    await page.setViewportSize(size);
    for (const theme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
      for (const path of ALL_PAGES) {
        await open(path);
        if (path === '/') {
          await expect(rowIn(page, 'ready')).toBeVisible();
          await expect(receipts(page).first()).toBeVisible();
        }
        const parts = [name(path), kind, theme].filter(Boolean);
        const file = await page.screenshot({ path: join(folder, `${parts.join('-')}.png`), fullPage: true });
        expect(file.length, 'a picture of something').toBeGreaterThan(10_000);
      }
    }
  }
});
