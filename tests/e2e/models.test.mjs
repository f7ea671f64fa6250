// Several models in one gateway: all at once, in turns within --max-loaded or --memory-budget, and what is said about them.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Gateway, build, demoModel, fakeWorker, schemaValidator, sleep, sse, streamChat, until } from './support.mjs';

let dir, files, alone; // alone: each model's answers where all are loaded
const names = ['tiny', 'beta', 'gamma'];
const questions = ['What is the capital of France?', 'Tell me a story about a dragon.'];
const ask = (model, i = 0) => ({ model, messages: [{ role: 'user', content: questions[i] }], temperature: 0, max_tokens: 24 });
const flags = (keys = '') => names.map((n) => `${n}=${files[n]},context=256,slots=4,threads=1${keys}`);

before(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-models-'));
  files = { tiny: demoModel };
  for (const [i, [name, arch]] of [['beta', 'llama'], ['gamma', 'qwen2']].entries()) {
    files[name] = path.join(dir, `${name}.gguf`);
    execFileSync(path.join(build, 'millrace-worker'), ['synthesize', files[name], '--arch', arch, '--layers', '2', '--embd', '128',
      '--ff', '256', '--heads', '4', '--kv-heads', '2', '--vocab', '1024', '--context', '512', '--seed', String(i + 2)]);
  }
  await withGateway({ models: flags() }, async (g, openai) => {
    alone = {};
    for (const n of names) alone[n] = [(await streamChat(openai, ask(n))).text, (await streamChat(openai, ask(n, 1))).text];
  });
});
after(() => fs.rmSync(dir, { recursive: true, force: true }));

async function withGateway(options, body) {
  const g = await Gateway.start(options);
  try { await body(g, await g.client()); } finally { await g.end(); }
}

async function models(g) {
  const out = {};
  for (const m of (await (await fetch(`${g.url}/v1/models`)).json()).data) out[m.id] = { ...m.millrace, context: m.context_length };
  return out;
}

