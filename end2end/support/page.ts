// Where things stand on the pages, by role and name; rows by their model.
import type { Locator, Page } from '@playwright/test';

/** The pages that there are. */
export const PAGES = ['/', '/chat', '/activity', '/settings'];

/** And the page of one model, which no link in the header leads to. */
export const ALL_PAGES = [...PAGES, '/model/smollm2'];

export const row = (page: Page, model = 'smollm2'): Locator => page.locator(`tr[data-model="${model}"]`);

/** The row of a model in a state. */
export const rowIn = (page: Page, state: string, model = 'smollm2'): Locator =>
  page.locator(`tr[data-model="${model}"][data-state="${state}"]`);

export const button = (within: Page | Locator, name: string | RegExp): Locator => within.getByRole('button', { name });

/** What the last verb said. */
export const notice = (page: Page): Locator => page.locator('#notice');

/** The receipts under "Given back", newest first. */
export const receipts = (page: Page): Locator => page.locator('.receipts > li');

/** The last answer of the conversation. */
export const lastAnswer = (page: Page): Locator => page.locator('.turn.assistant').last();

/** Hides a page, as a browser does when another tab is looked at, or shows it again. */
export const hide = (page: Page, hidden: boolean): Promise<void> =>
  page.evaluate((hidden) => {
    Object.defineProperty(document, 'visibilityState', { value: hidden ? 'hidden' : 'visible', configurable: true });
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);

/** An amount as the pages write it, in bytes. */
export function bytesOf(text: string): number {
  const found = /([\d.]+) (KiB|MiB|GiB)/.exec(text);
  if (!found) throw new Error(`no amount in "${text}"`);
  return Number(found[1]) * { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[found[2] as 'KiB' | 'MiB' | 'GiB'];
}

/** Says something in the chat; the answer comes when it comes. */
export async function say(page: Page, words: string): Promise<void> {
  await page.getByRole('textbox', { name: 'Message' }).fill(words);
  await button(page, 'Send').click();
}

/** Lets the page's questions have short answers, the same each time: what a model makes up is no part of the test. */
export async function shortAnswers(page: Page): Promise<void> {
  await page.route('**/v1/chat/completions', (route) => {
    const asked = JSON.parse(route.request().postData() ?? '{}');
    return route.continue({ postData: JSON.stringify({ ...asked, max_tokens: 24, temperature: 0 }) });
  });
}
