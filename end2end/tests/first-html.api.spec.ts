// The document as it leaves the server: its policy, its scripts, its assets, and how soon it comes.
import { PAGES } from '../support/page.ts';
import { expect, test } from '../support/test.ts';

test('every script carries the nonce of the policy, a new one each time, and nothing is styled inline', async ({ server }) => {
  const seen = new Set<string>();
  for (const path of [...PAGES, '/', '/nowhere']) {
    const { headers, body } = await server.get(path, { accept: 'text/html' });
    const policy = headers.get('content-security-policy')!;
    const nonce = /script-src 'nonce-([^']+)' 'strict-dynamic' 'wasm-unsafe-eval'/.exec(policy)![1]!;
    expect(seen.has(nonce), 'a nonce is used once').toBe(false);
    seen.add(nonce);
    for (const part of ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"]) {
      expect(policy).toContain(part);
    }
    expect(policy).not.toMatch(/unsafe-inline|'unsafe-eval'/);
    const scripts = [...String(body).matchAll(/<script\b[^>]*>/g)].map(([tag]) => tag);
    expect(scripts.length).toBeGreaterThan(0);
    for (const tag of scripts) expect(tag).toContain(`nonce="${nonce}"`);
    expect(String(body)).not.toMatch(/<[^>]+\sstyle=/);
    expect(headers.get('referrer-policy')).toBe('same-origin');
    expect(headers.get('cache-control')).toContain('no-store');
  }
});

test('assets are compressed, typed, immutable, and under the hash of the site', async ({ server }) => {
  const { body } = await server.get('/', { accept: 'text/html' });
  const paths = [...new Set([...String(body).matchAll(/\/pkg\/[0-9a-f]+\/[\w.]+/g)].map(([path]) => path))];
  expect(paths.map((path) => path.split('.').pop()).sort()).toEqual(['css', 'js', 'wasm']);
  const types = { css: 'text/css; charset=utf-8', js: 'text/javascript; charset=utf-8', wasm: 'application/wasm' };
  for (const path of paths) {
    const response = await fetch(server.url + path, { headers: { 'accept-encoding': 'br' } });
    expect(response.headers.get('content-type')).toBe(types[path.split('.').pop() as keyof typeof types]);
    expect(response.headers.get('content-encoding')).toBe('br');
    expect(response.headers.get('cache-control')).toContain('immutable');
    const plain = await fetch(server.url + path, { headers: { 'accept-encoding': 'br;q=0, identity' } });
    expect(plain.headers.get('content-encoding')).toBeNull();
    expect(Buffer.from(await plain.arrayBuffer()).equals(Buffer.from(await response.arrayBuffer()))).toBe(true);
  }
  expect((await fetch(server.url + paths[0]!.replace(/[0-9a-f]{16}/, '0'.repeat(16)))).status).toBe(404);
});

test('the first HTML comes soon', async ({ server }, info) => {
  const times: number[] = [];
  for (let round = 0; round < 50; round++) {
    const began = performance.now();
    await server.get('/', { accept: 'text/html' });
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  const words = `median ${times[25]!.toFixed(1)} ms, slowest ${times[49]!.toFixed(1)} ms of 50`;
  info.annotations.push({ type: 'first HTML', description: words });
  console.log(`first HTML: ${words}`);
  // The bound of the design is 100 ms; the median of fifty does not hang on one slow moment of the machine.
  expect(times[25]!).toBeLessThan(100);
});
