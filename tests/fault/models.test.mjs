// Models in turns, when something breaks: a worker killed while it loads or while others wait, a file that goes bad, an end in the middle.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Gateway, demoModel, fakeWorker, sleep, streamChat, until } from '../e2e/support.mjs';

const ask = (model, more = {}) => ({ model, messages: [{ role: 'user', content: 'Tell me a long story about a dragon.' }], temperature: 0, max_tokens: 60, ...more });

async function states(g) {
  const list = await fetch(`${g.url}/v1/models`).then((r) => r.json()).catch(() => ({ data: [] }));
  return Object.fromEntries(list.data.map((m) => [m.id, m.millrace.state]));
}

// scripts: { name: script }; args: further options of the gateway.
async function withScripts(scripts, args, body) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-turns-'));
  const files = {};
  for (const [name, script] of Object.entries(scripts)) fs.writeFileSync(files[name] = path.join(dir, `${name}.json`), JSON.stringify(script));
  const g = await Gateway.start({ models: Object.entries(files).map(([n, f]) => `${n}=${f},slots=2`), args: ['--worker', fakeWorker, ...args] });
  try { await body(g, await g.client(), files); } finally { await g.end(); fs.rmSync(dir, { recursive: true, force: true }); }
}

const pieces = (word, n) => Array.from({ length: n }, (_, i) => `${word}${i} `);
const text = (word, n) => pieces(word, n).join('');

test('kill -9 of a loading worker: it is started again, the waiting requests are answered, one row each', async () => {
  await withScripts({ a: { pieces: pieces('a', 5), load_ms: 700 }, b: { pieces: pieces('b', 5), load_ms: 100 } }, ['--max-loaded', '1'], async (g, openai) => {
    const all = [streamChat(openai, ask('a')), streamChat(openai, ask('a')), streamChat(openai, ask('b'))];
    await until('a loads', async () => (await states(g)).a === 'loading' && g.workers().length === 1);
    await sleep(100);
    for (const pid of g.workers()) process.kill(pid, 'SIGKILL');
    assert.deepEqual((await Promise.all(all)).map((r) => r.text), [text('a', 5), text('a', 5), text('b', 5)]);
    const rows = await g.rowsWhen(3);
    assert.equal(rows.length, 3);
    assert.ok(rows.every((r) => r.outcome === 'finished' && r.failovers === 0));
    const m = await g.metrics();
    assert.equal(m.millrace_model_load_failures_total, 1);
    assert.equal(m.millrace_worker_restarts_total, 1);
  });
});

test('kill -9 of a worker while another model waits for its place: its stream goes on to the end, then the other is served', async () => {
  await withScripts({ a: { pieces: pieces('a', 40), token_us: 20000, load_ms: 50 }, b: { pieces: pieces('b', 5) } }, ['--max-loaded', '1', '--turn-seconds', '0.1'],
    async (g, openai) => {
      const a = streamChat(openai, ask('a'));
      await until('a runs', async () => (await g.metrics())['vllm:num_requests_running'] === 1);
      const b = streamChat(openai, ask('b'));
      await sleep(250); // a is to leave as soon as it can
      for (const pid of g.workers()) process.kill(pid, 'SIGKILL');
      assert.equal((await a).text, text('a', 40));
      assert.equal((await b).text, text('b', 5));
      const [row] = await g.rowsWhen(1, "model = 'a'");
      assert.deepEqual([row.outcome, row.failovers, row.completion_tokens, row.delivered_tokens], ['finished', 1, 40, 40]);
    });
});

test('kill -9 of a worker that was asked to leave disturbs nobody', async () => {
  await withScripts({ a: { pieces: pieces('a', 3), ignore_drain: true }, b: { pieces: pieces('b', 3) } }, ['--max-loaded', '1'], async (g, openai) => {
    assert.equal((await streamChat(openai, ask('a'))).text, text('a', 3));
    const b = streamChat(openai, ask('b'));
    await sleep(200);
    assert.equal((await states(g)).a, 'loaded'); // it holds its place until it is gone
    for (const pid of g.workers()) process.kill(pid, 'SIGKILL');
    assert.equal((await b).text, text('b', 3));
    assert.equal((await states(g)).a, 'unloaded');
  });
});

