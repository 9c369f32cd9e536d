// What is written down: the ledger over restarts, measurements, performance, the files to take away, and /metrics.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from '../support/test.ts';

test('a scraper finds every metric, with its unit, and the dashboard names no other', ({ server }) => {
  const script = join(import.meta.dirname, '../clients/metrics.py');
  const dashboard = join(import.meta.dirname, '../../packaging/grafana.json');
  const python = process.env.INNKEEPER_PYTHON ?? 'python3';
  const run = spawnSync(python, [script, server.url, dashboard], { encoding: 'utf8', timeout: 50_000 });
  expect(run.status, run.error?.message ?? run.stderr).toBe(0);
  expect(run.stdout).toBe('metrics holds\n');
});
