// gateway.mjs - what the gateway itself costs: a scripted worker answers at once, nginx serves a static reply of the same size
// beside it, both on one core, wrk on the other, in turns. Prints Markdown tables.
import { spawn, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Gateway, sleep, until, streamChat, synthesize, demoModel } from '../e2e/support.mjs';

const SECONDS = Number(process.env.BENCH_SECONDS ?? 3);
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-bench-'));
fs.chmodSync(dir, 0o755); // nginx's worker may be another user
const median = (a) => [...a].sort((x, y) => x - y)[a.length >> 1];
const have = (cmd) => { try { execFileSync('sh', ['-c', `command -v ${cmd}`]); return true; } catch { return false; } };
const pin = (pid, core) => execFileSync('taskset', ['-a', '-p', '-c', String(core), String(pid)], { stdio: 'ignore' });

function wrk(url, connections, lua) {
  const args = ['-c', '1', 'wrk', '-t1', `-c${connections}`, `-d${SECONDS}s`, '--latency', '-s', lua, url];
  const out = execFileSync('taskset', args, { encoding: 'utf8' });
  const us = (label) => {
    const m = new RegExp(`${label}\\s+([\\d.]+)(us|ms|s)`).exec(out);
    return m ? Number(m[1]) * { us: 1, ms: 1e3, s: 1e6 }[m[2]] : NaN;
  };
  const bad = /Non-2xx or 3xx responses: (\d+)/.exec(out);
  const [, all, seconds] = /(\d+) requests in ([\d.]+)s/.exec(out);
  const refused = bad ? Number(bad[1]) : 0; // not counted as served
  return { rps: (Number(all) - refused) / Number(seconds), p50: us('50%'), p99: us('99%'), bad: refused };
}

async function startNginx(body, port) {
  const conf = path.join(dir, 'nginx.conf');
  fs.mkdirSync(path.join(dir, 'www'), { recursive: true });
  fs.writeFileSync(path.join(dir, 'www/reply.json'), body);
  fs.writeFileSync(conf, `worker_processes 1; daemon off; pid ${dir}/nginx.pid; error_log ${dir}/error.log;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 100000000; client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f;
  uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  server { listen 127.0.0.1:${port}; root ${dir}/www; default_type application/json; error_page 405 =200 /reply.json;
    location / { try_files /reply.json =404; } } }`);
  const child = spawn('nginx', ['-c', conf, '-e', `${dir}/error.log`], { stdio: 'ignore' });
  await until('nginx', () => fetch(`http://127.0.0.1:${port}/`).then((r) => r.ok).catch(() => false));
  execFileSync('sh', ['-c', `for p in $(pgrep -P ${child.pid}) ${child.pid}; do taskset -a -p -c 0 $p >/dev/null; done`]);
  return child;
}