// Worker processes that serve (inspections and zombies are none).
const serving = (g) => g.workers().filter((pid) => {
  try { return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')[1] === 'serve'; } catch { return false; }
});

// Looks at the workers all the time until stop(): the most that were ever there at once.
function watch(g) {
  let most = 0, on = true;
  const done = (async () => { while (on) { most = Math.max(most, serving(g).length); await sleep(2); } })();
  return { stop: async () => { on = false; await done; return most; } };
}

test('three models at once: each answers for itself, and the list says what is there', async () => {
  await withGateway({ models: flags() }, async (g, openai) => {
    for (const n of names) assert.equal((await streamChat(openai, ask(n))).text, alone[n][0]);
    assert.equal(new Set(names.map((n) => alone[n][0])).size, 3);
    const list = await (await fetch(`${g.url}/v1/models`)).json();
    assert.deepEqual(list.data.map((m) => m.id), names);
    schemaValidator()?.('ListModelsResponse', list);
    for (const m of Object.values(await models(g))) {
      assert.equal(m.state, 'loaded');
      assert.deepEqual([m.context, m.slots, m.quantization, m.ready, m.loads], [256, 4, 'Q8_0', 1, 1]);
      assert.ok(m.memory_bytes > 100000);
    }
  });
});

test('the same from a configuration file', async () => {
  const file = path.join(dir, 'config.json');
  fs.writeFileSync(file, JSON.stringify({ 'max-loaded': 2, 'idle-unload': '10m', model: names.map((name) => ({ name, file: files[name], context: 256, memory: '64M' })) }));
  await withGateway({ models: [], args: ['--config', file] }, async (g, openai) => {
    assert.deepEqual(Object.values(await models(g)).map((m) => m.state), ['unloaded', 'unloaded', 'unloaded']);
    for (const n of names) assert.equal((await streamChat(openai, ask(n))).text, alone[n][0]);
    assert.deepEqual(Object.values(await models(g)).map((m) => m.state), ['unloaded', 'loaded', 'loaded']);
  });
});

test('--max-loaded 1: interleaved chats give the right texts, and never are there two workers', async () => {
  await withGateway({ models: flags(), args: ['--max-loaded', '1'] }, async (g, openai) => {
    const eyes = watch(g);
    for (let round = 0; round < 2; round++)
      for (const n of names) {
        assert.equal((await streamChat(openai, ask(n, round))).text, alone[n][round], n);
        const whole = await openai.chat.completions.create(ask(n, round));
        assert.equal(whole.choices[0].message.content, alone[n][round], n);
      }
    assert.equal(await eyes.stop(), 1);
    const m = await g.metrics();
    assert.equal(m.millrace_model_loads_total, 6);
    assert.equal(m.millrace_model_unloads_total, 5);
    assert.equal(m.millrace_worker_restarts_total ?? 0, 0);
    const rows = await g.rowsWhen(12);
    assert.ok(rows.every((r) => r.outcome === 'finished'));
    const waited = rows.map((r) => r.queue_us); // every second one met a loaded model
    assert.ok(waited.filter((_, i) => i % 2 === 0).every((us) => us > 1000), `time in queue includes the load: ${waited}`);
  });
});

test('--max-loaded 2: the least recently used model leaves', async () => {
  await withGateway({ models: flags(), args: ['--max-loaded', '2'] }, async (g, openai) => {
    const states = async () => Object.values(await models(g)).map((m) => m.state);
    assert.deepEqual(await states(), ['unloaded', 'unloaded', 'unloaded']);
    for (const n of ['tiny', 'beta', 'tiny', 'gamma']) await streamChat(openai, ask(n)); // beta was not used for longest
    assert.deepEqual(await states(), ['loaded', 'unloaded', 'loaded']);
    await streamChat(openai, ask('beta'));
    assert.deepEqual(await states(), ['unloaded', 'loaded', 'loaded']);
    assert.equal((await fetch(`${g.url}/readyz`)).status, 200); // what is not loaded can be
    const text = await (await fetch(`${g.url}/metrics`)).text();
    assert.match(text, /millrace_model_state\{model_name="tiny",state="unloaded"\} 1/);
    assert.match(text, /millrace_model_state\{model_name="tiny",state="loaded"\} 0/);
  });
});

test('20 requests at once over three models in one place are all answered', async () => {
  await withGateway({ models: flags(), args: ['--max-loaded', '1'] }, async (g, openai) => {
    const eyes = watch(g);
    const all = await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2
      ? streamChat(openai, ask(names[i % 3], i % 2)).then((r) => r.text)
      : openai.chat.completions.create(ask(names[i % 3], i % 2)).then((r) => r.choices[0].message.content))));
    all.forEach((text, i) => assert.equal(text, alone[names[i % 3]][i % 2], `request ${i}`));
    assert.equal(await eyes.stop(), 1);
    assert.ok((await g.metrics()).millrace_model_loads_total <= 6);
  });
});

test('a model that is asked for all the time does not starve the others', async () => {
  await withGateway({ models: flags(), args: ['--max-loaded', '1', '--turn-seconds', '1'] }, async (g, openai) => {
    let over = false, answers = 0;
    const crowd = Array.from({ length: 4 }, async () => {
      while (!over) { assert.equal((await streamChat(openai, ask('tiny'))).text, alone.tiny[0]); answers++; }
    });
    await until('the crowd is served', () => answers > 4);
    const [b, c] = await Promise.all([streamChat(openai, ask('beta')), streamChat(openai, ask('gamma'))]);
    const before_ = answers;
    await until('and served again', () => answers > before_);
    over = true;
    await Promise.all(crowd);
    assert.deepEqual([b.text, c.text], [alone.beta[0], alone.gamma[0]]);
  });
});

test('--memory-budget: what fits stays, the KV cache is cut to a model\'s share', async () => {
  // 256 slots of 256 tokens would be far more than the share.
  const wide = names.map((n) => `${n}=${files[n]},context=256,slots=256,threads=1,memory=24M`);
  await withGateway({ models: wide, args: ['--memory-budget', '50M'] }, async (g, openai) => {
    for (const n of names) assert.equal((await streamChat(openai, ask(n))).text, alone[n][0]);
    const list = Object.values(await models(g));
    assert.deepEqual(list.map((m) => m.state), ['unloaded', 'loaded', 'loaded']);
    for (const m of list) assert.ok(m.memory_bytes > 1 << 20 && m.memory_bytes <= 24 << 20, `${m.memory_bytes}`);
  });
});

