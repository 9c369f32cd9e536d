// The official SDKs find what they expect.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import OpenAI, { BadRequestError, NotFoundError } from 'openai';
import { expect, test } from '../support/test.ts';

for (const [name, file, checks] of [
  ['python SDK', 'openai_sdk.py', ['models', 'chat', 'stream', 'completions', 'embeddings', 'errors']],
  ['Ollama client', 'ollama_sdk.py', ['shelf', 'chat', 'generate', 'keep_alive', 'embed', 'errors']],
] as const) {
  for (const check of checks) {
    test(`${name}: ${check}`, ({ server }) => {
      const script = join(import.meta.dirname, '../clients', file);
      const python = process.env.INNKEEPER_PYTHON ?? 'python3';
      const run = spawnSync(python, [script, server.url, check], { encoding: 'utf8', timeout: 50_000 });
      expect(run.status, run.error?.message ?? run.stderr).toBe(0);
      expect(run.stdout).toBe(`${check} holds\n`);
    });
  }
}

test.describe('node SDK', () => {
  const messages = [{ role: 'user' as const, content: 'Say hello in one short sentence.' }];

  test('streams, with usage at the end', async ({ server }) => {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const stream = await client.chat.completions.create({
      model: 'smollm2', messages, max_tokens: 12, temperature: 0, stream: true, stream_options: { include_usage: true },
    });
    let text = '';
    let tokens = 0;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      tokens = chunk.usage?.completion_tokens ?? tokens;
    }
    expect(text.trim()).not.toBe('');
    expect(tokens).toBeGreaterThan(0);
    expect(tokens).toBeLessThanOrEqual(12);
  });

  test('a stream that is left early is cancelled', async ({ server }) => {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const stream = await client.chat.completions.create({
      model: 'smollm2', messages, max_tokens: 2000, stream: true, ...{ ignore_eos: true },
    });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) break;
    }
    await expect.poll(async () => (await server.model()).in_flight, { timeout: 5_000 }).toBe(0);
    expect((await server.model()).state).toBe('ready');
  });

  test('errors have their class', async ({ server }) => {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
    await expect(client.chat.completions.create({ model: 'nobody', messages })).rejects.toThrow(NotFoundError);
    await expect(client.chat.completions.create({ model: 'smollm2', messages, top_p: 7 })).rejects.toThrow(BadRequestError);
  });
});
