// Everything without a mouse: reach, act, dialogs that keep the focus and give it back.
import type { Page } from '@playwright/test';
import { ALL_PAGES, notice, rowIn } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

const focused = (page: Page) =>
  page.evaluate(() => {
    const element = document.activeElement as HTMLElement | null;
    return (element?.innerText || element?.getAttribute('aria-label') || element?.tagName || '').replace(/\s+/g, ' ').trim();
  });

/** Presses Tab until the focus is on an element with this name; fails when it never comes there. */
async function tabTo(page: Page, name: RegExp): Promise<void> {
  const seen: string[] = [];
  for (let step = 0; step < 60; step++) {
    await page.keyboard.press('Tab');
    const now = await focused(page);
    if (name.test(now)) return;
    seen.push(now);
  }
  throw new Error(`Tab never came to ${name}; it came to: ${seen.join(' | ')}`);
}

test('load, clean up and answer the dialog with the keyboard alone', async ({ page, open }) => {
  await open('/');
  await tabTo(page, /^Load smollm2/);
  await page.keyboard.press('Enter');
  await expect(rowIn(page, 'ready')).toBeVisible();
  expect(await focused(page), 'the focus stays on the button, which now unloads').toMatch(/^Unload smollm2/);
  await page.keyboard.press('Shift+Tab');
  await tabTo(page, /^Clean up AI resources/).catch(async () => {
    // It stands before the table: from the top of the page it is reached in any case.
    await page.evaluate(() => (document.activeElement as HTMLElement).blur());
    await tabTo(page, /^Clean up AI resources/);
  });
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name: 'Clean up AI resources' });
  await expect(dialog).toBeVisible();
  for (let step = 0; step < 8; step++) {
    await page.keyboard.press('Tab');
    const inside = await page.evaluate(() => {
      const element = document.activeElement;
      return element === document.body || element?.closest('dialog') !== null;
    });
    expect(inside, 'the focus stays in the dialog').toBe(true);
  }
  await page.keyboard.press('Escape');
  await expect(dialog).toBeHidden();
  expect(await focused(page), 'the focus comes back to the button').toMatch(/^Clean up AI resources/);
  await page.keyboard.press('Enter');
  await tabTo(page, /^Clean up/);
  await page.keyboard.press('Enter');
  await expect(rowIn(page, 'unloaded')).toBeVisible();
});

for (const path of ALL_PAGES) test(`the focus is always to be seen on ${path}`, async ({ page, open, server }) => {
  await server.load();
  await open(path);
  const hidden: string[] = [];
  for (let step = 0; step < 60; step++) {
    await page.keyboard.press('Tab');
    const mark = await page.evaluate(() => {
      const element = document.activeElement!;
      if (element === document.body) return 'body';
      const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
      return (outlineStyle !== 'none' && outlineWidth !== '0px') || boxShadow !== 'none' ? 'seen' : element.outerHTML.slice(0, 120);
    });
    if (mark === 'body') break;
    if (mark !== 'seen') hidden.push(mark);
  }
  expect(hidden).toEqual([]);
});

test('"/" goes to the filter, "?" opens the help, and no letter does harm', async ({ page, open, server }) => {
  await server.load();
  await open('/');
  await page.keyboard.press('/');
  await expect(page.getByRole('searchbox', { name: 'Filter models by name' })).toBeFocused();
  await page.keyboard.type('mini');
  await expect(page.locator('tr[data-model="smollm2"]')).toBeHidden();
  await expect(page.locator('tr[data-model="minilm"]')).toBeVisible();
  await page.getByRole('searchbox').fill('');
  await page.getByRole('searchbox').blur();
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Help' })).toBeVisible();
  await page.keyboard.press('Escape');
  for (const key of 'abcdefghijklmnopqrstuvwxyz') await page.keyboard.press(key);
  await page.keyboard.press('Delete');
  await page.keyboard.press('Backspace');
  expect((await server.model()).state).toBe('ready');
});

test('a setting is changed with the keyboard alone, and the focus stays in its field', async ({ page, open, server }) => {
  await open('/settings');
  await tabTo(page, /^Idle timeout$/);
  await page.keyboard.press('Control+a');
  await page.keyboard.type('9m');
  await page.keyboard.press('Enter');
  await expect(notice(page)).toContainText('Saved');
  await expect(page.getByLabel('Idle timeout', { exact: true })).toBeFocused();
  expect((await server.model()).idle_timeout_seconds).toBe(540);
});
