// Before the click: what a load would take, whom it would push out, or why it would be refused.
import { button, notice, row } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

const MIB = 2 ** 20;

test('a load says what it takes, who goes for it, and what does not fit', async ({ page, open, server, javaScriptEnabled }) => {
  const reserve = (await server.snapshot()).models.find(({ id }) => id === 'smollm2')!.reserve_bytes!;
  await server.load('minilm');
  await open('/');
  const seen = async (words: RegExp) => {
    if (!javaScriptEnabled) await page.reload();
    await expect(row(page)).toContainText(words);
  };
  await seen(/would take about [\d.]+ MiB, [\d.]+ MiB at most/);
  await expect(row(page)).not.toContainText('Would unload');
  await server.post('/manage/settings', { ram_limit: String(reserve + 4 * MIB) });
  // Who came a moment ago stays ten seconds; then the page says by itself who would go.
  await seen(/Would wait .*minilm.*, then take about/);
  await expect(async () => seen(/Would unload minilm \([\d.]+ MiB\) first, then take about/)).toPass({ timeout: 15_000 });
  await open('/settings');
  await expect(page.getByText('Who would go if a load needs room: minilm.')).toBeVisible();
  await open('/');
  await server.post('/manage/settings', { ram_limit: String(8 * MIB) });
  await seen(/needs [\d.]+ MiB/);
  await open('/model/smollm2');
  await expect(page.getByText(/needs [\d.]+ MiB/)).toBeVisible();
  await page.getByText('Load anyway…').click();
  await button(page, 'Load anyway smollm2').click();
  await expect(page.locator('main .state').first()).toHaveText('ready');
  await expect(notice(page)).toContainText('smollm2 is ready');
});