async function throughput() {
  if (!have('wrk') || !have('nginx')) { console.log('requests/s: skipped, wrk or nginx is not installed\n'); return; }
  const g = await Gateway.start({ script: { pieces: ['Hello', ' there', '!'] }, args: ['--log-level', 'warn'] });
  for (const pid of g.workers()) pin(pid, 1);
  pin(g.child.pid, 0);
  const request = JSON.stringify({ model: 'tiny', messages: [{ role: 'user', content: 'Hello!' }], max_tokens: 16 });
  const post = path.join(dir, 'post.lua'), get = path.join(dir, 'get.lua');
  fs.writeFileSync(post, `wrk.method="POST"\nwrk.headers["Content-Type"]="application/json"\nwrk.body=[[${request}]]\n`);
  fs.writeFileSync(get, 'wrk.method="GET"\n');
  const reply = await (await fetch(`${g.url}/v1/chat/completions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: request })).text();
  const nginx = await startNginx(reply, g.port + 1);
  const rows = [];
  for (const c of [1, 32, 256]) {
    const a = [], b = [];
    for (let i = 0; i < ROUNDS; i++) {
      a.push(wrk(`${g.url}/v1/chat/completions`, c, post));
      b.push(wrk(`http://127.0.0.1:${g.port + 1}/`, c, get));
    }
    const m = (list, k) => median(list.map((x) => x[k]));
    rows.push([c, m(a, 'rps').toFixed(0), m(b, 'rps').toFixed(0), median(a.map((x, i) => x.rps / b[i].rps)).toFixed(2),
      m(a, 'p50').toFixed(0), m(a, 'p99').toFixed(0), m(b, 'p99').toFixed(0), a.reduce((s, x) => s + x.bad, 0)]);
  }
  console.log(`Chat completions of a scripted worker (accounting on) beside nginx serving the same ${reply.length} bytes; one core each:\n`);
  console.log('| connections | Millrace req/s | nginx req/s | ratio | p50 µs | p99 µs | nginx p99 µs | refused (429) |\n|---|---|---|---|---|---|---|---|');
  for (const r of rows) console.log(`| ${r.join(' | ')} |`);
  await until('rows written', async () => (await g.metrics()).millrace_usage_rows_pending === 0, 60000);
  console.log(`\nUsage rows written meanwhile: ${(await g.metrics()).millrace_usage_rows_total}.\n`);
  nginx.kill();
  await g.end();
}

const rssMb = (pid) => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;

async function idleStreams() {
  const n = Number(process.env.BENCH_IDLE ?? 1000);
  const g = await Gateway.start({ script: { pieces: ['x'], slots: 0 }, modelOptions: ',slots=2000,queue=20000', args: ['--ping-interval', '1', '--log-level', 'warn'] });
  const before = rssMb(g.child.pid);
  const body = JSON.stringify({ model: 'tiny', messages: [{ role: 'user', content: 'Hello!' }], stream: true });
  const bytes = `POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:${g.port}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  let pinged = 0;
  const sockets = Array.from({ length: n }, () => {
    const s = net.connect(g.port, '127.0.0.1', () => s.write(bytes));
    let seen = false;
    s.on('data', (d) => { if (!seen && d.includes(': ')) { seen = true; pinged++; } });
    s.on('error', () => {});
    return s;
  });
  await until('all streams got a ping', () => pinged === n, 60000);
  console.log(`Resident memory of the gateway: ${before.toFixed(1)} MB at rest, ${rssMb(g.child.pid).toFixed(1)} MB with ${n} idle SSE streams.\n`);
  for (const s of sockets) s.destroy();
  await g.end();
}

const running = 'vllm:num_requests_running';

// A client leaves in one phase of its request; how long until the slot (or the place in the queue) is free.
async function leave(g, request, gone, times, others = 0) {
  const took = [];
  for (let i = 0; i < times; i++) {
    const stop = new AbortController();
    const done = fetch(`${g.url}/v1/completions`, { method: 'POST', signal: stop.signal, headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...request, stream: true }) }).then(async (r) => { for await (const _ of r.body); }).catch(() => 'left');
    await gone(done);
    const t0 = performance.now();
    stop.abort();
    while ((await g.metrics())[running] > others) await sleep(4);
    took.push(performance.now() - t0);
    await done;
  }
  return [took.length, median(took).toFixed(1), Math.max(...took).toFixed(1)];
}

async function cancelBound() {
  const rows = [];
  const file = synthesize(path.join(dir, 'prefill.gguf'), ['--arch', 'llama', '--quant', 'Q4_0', '--params',
    'layers=12,embd=1024,ff=4096,heads=8,vocab=1000,context=8192']);
  const g = await Gateway.start({ models: [`tiny=${demoModel},slots=1`, `slow=${file},context=8192,slots=1`], args: ['--log-level', 'warn'] });
  const story = { model: 'tiny', prompt: 'Once upon a time', ignore_eos: true, max_tokens: 1800 };
  const long = (i) => Array.from({ length: 6000 }, (_, k) => 10 + (k * 7 + i) % 900);
  const itRuns = async () => { while (!(await g.metrics())[running]) await sleep(4); await sleep(100 + Math.random() * 300); };
  let salt = 0;
  const prefill = { model: 'slow', max_tokens: 1, get prompt() { return long(++salt); } };
  const holder = new AbortController();
  rows.push(['decode', ...await leave(g, story, itRuns, 20)]);
  rows.push(['prefill of 6,000 tokens', ...await leave(g, prefill, itRuns, 10)]);
  const held = fetch(`${g.url}/v1/completions`, { method: 'POST', signal: holder.signal, headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...prefill, prompt: long(++salt), max_tokens: 2000, ignore_eos: true, stream: true }) }).catch(() => 'left');
  while (!(await g.metrics())[running]) await sleep(1);
  rows.push(['waiting for a slot', ...await leave(g, { model: 'slow', prompt: [11, 12], max_tokens: 1 }, () => sleep(100), 10, 1)]);
  holder.abort();
  await held;
  console.log('A client leaves; until its slot, or its place in the queue, is free (as /metrics tells):\n');
  console.log('| phase | times | median ms | worst ms |\n|---|---|---|---|');
  for (const r of rows) console.log(`| ${r.join(' | ')} |`);
  console.log('');
  await g.end();
}

async function streamCost() {
  const g = await Gateway.start({ script: { pieces: Array.from({ length: 200 }, (_, i) => `w${i} `), token_us: 2000 }, args: ['--log-level', 'warn'] });
  const openai = await g.client();
  const ticks = () => fs.readFileSync(`/proc/${g.child.pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).reduce((a, x) => a + Number(x), 0);
  const t0 = ticks();
  const all = await Promise.all(Array.from({ length: 32 }, () => streamChat(openai, { model: 'tiny', messages: [{ role: 'user', content: 'Hello!' }] })));
  const tokens = all.reduce((a, r) => a + r.usage.completion_tokens, 0);
  console.log(`CPU per streamed token at 32 streams: ${((ticks() - t0) * 10000 / tokens).toFixed(1)} µs (${tokens} tokens).\n`);
  await g.end();
}

