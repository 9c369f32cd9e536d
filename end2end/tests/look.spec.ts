// How the pages look and read to everybody: themes, phone width, headings, axe.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { AxeResults } from 'axe-core';
import type { Page } from '@playwright/test';
import { ALL_PAGES, PAGES, button, rowIn } from '../support/page.ts';
import { endless } from '../support/stream.ts';
import { expect, test } from '../support/test.ts';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/**
 * The page as it stands without JavaScript, where axe can run all the same: in a browser that has JavaScript and does
 * not get the house's own. (Without it axe would wait for ever for its first timer.)
 */
async function still(page: Page, theme: 'light' | 'dark'): Promise<Page> {
  const context = await page.context().browser()!.newContext({ javaScriptEnabled: true, colorScheme: theme, reducedMotion: 'reduce' });
  await context.addCookies(await page.context().cookies());
  await context.route('**/pkg/*/*.js', (route) => route.abort());
  const copy = await context.newPage();
  await copy.goto(page.url());
  await expect(copy.locator('header [data-link]')).toHaveAttribute('data-link', 'still');
  return copy;
}

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  const results = (await page.evaluate(`axe.run(document, { runOnly: ${JSON.stringify(RULES)} })`)) as AxeResults;
  return results.violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${help}\n  ${html.slice(0, 200)}\n  ${failureSummary}`),
  );
}

for (const theme of ['light', 'dark'] as const) {
  for (const path of ALL_PAGES) {
    test(`axe finds nothing on ${path} in the ${theme} theme`, async ({ page, open, server, javaScriptEnabled }) => {
      await server.load();
      await server.post('/manage/reload', { model: 'smollm2' });
      await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
      const found = async () => violations(javaScriptEnabled ? page : await still(page, theme));
      await open(path);
      expect(await found()).toEqual([]);
      if (path === '/') {
        await button(page, /^Clean up AI resources/).click();
        await expect(page.getByRole('dialog')).toBeVisible();
        expect(await found()).toEqual([]);
      }
    });
  }
}

for (const theme of ['light', 'dark'] as const) {
  test(`axe finds nothing in what shows only now and then, in the ${theme} theme`, async ({ page, open, server, complaints, javaScriptEnabled }) => {
    complaints.expect(/404/);
    const leave = new AbortController();
    const chat = endless(server.url, leave.signal);
    await chat.first;
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
    const found = async () => violations(javaScriptEnabled ? page : await still(page, theme));
    await open('/');
    await expect(page.locator('[data-session]').filter({ hasText: 'in use' })).toBeVisible();
    await expect(page.locator('[data-request]')).toBeVisible();
    expect(await found(), 'rows of sessions and requests').toEqual([]);
    await button(page, /^Reinitialise loaded models/).click();
    await expect(page.getByRole('dialog', { name: 'Reinitialise loaded models' })).toBeVisible();
    expect(await found(), 'the dialog of the reinitialise').toEqual([]);
    leave.abort();
    await open('/model/minilm');
    await button(page, 'Remove files').click();
    await expect(page.getByRole('dialog', { name: 'Remove the files of this model' })).toBeVisible();
    expect(await found(), 'the dialog of the removal').toEqual([]);
    await page.goto(`${server.url}/nowhere`);
    expect(await found(), 'a page that is not there').toEqual([]);
    // A plain form's refusal is shown once, and the copy of the page would be the second time.
    if (!javaScriptEnabled) return;
    await open('/settings');
    await page.getByLabel('Session timeout', { exact: true }).fill('soon');
    await button(page, 'Save Session timeout').click();
    await expect(page.getByRole('alert').filter({ visible: true })).toContainText('`soon`');
    expect(await found(), 'a field that is refused').toEqual([]);
  });

  test.describe('in an empty house', () => {
    test.use({ settings: { models: [] } });
    test(`axe finds nothing in the ${theme} theme`, async ({ page, open, javaScriptEnabled }) => {
      await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
      for (const path of PAGES) {
        await open(path);
        expect(await violations(javaScriptEnabled ? page : await still(page, theme)), path).toEqual([]);
      }
    });
  });
}

test('the theme is chosen by a form, kept over pages, and stands in the first byte', async ({ page, open, server }) => {
  await page.emulateMedia({ colorScheme: 'light' });
  await open('/');
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await button(page, 'Dark').click();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  expect(await background()).not.toBe(light);
  await expect.poll(async () => (await page.context().cookies()).find((c) => c.name === 'theme')?.value).toBe('dark');
  const html = await (await page.context().request.get(`${server.url}/chat`)).text();
  expect(html).toContain('<html lang="en" data-theme="dark"');
  await open('/chat');
  expect(await background()).not.toBe(light);
});

test('in forced colours bars and buttons have borders, what is chosen a thick one, and parts their outlines', async ({ page, open, server }) => {
  await server.load();
  await page.emulateMedia({ forcedColors: 'active' });
  await open('/');
  expect(await page.evaluate(() => matchMedia('(forced-colors: active)').matches)).toBe(true);
  const style = (selector: string, name: 'borderTopWidth' | 'stroke') =>
    page.locator(selector).first().evaluate((one, name) => getComputedStyle(one)[name], name);
  for (const selector of ['.bar', '.swatch', 'main .btn']) expect(await style(selector, 'borderTopWidth'), selector).toBe('1px');
  expect(await style('.btn[aria-pressed="true"]', 'borderTopWidth')).toBe('3px');
  expect(await style('.part', 'stroke')).toMatch(/^rgb/);
});

test.describe('on a phone', () => {
  test.use({ viewport: { width: 360, height: 740 } });
  for (const path of ALL_PAGES) {
    test(`${path} does not scroll sideways, and its buttons can be pressed`, async ({ page, open, server }) => {
      await server.load();
      await open(path);
      const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect(content).toBeLessThanOrEqual(window);
      if (path === '/') {
        await button(page, 'Unload smollm2').click();
        await expect(rowIn(page, 'unloaded')).toBeVisible();
      }
    });
  }
});

test('a path that leads nowhere is 404 and shows the way back', async ({ page, server, complaints }) => {
  complaints.expect(/404/);
  const response = await page.goto(`${server.url}/nowhere`);
  expect(response!.status()).toBe(404);
  await page.getByRole('main').getByRole('link', { name: 'Resources' }).click();
  await expect(page).toHaveURL(`${server.url}/`);
});

test('each page has its title, one heading of the first level, and says where one is', async ({ page, open }) => {
  for (const path of PAGES) {
    await open(path);
    await expect(page).toHaveTitle(/ - Innkeeper$/);
    await expect(page.locator('h1')).toHaveCount(1);
    await expect(page.getByRole('navigation').locator('[aria-current="page"]')).toHaveAttribute('href', path);
  }
});
