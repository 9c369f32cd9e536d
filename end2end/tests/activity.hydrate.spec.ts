// The ledger grows while one looks at it.
import { expect, test } from '../support/test.ts';

test('what happens appears at the top, if the filter wants it', async ({ page, open, server }) => {
  const rows = page.locator('.ledger tbody tr');
  await open('/activity?kind=load');
  await expect(page.getByText('Nothing of this kind has happened.')).toBeVisible();
  await server.load();
  await expect(rows).toHaveCount(1);
  await expect(rows).toContainText('smollm2');
  await server.post('/manage/unload', { model: 'smollm2' });
  await server.load('minilm');
  await expect(rows).toHaveCount(2);
  await expect(rows.first()).toContainText('minilm');
  // Come to without a new document, the page asks for its events itself.
  await page.getByRole('link', { name: 'Chat' }).click();
  await page.getByRole('link', { name: 'Activity' }).click();
  await expect(rows).toHaveCount(4);
  await expect(rows.first()).toContainText('minilm');
});
