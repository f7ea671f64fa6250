// support.mjs - starts a gateway for a test, and looks at what it left behind.
import { spawn, execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const build = path.resolve(root, process.env.MILLRACE_BUILD ?? 'build');
export const demoModel = path.join(root, 'deploy/models/millrace-tiny-q8_0.gguf');
export const fakeWorker = path.join(build, 'test/fakeworker');
export const expected = JSON.parse(fs.readFileSync(path.join(root, 'tests/data/demo-model/expected.json')));

// Below this gap between the two best logits another correct engine may choose otherwise (deploy/models/README.md).
export const NEAR_TIE = 0.05;
export const sure = expected.filter((c) => c.smallest_margin.q8_0 >= NEAR_TIE);

export const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

export async function until(what, condition, limitMs = 20000) {
  const end = Date.now() + limitMs;
  for (;;) {
    const v = await condition();
    if (v) return v;
    if (Date.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await sleep(20);
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const s = net.createServer();
    s.on('error', reject);
    s.listen(0, '127.0.0.1', () => {
      const { port } = s.address();
      s.close(() => resolve(port));
    });
  });
}

export class Gateway {
  // { models: ['name=file,...'], args: [...], env: {...}, dir, script: {...} (serve this script with the scripted worker) }
  static async start(options = {}) {
    const g = new Gateway();
    g.dir = options.dir ?? fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-e2e-'));
    g.data = path.join(g.dir, 'data');
    g.port = options.port ?? (await freePort());
    const args = ['serve', '--listen', `127.0.0.1:${g.port}`, '--data', g.data];
    let models = options.models ?? [`tiny=${demoModel}`];
    if (options.script) {
      const file = path.join(g.dir, 'script.json');
      fs.writeFileSync(file, JSON.stringify(options.script));
      models = [`tiny=${file}` + (options.modelOptions ?? '')];
      args.push('--worker', fakeWorker);
    }
    for (const m of models) args.push('--model', m);
    args.push(...(options.args ?? []));
    g.log = '';
    g.child = spawn(path.join(build, 'millrace'), args, {
      cwd: root,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    g.child.stderr.on('data', (d) => (g.log += d));
    g.exited = new Promise((r) => g.child.on('exit', (code, signal) => r((g.exit = { code, signal }))));
    g.url = `http://127.0.0.1:${g.port}`;
    if (options.wait !== false) {
      await until('gateway ready', async () => {
        if (g.exit) throw new Error(`gateway ended: ${JSON.stringify(g.exit)}\n${g.log}`);
        return (await fetch(`${g.url}/readyz`).catch(() => null))?.status === 200;
      }, 60000).catch((e) => { throw new Error(`${e.message}\n${g.log}`); });
    }
    return g;
  }

  async client(options = {}) {
    const { default: OpenAI } = await import('openai');
    return new OpenAI({ apiKey: 'none', baseURL: `${this.url}/v1`, maxRetries: 0, ...options });
  }

  async metrics() {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const m = {};
    for (const line of text.split('\n')) {
      const hit = /^([a-zA-Z_:][\w:]*)(\{[^}]*\})? ([-+0-9.eInfNa]+)$/.exec(line);
      if (hit) m[hit[1]] = (m[hit[1]] ?? 0) + Number(hit[3]);
    }
    return m;
  }

  // Process ids of the workers: the gateway's children.
  workers() {
    const out = [];
    for (const task of fs.readdirSync(`/proc/${this.child.pid}/task`)) {
      const file = `/proc/${this.child.pid}/task/${task}/children`;
      if (fs.existsSync(file)) out.push(...fs.readFileSync(file, 'utf8').split(' ').filter(Boolean).map(Number));
    }
    return out;
  }

  rows(where = '1') {
    const db = path.join(this.data, 'usage.db');
    const out = execFileSync('sqlite3', ['-json', '-readonly', db, `SELECT * FROM jobs WHERE ${where} ORDER BY created_ms`],
      { encoding: 'utf8' });
    return out.trim() ? JSON.parse(out) : [];
  }

  // Rows are committed off the loop, a few milliseconds after the answer.
  async rowsWhen(n, where = '1') {
    await until(`${n} rows where ${where}`, () => this.rows(where).length >= n);
    return this.rows(where);
  }

  async stop(signal = 'SIGTERM') {
    if (!this.exit) {
      this.child.kill(signal);
      const late = setTimeout(() => this.child.kill('SIGKILL'), 15000);
      await this.exited;
      clearTimeout(late);
    }
    return this.exit;
  }

  async end() {
    await this.stop();
    fs.rmSync(this.dir, { recursive: true, force: true });
    if (/AddressSanitizer|runtime error:|ThreadSanitizer/.test(this.log)) throw new Error(`sanitizer report:\n${this.log}`);
  }
}

// OpenAI's published schemas, where they are at hand: validate(name, body) throws on the first fault.
export function schemaValidator() {
  const file = path.join(process.env.MILLRACE_OPENAI_API ?? path.join(root, '../shared/openai-api'), 'openai-api.schema.json');
  if (!fs.existsSync(file)) return null;
  const require = createRequire(import.meta.url);
  const Ajv = require('ajv/dist/2020.js').default;
  const ajv = new Ajv({ strict: false });
  require('ajv-formats').default(ajv);
  const bundle = JSON.parse(fs.readFileSync(file));
  ajv.addSchema(bundle);
  return (name, body) => {
    const check = ajv.getSchema(`${bundle.$id}#/$defs/${name}`);
    if (!check) throw new Error(`no schema ${name}`);
    if (!check(body)) throw new Error(`${name}: ${ajv.errorsText(check.errors)}\n${JSON.stringify(body)}`);
  };
}

// Raw SSE: the parsed `data:` events, comments, and when each arrived.
export async function sse(url, body, init = {}) {
  const res = await fetch(url, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), ...init,
  });
  const events = [], comments = [], at = [];
  let rest = '';
  const decoder = new TextDecoder('utf-8', { fatal: true }); // throws on a split code point at the end
  for await (const piece of res.body) {
    rest += decoder.decode(piece, { stream: true });
    let i;
    while ((i = rest.indexOf('\n\n')) >= 0) {
      const block = rest.slice(0, i);
      rest = rest.slice(i + 2);
      if (block.startsWith(':')) comments.push(block);
      else if (block.startsWith('data: ')) { events.push(block.slice(6)); at.push(performance.now()); }
      else throw new Error(`not an SSE event: ${JSON.stringify(block)}`);
    }
  }
  return { status: res.status, headers: res.headers, events, comments, at, rest };
}

