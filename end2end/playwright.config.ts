// Two ways through the same pages, from one table: with WASM and without JavaScript. A third row talks to the API.
// `*.hydrate.spec.ts` needs WASM, `*.nojs.spec.ts` must have none, `*.api.spec.ts` opens no page, the rest runs both ways.
import { defineConfig } from '@playwright/test';

const table = [
  { name: 'api', testMatch: /\.api\.spec\.ts/ },
  { name: 'hydrate', testIgnore: /\.(nojs|api)\.spec\.ts/, javaScriptEnabled: true },
  { name: 'nojs', testIgnore: /\.(hydrate|api)\.spec\.ts/, javaScriptEnabled: false },
];

export default defineConfig({
  testDir: 'tests',
  outputDir: 'test-results',
  // Each test has a server of its own and most of its time is waiting. Two at once share the machine well; more would
  // let one test's load show in another's deadlines.
  workers: 2,
  // Real processes on a shared machine: a missed deadline gets one more try, and the report names it.
  retries: process.env.CI ? 1 : 0,
  forbidOnly: true,
  timeout: 60_000,
  expect: { timeout: 10_000 },
  reporter: [
    ['list'],
    ...(process.env.INNKEEPER_REPORT ? [['json', { outputFile: process.env.INNKEEPER_REPORT }] as const] : []),
  ] as never,
  use: {
    viewport: { width: 1280, height: 900 },
    locale: 'en-GB',
    timezoneId: 'UTC',
    trace: 'off',
    screenshot: 'only-on-failure',
    launchOptions: { executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium' },
  },
  projects: table.map(({ name, javaScriptEnabled, ...files }) => ({
    name,
    ...files,
    use: javaScriptEnabled === undefined ? {} : { javaScriptEnabled },
  })),
});