test('a file that goes bad while its model is out: a clear 503 for its requests, backoff, others served, mended without a restart', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-turns-'));
  const file = path.join(dir, 'a.gguf');
  fs.copyFileSync(demoModel, file);
  const g = await Gateway.start({ models: [`a=${file},context=256,slots=2`, `b=${demoModel},context=256,slots=2`], args: ['--max-loaded', '1'] });
  try {
    const openai = await g.client();
    const calm = (await streamChat(openai, ask('a'))).text;
    await streamChat(openai, ask('b')); // a leaves
    fs.writeFileSync(file, 'no model any more');
    for (let i = 0; i < 3; i++) {
      const e = await openai.chat.completions.create(ask('a')).then(() => null, (x) => x);
      assert.equal(e?.status, 503, String(e));
      assert.match(e.message, /The model can't be loaded: the model file: /);
      assert.ok(!e.message.includes(dir));
    }
    assert.equal((await states(g)).a, 'failed');
    assert.equal((await streamChat(openai, ask('b'))).text, calm); // the same file, before it went bad
    fs.copyFileSync(demoModel, file);
    await until('found fit again', async () => (await states(g)).a === 'unloaded');
    assert.equal((await streamChat(openai, ask('a'))).text, calm);
    const rows = await g.rowsWhen(5);
    assert.ok(rows.filter((r) => r.outcome === 'failed').every((r) => r.cause === 'model_unavailable'));
  } finally { await g.end(); fs.rmSync(dir, { recursive: true, force: true }); }
});

test('a stream that got pings while its model loaded is told in the stream when that fails', async () => {
  await withScripts({ a: { pieces: ['a'], load_ms: 800, refuse: 'tensor q is missing' }, b: { pieces: ['b'] } }, ['--max-loaded', '1', '--ping-interval', '0.2'], async (g) => {
    const res = await fetch(`${g.url}/v1/chat/completions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(ask('a', { stream: true })) });
    const body = await res.text();
    assert.equal(res.status, 200);
    assert.ok(body.startsWith(': ping'), body);
    assert.match(body, /data: \{"error":\{"message":"The model can't be loaded: tensor q is missing"/);
    assert.ok(!body.includes('[DONE]'));
  });
});

test('clients that leave while their model loads are never computed, and a client that waits in vain gets 504', async () => {
  await withScripts({ a: { pieces: pieces('a', 30), token_us: 100000 }, b: { pieces: ['b'], load_ms: 500 } }, ['--max-loaded', '1', '--queue-seconds', '1'], async (g, openai) => {
    const a = streamChat(openai, ask('a'));
    await until('a runs', async () => (await g.metrics())['vllm:num_requests_running'] === 1);
    const stop = new AbortController();
    const gone = streamChat(openai, ask('b', { user: 'gone' }), { signal: stop.signal }).catch(() => 'gone');
    const late = openai.chat.completions.create(ask('b')).then(() => null, (x) => x);
    await sleep(300);
    stop.abort();
    await gone;
    assert.equal((await late)?.status, 504);
    assert.equal((await a).text, text('a', 30));
    const rows = await g.rowsWhen(2, "model = 'b'");
    assert.ok(rows.every((r) => r.completion_tokens === 0 && r.prompt_tokens === 0));
    assert.deepEqual(rows.map((r) => [r.outcome, r.cause]).sort(), [['cancelled', 'client_gone'], ['failed', 'queue_timeout']]);
    assert.equal((await streamChat(openai, ask('b'))).text, 'b');
  });
});

test('SIGTERM and SIGKILL while a model loads: no worker stays, every admitted job has its row', async () => {
  for (const signal of ['SIGTERM', 'SIGKILL']) {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-turns-'));
    const file = path.join(dir, 'a.json');
    fs.writeFileSync(file, JSON.stringify({ pieces: ['a'], load_ms: 3000 }));
    const start = () => Gateway.start({ dir, models: [`a=${file}`], args: ['--worker', fakeWorker, '--max-loaded', '1'] });
    const g = await start();
    const openai = await g.client();
    const cut = [1, 2, 3].map(() => streamChat(openai, ask('a')).catch((e) => e));
    await until('it loads', async () => (await states(g)).a === 'loading' && g.workers().length === 1);
    const pids = g.workers();
    await g.stop(signal);
    await Promise.all(cut);
    if (signal === 'SIGTERM') assert.equal(g.exit.code, 0);
    await until('worker gone', () => pids.every((pid) => { try { process.kill(pid, 0); return false; } catch { return true; } }), 5000);
    const again = await start();
    assert.equal((await again.rowsWhen(3)).length, 3);
    await again.end();
  }
});