test('a budget that is too small for a model is said at the start, and the others are served', async () => {
  const g = await Gateway.start({ models: [`tiny=${files.tiny}`, `beta=${files.beta},context=256,slots=2`], args: ['--memory-budget', '3M'], wait: false });
  try {
    const bad = await until('tiny is failed', async () => {
      const m = (await models(g).catch(() => ({}))).tiny;
      return m?.state === 'failed' && m;
    });
    assert.match(bad.error, /^it needs [0-9.]+ MiB for its weights and one context of 2048 tokens, and may take 3.0/);
    assert.equal((await streamChat(await g.client(), ask('beta'))).text, alone.beta[0]);
  } finally { await g.end(); }
});

test('--idle-unload: a model leaves when it is not used, and comes back', async () => {
  await withGateway({ models: flags(), args: ['--idle-unload', '0.5s'] }, async (g, openai) => {
    await Promise.all(names.map((n) => streamChat(openai, ask(n))));
    assert.equal(serving(g).length, 3);
    await until('all left', async () => Object.values(await models(g)).every((m) => m.state === 'unloaded'));
    assert.equal(serving(g).length, 0);
    assert.equal((await streamChat(openai, ask('gamma'))).text, alone.gamma[0]);
  });
});

test('a stream gets pings while its model loads, a whole answer just waits', async () => {
  const scripts = ['one', 'two'].map((n) => {
    const file = path.join(dir, `${n}.json`);
    fs.writeFileSync(file, JSON.stringify({ pieces: [n, '!'], load_ms: 1500 }));
    return `${n}=${file}`;
  });
  await withGateway({ models: scripts, args: ['--worker', fakeWorker, '--max-loaded', '1', '--ping-interval', '0.3'] }, async (g, openai) => {
    const body = (model) => ({ model, stream: true, messages: [{ role: 'user', content: 'x' }] });
    const first = sse(`${g.url}/v1/chat/completions`, body('one'));
    await until('it loads', async () => (await models(g)).one.state === 'loading');
    assert.equal((await fetch(`${g.url}/readyz`)).status, 200);
    const whole = openai.chat.completions.create({ ...body('two'), stream: false });
    const r = await first;
    assert.equal(r.status, 200);
    assert.ok(r.comments.length >= 3, `${r.comments.length} pings`);
    assert.equal(r.events.at(-1), '[DONE]');
    assert.equal(r.events.slice(0, -1).map((e) => JSON.parse(e).choices[0]?.delta?.content ?? '').join(''), 'one!');
    assert.equal((await whole).choices[0].message.content, 'two!');
    const [row] = await g.rowsWhen(1, "model = 'two'");
    assert.ok(row.queue_us > 1400000, `${row.queue_us}`);
    assert.ok(row.ttft_us >= row.queue_us);
  });
});