// One streamed chat through the SDK: text, usage and finish reason.
export async function streamChat(client, request, options) {
  const stream = await client.chat.completions.create(
    { ...request, stream: true, stream_options: { include_usage: true } }, options);
  const out = { text: '', reasoning: '', calls: [], chunks: 0, usage: null, finish: null };
  for await (const chunk of stream) {
    if (chunk.usage) out.usage = chunk.usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    if (choice.delta?.content) { out.text += choice.delta.content; out.chunks++; }
    out.reasoning += choice.delta?.reasoning_content ?? '';
    for (const c of choice.delta?.tool_calls ?? []) {
      const call = (out.calls[c.index] ??= { id: '', type: '', function: { name: '', arguments: '' } });
      call.id += c.id ?? '';
      call.type += c.type ?? '';
      call.function.name += c.function?.name ?? '';
      call.function.arguments += c.function?.arguments ?? '';
    }
    if (choice.finish_reason) out.finish = choice.finish_reason;
  }
  return out;
}

// What the demo model's raw text is for a client: its thoughts, its calls, the rest.
export function partsOf(text) {
  const [, thought, rest] = /^(?:<think>\s*([^]*?)\s*<\/think>\s*)?([^]*)$/.exec(text);
  const calls = [...rest.matchAll(/<tool_call>\n({[^]*?})\n<\/tool_call>/g)].map((m) => JSON.parse(m[1]));
  return { reasoning: thought ?? '', content: rest.replace(/\s*<tool_call>[^]*?<\/tool_call>/g, ''), calls };
}

// The same of a whole answer's message.
export function partsOfMessage(m) {
  return { reasoning: m.reasoning_content ?? '', content: m.content ?? '',
    calls: (m.tool_calls ?? []).map((c) => ({ name: c.function.name, arguments: JSON.parse(c.function.arguments) })) };
}

// A model of random weights: its file's path. args: ['--arch', 'bert', '--params', '...'].
export function synthesize(file, args) {
  execFileSync(path.join(build, 'millrace-worker'), ['synthesize', file, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  return file;
}

export function tokenize(file, text) {
  return JSON.parse(execFileSync(path.join(build, 'millrace-worker'), ['tokenize', file], { input: text, encoding: 'utf8' }));
}

// What `millrace-worker embed` says of a token list: the bytes of float32s.
export function embedBytes(file, tokens, args = []) {
  return execFileSync(path.join(build, 'millrace-worker'), ['embed', file, '--tokens', tokens.join(','), '--normalize', ...args],
    { maxBuffer: 1 << 26 });
}
