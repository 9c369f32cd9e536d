// The test of this house: a server of its own, a page that may not complain, and what to wait for.
import { type Page, test as base, expect } from '@playwright/test';
import { Server, type Settings } from './server.ts';

interface Fixtures {
  /** How the server is to be; set by `test.use`. */
  settings: Settings;
  /** A server for this test alone. Its end is checked. */
  server: Server;
  /** Complaints of the page: a test fails if any is left at its end. */
  complaints: Complaints;
  /** Opens one of the pages and waits until it can be used. */
  open: (path: string) => Promise<void>;
}

/** What a page had to complain about. */
export class Complaints {
  readonly heard: string[] = [];
  private readonly exempt: RegExp[] = [];

  /** From now on these are expected, such as refused connections while the server is away. */
  expect(pattern: RegExp): void {
    this.exempt.push(pattern);
  }

  watch(page: Page): void {
    page.on('pageerror', (error) => this.heard.push(`page error: ${error.message}`));
    page.on('console', (message) => {
      if (message.type() === 'error') this.heard.push(`console: ${message.text()} (${message.location().url})`);
    });
  }

  left(): string[] {
    return this.heard.filter((words) => !this.exempt.some((pattern) => pattern.test(words)));
  }
}

/** Says every breach of the policy in the console, where the watch hears it. */
const TELL_VIOLATIONS = `document.addEventListener('securitypolicyviolation', (event) =>
  console.error('policy violated: ' + event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sample))`;

/** Watches a page, whoever opened it. */
export async function watched(page: Page, complaints: Complaints): Promise<Page> {
  complaints.watch(page);
  await page.addInitScript(TELL_VIOLATIONS);
  return page;
}

/** Waits for the sign that the page is alive: hydrated, and the stream of events is open. */
export async function live(page: Page): Promise<void> {
  await expect(page.locator('header').getByText('Live', { exact: true })).toBeVisible();
}

/** Waits until a page is hydrated, with or without events. */
export async function hydrated(page: Page): Promise<void> {
  await expect(page.locator('header [data-link]')).not.toHaveAttribute('data-link', 'still');
}

/** A page that hears nothing: the stream opens and ends, again and again, without a complaint. */
export async function withoutEvents(page: Page): Promise<void> {
  await page.route('**/events', (route) => route.fulfill({ contentType: 'text/event-stream', body: 'retry: 1000\n\n' }));
}

export const test = base.extend<Fixtures>({
  settings: [{}, { option: true }],
  server: async ({ settings }, use, info) => {
    const server = await Server.start(settings);
    await use(server);
    if (info.status !== info.expectedStatus) {
      await info.attach('server log', { body: server.log.slice(-200).join('\n'), contentType: 'text/plain' });
    }
    await server.dispose();
  },
  complaints: async ({ page }, use) => {
    const complaints = new Complaints();
    await watched(page, complaints);
    await use(complaints);
    expect(complaints.left(), 'what the page complained about').toEqual([]);
  },
  open: async ({ page, server, complaints, javaScriptEnabled }, use) => {
    expect(complaints.heard).toEqual([]);
    await use(async (path) => {
      await page.goto(server.url + path);
      if (javaScriptEnabled) await live(page);
    });
  },
});

export { expect };