test('a broken file beside good ones: its requests are told why, readiness says no, the others are served', async () => {
  const bad = path.join(dir, 'bad.gguf');
  fs.writeFileSync(bad, fs.readFileSync(demoModel).subarray(0, 300000));
  const g = await Gateway.start({ models: [...flags(), `bad=${bad}`], args: ['--max-loaded', '1'], wait: false });
  try {
    const failed = await until('bad is failed', async () => {
      const m = (await models(g).catch(() => ({}))).bad;
      return m?.state === 'failed' && m;
    });
    assert.match(failed.error, /^the model file: /);
    assert.equal((await fetch(`${g.url}/readyz`)).status, 503);
    const res = await fetch(`${g.url}/v1/chat/completions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(ask('bad')) });
    const { error } = await res.json();
    assert.equal(res.status, 503);
    assert.equal(error.code, 'model_not_ready');
    assert.ok(Number(res.headers.get('retry-after')) >= 1);
    assert.match(error.message, /^The model can't be loaded: the model file: .+/);
    assert.ok(!error.message.includes('/') && !error.message.includes('bad.gguf'), error.message);
    const openai = await g.client();
    for (const n of names) assert.equal((await streamChat(openai, ask(n))).text, alone[n][0]);
    assert.ok(g.log.includes(bad), 'the log names the file');
    fs.copyFileSync(files.beta, bad); // mended
    await until('ready', async () => (await fetch(`${g.url}/readyz`)).status === 200);
    assert.equal((await streamChat(openai, ask('bad'))).text, alone.beta[0]);
  } finally { await g.end(); }
});

const cli = (args, env = {}) => {
  const r = spawnSync(path.join(build, 'millrace'), ['models', ...args], { encoding: 'utf8', env: { ...process.env, ...env } });
  return { status: r.status, out: r.stdout, err: r.stderr };
};

test('millrace models lists the configuration, and a running server', async () => {
  const words = flags().flatMap((f) => ['--model', f]);
  const table = cli(words);
  assert.equal(table.status, 0, table.err);
  assert.match(table.out, /^model +state +context +slots +quant +memory +workers +file\ntiny +usable +256 +4 +Q8_0 +/);
  const rows = JSON.parse(cli([...words, '--model', `no=${path.join(build, 'millrace')}`, '--format', 'json']).out);
  assert.deepEqual(rows.map((r) => [r.name, r.state]), [['tiny', 'usable'], ['beta', 'usable'], ['gamma', 'usable'], ['no', 'unusable']]);
  assert.match(rows[3].error, /not a GGUF file/);
  await withGateway({ models: flags(), args: ['--max-loaded', '1'] }, async (g, openai) => {
    await streamChat(openai, ask('beta'));
    const live = JSON.parse(cli(['--url', `${g.url}/v1/`, '--format=json']).out);
    assert.deepEqual(live.map((r) => [r.name, r.state, r.context, r.slots, r.quantization, r.workers, r.ready]),
      [['tiny', 'unloaded', 256, 4, 'Q8_0', 1, 0], ['beta', 'loaded', 256, 4, 'Q8_0', 1, 1], ['gamma', 'unloaded', 256, 4, 'Q8_0', 1, 0]]);
    assert.ok(live.every((r) => r.memory_bytes === rows.find((c) => c.name === r.name).memory_bytes), 'the estimate is what it took');
    const shown = cli(['--url', g.url]);
    assert.match(shown.out, /^model +state +context +slots +quant +memory +workers +running +queued\n(.*\n){3}$/);
    assert.match(shown.out, /\nbeta +loaded +256 +4 +Q8_0 +[0-9.]+ MB +1\/1 +0 +0\n/);
  });
});

test('millrace models: exit codes, one line of error, the key from the environment', async () => {
  for (const [args, status, part] of [[['--url', 'http://127.0.0.1:9'], 1, '127.0.0.1'], [['--url', 'http://192.0.2.1:8080'], 2, '--insecure-http'],
    [['--format', 'xml'], 2, '--format'], [['--nope'], 2, '--nope'], [['--url'], 2, '--url'], [['--model', 'x=/nowhere.gguf'], 2, '/nowhere.gguf'],
    [['--local', '--url', 'http://127.0.0.1:9'], 2, '--local']]) {
    const r = cli(args);
    assert.equal(r.status, status, `${args}: ${r.err}`);
    assert.ok(r.err.startsWith('millrace models: ') && r.err.split('\n').length === 2 && r.err.includes(part), r.err);
    assert.equal(r.out, '');
  }
  const http = await import('node:http');
  const server = http.createServer((req, res) => {
    const good = req.headers.authorization === 'Bearer sk-test';
    res.writeHead(good ? 200 : 401, { 'content-type': 'application/json' });
    res.end(good ? '{"data":[{"id":"x\\u001b[31m"}]}' : '{"error":{"message":"no key"}}');
  });
  await new Promise((r) => server.listen(0, '127.0.0.1', r));
  const url = `http://127.0.0.1:${server.address().port}`;
  const run = (env) => new Promise((resolve) => {
    import('node:child_process').then(({ execFile }) => execFile(path.join(build, 'millrace'), ['models', '--url', url],
      { env: { ...process.env, ...env } }, (e, out, err) => resolve({ status: e?.code ?? 0, out, err })));
  });
  const refused = await run({});
  assert.equal(refused.status, 1);
  assert.match(refused.err, /MILLRACE_API_KEY/);
  const taken = await run({ MILLRACE_API_KEY: 'sk-test' });
  assert.equal(taken.status, 0);
  assert.match(taken.out, /\nx\?\[31m +- /); // no escape sequence reaches the terminal
  server.close();
});
