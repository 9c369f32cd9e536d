// A server of one's own for each test: the built program, a data folder that goes away, the models hard-linked in.
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from '@playwright/test';
import { command, commandLine, descendants, exists, near, privateBytes, runs } from './process.ts';
import type { Instance, Model, Snapshot } from './words.ts';

/** What a test may want otherwise. */
export interface Settings {
  /** Idle timeout of every model. */
  idleTimeout?: string;
  /** Further lines of the configuration file. */
  config?: string;
  /** Which of the test models lie in the data folder. */
  models?: string[];
  /** Loaded at the start. */
  preload?: string[];
  /** Its own variables of the environment. */
  env?: Record<string, string>;
}

/** How long a server may take from SIGTERM to its end. */
const STOP_MS = 8_000;

/** An answer of the management API. */
export interface Answer {
  status: number;
  headers: Headers;
  // The shapes differ by verb; tests look at single fields.
  body: any;
}

export class Server {
  url = '';
  readonly log: string[] = [];
  private child: ChildProcess | undefined;
  private ended: Promise<{ code: number | null; signal: string | null }> | undefined;

  private constructor(
    readonly dataDir: string,
    private readonly settings: Settings,
  ) {}

  /** Starts one and waits for its URL. */
  static async start(settings: Settings = {}): Promise<Server> {
    const dataDir = mkdtempSync(join(tmpdir(), 'innkeeper-e2e-'));
    linkModels(join(dataDir, 'models'), settings.models);
    const idle = settings.idleTimeout ? `[idle]\nidle_timeout = "${settings.idleTimeout}"\n` : '';
    writeFileSync(join(dataDir, 'test.toml'), `${idle}${settings.config ?? ''}`);
    const server = new Server(dataDir, settings);
    await server.launch('127.0.0.1:0');
    return server;
  }

  /** The same data folder and the same port, as after an upgrade. */
  async startAgain(): Promise<void> {
    await this.launch(new URL(this.url).host);
  }