// Tokens per second of all streams together, from the client's side.
async function aggregate() {
  const file = synthesize(path.join(dir, 'aggregate.gguf'), ['--arch', 'llama', '--quant', 'Q4_K', '--params',
    'layers=16,embd=1024,ff=4096,heads=16,kv_heads=4,vocab=32000,context=2048']);
  const g = await Gateway.start({ models: [`wide=${file},slots=32,context=2048`], args: ['--log-level', 'warn'] });
  const tokens = 48;
  const one = (i) => fetch(`${g.url}/v1/completions`, { method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'wide', prompt: Array.from({ length: 32 }, (_, k) => 10 + (k * 7 + i * 13) % 900), stream: true,
      ignore_eos: true, max_tokens: tokens, seed: i, temperature: 1 }) }).then(async (r) => { for await (const _ of r.body); });
  console.log('Aggregate tokens per second, one worker, 2 threads, a 0.3B Q4_K model, 32-token prompts included:\n');
  console.log('| streams | tokens/s | of one stream |\n|---|---|---|');
  await one(99);
  let first;
  for (const n of [1, 8, 32]) {
    const rates = [];
    for (let round = 0; round < ROUNDS; round++) {
      const t0 = performance.now();
      await Promise.all(Array.from({ length: n }, (_, i) => one(round * 100 + i)));
      rates.push(n * tokens * 1000 / (performance.now() - t0));
    }
    const rate = median(rates);
    first ??= rate;
    console.log(`| ${n} | ${rate.toFixed(0)} | ${(rate / first).toFixed(1)} |`);
  }
  console.log('');
  await g.end();
}

console.log(`## The gateway alone\n`);
const parts = { throughput, idleStreams, cancelBound, streamCost, aggregate };
for (const [name, part] of Object.entries(parts)) if (!process.env.BENCH_PARTS || process.env.BENCH_PARTS.split(",").includes(name)) await part();
fs.rmSync(dir, { recursive: true, force: true });
