// The picture of held memory begins before the page does.
import { expect, test } from '../support/test.ts';

test('what a model held before the page was opened is in the picture', async ({ server, page, open }) => {
  await server.load();
  const points = async () => (await server.get('/manage/measurements?series=models&since=1m&step=1s')).body.points;
  await expect.poll(async () => (await points()).at(-1).values.smollm2 ?? 0).toBeGreaterThan(1 << 20);
  await server.post('/manage/unload', { model: 'smollm2' });
  await expect.poll(async () => (await points()).at(-1).values.smollm2 ?? 0).toBe(0);
  await open('/');
  const section = page.getByRole('region', { name: 'Held by models, last 15 minutes' });
  await expect(section).toContainText(/peak [\d.]+ MiB at \d\d:\d\d.*, now 0 MiB/);
  await expect(section.locator('svg path.area').first()).toHaveAttribute('d', /^M/);
});