  private async launch(listen: string): Promise<void> {
    const preload = (this.settings.preload ?? []).flatMap((model) => ['--preload', model]);
    const args = ['serve', '--listen', listen, '--data-dir', this.dataDir, '--config', join(this.dataDir, 'test.toml')];
    const child = spawn(program(), [...args, ...preload], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...cleanEnvironment(), ...this.settings.env } });
    this.child = child;
    this.ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal })));
    createInterface({ input: child.stderr! }).on('line', (line) => this.log.push(line));
    const url = await new Promise<string>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no URL within 30 s\n${this.log.join('\n')}`)), 30_000);
      createInterface({ input: child.stdout! }).once('line', (line) => (clearTimeout(late), resolve(line)));
      child.once('error', (error) => (clearTimeout(late), reject(error)));
      child.once('exit', () => (clearTimeout(late), reject(new Error(`ended at once\n${this.log.join('\n')}`))));
    });
    this.url = url.trim();
  }

  get pid(): number {
    return this.child!.pid!;
  }

  /** The worker processes that exist now, but for the one that is started ahead and waits for a model. */
  workers(): number[] {
    const own = commandLine(this.pid);
    // Before it has become a worker it bears the server's command line, or none.
    const waits = (line: string) => line === '' || line === own || line.includes('(none yet)');
    return descendants(this.pid).filter((pid) => exists(pid) && (!runs(pid) || !waits(commandLine(pid))));
  }

  /** SIGTERM, and what must hold then: gone in time, by itself, with everything that it started. */
  async stop(): Promise<void> {
    if (this.child === undefined || this.child.exitCode !== null || this.child.signalCode !== null) return;
    const started = descendants(this.pid).map((pid) => ({ pid, was: command(pid) }));
    const began = performance.now();
    this.child.kill('SIGTERM');
    let late: NodeJS.Timeout | undefined;
    const gaveUp = new Promise<'late'>((resolve) => (late = setTimeout(() => resolve('late'), STOP_MS + 2_000)));
    const end = await Promise.race([this.ended!, gaveUp]);
    clearTimeout(late);
    if (end === 'late') {
      this.child.kill('SIGKILL');
      throw new Error(`still there ${STOP_MS + 2_000} ms after SIGTERM\n${this.log.slice(-30).join('\n')}`);
    }
    expect(performance.now() - began, 'time from SIGTERM to the end').toBeLessThan(STOP_MS);
    expect(end, this.log.slice(-30).join('\n')).toEqual({ code: 0, signal: null });
    await expect.poll(() => started.filter(({ pid }) => exists(pid)), { message: 'workers left behind', timeout: 1_000 }).toEqual([]);
  }

  /** Kills it, as nothing that can be prepared for, and waits until the process itself is gone. */
  async kill(): Promise<void> {
    this.child!.kill('SIGKILL');
    await this.ended;
  }

  /** Ends it whatever a test did, and removes its data. */
  async dispose(): Promise<void> {
    try {
      await this.stop();
    } finally {
      rmSync(this.dataDir, { recursive: true, force: true });
    }
  }

  async get(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    return answer(await fetch(this.url + path, { headers, redirect: 'manual' }));
  }

  /** A verb as a program calls it. */
  async post(path: string, form: Record<string, string> = {}, headers: Record<string, string> = {}): Promise<Answer> {
    const body = new URLSearchParams(form);
    return answer(await fetch(this.url + path, { method: 'POST', body, headers, redirect: 'manual' }));
  }

  /** A body as it is, JSON by default. */
  async raw(path: string, body: BodyInit, headers: Record<string, string> = {}): Promise<Answer> {
    const type = { 'content-type': 'application/json' };
    return answer(await fetch(this.url + path, { method: 'POST', body, headers: { ...type, ...headers } }));
  }

  async snapshot(): Promise<Snapshot> {
    const { status, body } = await this.get('/manage/snapshot');
    expect(status).toBe(200);
    return body;
  }

  async model(id = 'smollm2'): Promise<Model> {
    const found = (await this.snapshot()).models.find((model) => model.id === id);
    expect(found, `${id} is known`).toBeDefined();
    return found!;
  }

  /** Loads a model and returns it, ready. */
  async load(id = 'smollm2', more: Record<string, string> = {}): Promise<Model> {
    const { status, body } = await this.post('/manage/load', { model: id, ...more });
    expect(status, JSON.stringify(body)).toBe(200);
    expect(body.state).toBe('ready');
    return body;
  }

  /** Uses a chat model once, so that it holds more than at its start. */
  async use(id = 'smollm2'): Promise<void> {
    const messages = [{ role: 'user', content: 'Count from one to ten. '.repeat(40) }];
    const { status } = await this.raw('/v1/chat/completions', JSON.stringify({ model: id, max_tokens: 8, temperature: 0, messages }));
    expect(status).toBe(200);
  }

  /** Waits until the server has measured what a model holds now: it looks once a second. */
  async measured(id = 'smollm2'): Promise<Instance> {
    const apart = async () => {
      const { pid, memory } = (await this.model(id)).instances[0]!;
      const held = privateBytes(pid);
      return Math.abs(memory!.private_bytes - held) / near(held);
    };
    await expect.poll(apart, { message: 'the kernel and the server agree', timeout: 5_000 }).toBeLessThan(1);
    return (await this.model(id)).instances[0]!;
  }

  /** Waits until a model is in this state. */
  async reaches(id: string, state: Model['state'], timeout = 15_000): Promise<void> {
    await expect.poll(async () => (await this.model(id)).state, { timeout, message: `${id} becomes ${state}` }).toBe(state);
  }
}

async function answer(response: Response): Promise<Answer> {
  const text = await response.text();
  let body: unknown = text;
  try {
    body = JSON.parse(text);
  } catch {
    // Not every answer is JSON; the text is the body then.
  }
  return { status: response.status, headers: response.headers, body };
}

export function program(): string {
  const path = process.env.INNKEEPER_BIN;
  if (!path) throw new Error('INNKEEPER_BIN names no program; run the tests with `cargo xtask test browser`');
  return path;
}

/** The folder with the default models. */
export function modelsDir(): string {
  const dir = process.env.INNKEEPER_TEST_MODELS;
  if (!dir) throw new Error('INNKEEPER_TEST_MODELS names no folder; run the tests with `cargo xtask test browser`');
  return dir;
}

/** Puts the test models in place without copying 180 MB for each test. */
export function linkModels(to: string, only: string[] | undefined): void {
  mkdirSync(to, { recursive: true });
  const link = (from: string, to: string) => {
    try {
      linkSync(from, to);
    } catch {
      // Another file system, or one without links.
      cpSync(from, to);
    }
  };
  for (const entry of readdirSync(modelsDir(), { withFileTypes: true })) {
    if (only && !only.includes(entry.name.replace(/\.gguf$/, ''))) continue;
    const [from, into] = [join(modelsDir(), entry.name), join(to, entry.name)];
    if (!entry.isDirectory()) {
      link(from, into);
      continue;
    }
    mkdirSync(into);
    for (const name of readdirSync(from)) link(join(from, name), join(into, name));
  }
}

/** Settings of whoever runs the tests must not reach the server under test. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('INNKEEPER_'));
  return Object.fromEntries(own);
}
