// The page as the server wrote it and hydration adopted it, against the same page built by the browser alone. Leptos
// adopts a different text without a word, so nothing but this comparison would show it.
import type { Page } from '@playwright/test';
import { ALL_PAGES } from '../support/page.ts';
import { expect, hydrated, test, withoutEvents } from '../support/test.ts';

/** What a person and a reader can tell apart: no comments, attributes in order, texts joined. */
const picture = (page: Page) =>
  page.evaluate(() => {
    const write = (node: Node): string => {
      if (node instanceof Text) return node.data;
      if (!(node instanceof Element)) return '';
      // A group that tachys puts around static parts of an SVG says nothing by itself.
      const bare = node.tagName === 'g' && node.attributes.length === 0;
      const inner = [...node.childNodes].map(write).join('');
      if (bare) return inner;
      const attributes = [...node.attributes].map(({ name, value }) => ` ${name}=${JSON.stringify(value)}`).sort();
      return `\n<${node.tagName.toLowerCase()}${attributes.join('')}>${inner}`;
    };
    const main = document.querySelector('main')!;
    return [...main.childNodes].map(write).join('').split('\n').map((line) => line.trim());
  });

test('hydrated pages are the pages that the browser would build', async ({ page, server, complaints }) => {
  await server.load();
  await server.post('/manage/reload', { model: 'smollm2' });
  // The history is written about once a second; both loads are in it before the first page is drawn.
  const loads = async () => (await server.get('/manage/performance')).body.models[0]?.windows[0].load_ms?.count;
  await expect.poll(loads).toBe(2);
  // Without events nothing changes by itself, but for the clock.
  await withoutEvents(page);
  await page.clock.install({ time: new Date() });
  for (const path of ALL_PAGES) {
    const other = path === '/' ? '/chat' : '/';
    const link = (to: string) => page.locator(`a[href="${to}"]`).filter({ visible: true }).first();
    const there = (to: string) => expect(page).toHaveURL(server.url + to);
    await page.goto(server.url + path);
    await hydrated(page);
    const adopted = await picture(page);
    expect(adopted.length).toBeGreaterThan(10);
    expect(complaints.left()).toEqual([]);
    await link(other).click();
    await there(other);
    await link(path).click();
    await there(path);
    // What is asked for by the page itself comes a moment later than the page.
    const built = `${path}, adopted (expected) and built by the browser (received)`;
    await expect.poll(() => picture(page), { message: built, timeout: 3_000 }).toEqual(adopted);
  }
});
