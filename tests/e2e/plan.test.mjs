// `millrace plan`: its memory figures against workers that really run, and what it says on the command line.
import { test, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Gateway, build, demoModel, root, synthesize } from './support.mjs';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-plan-'));
after(() => fs.rmSync(dir, { recursive: true, force: true }));

const bin = path.join(build, 'millrace');
const run = (args, env = {}) => spawnSync(bin, ['plan', ...args], { encoding: 'utf8', env: { ...process.env, MILLRACE_MODELS: dir, ...env } });
const plan = (args) => JSON.parse(execFileSync(bin, ['plan', ...args, '--json'], { encoding: 'utf8' }));

// --- memory -----------------------------------------------------------------------------------------------

const kinds = [
  { what: 'llama in Q8_0, KV in F32', args: ['--arch', 'llama', '--params', 'layers=8,embd=1024,ff=4096,heads=16,kv-heads=4,vocab=8000,context=1024', '--quant', 'Q8_0'], kv: 'f32', slots: 2, context: 768 },
  { what: 'eight experts in Q4_0, KV in Q8_0', args: ['--arch', 'llama', '--params', 'layers=6,embd=768,ff=1536,heads=12,kv-heads=4,vocab=8000,context=1024,experts=8,experts-used=2', '--quant', 'Q4_0'], kv: 'q8_0', slots: 4, context: 512 },
  { what: 'windows in gemma2, Q4_K_M', args: ['--arch', 'gemma2', '--params', 'layers=8,embd=768,ff=3072,heads=8,kv-heads=4,head-dim=96,vocab=64000,context=2048,window=256', '--quant', 'Q4_K_M'], kv: 'f16', slots: 2, context: 1024 },
  { what: 'a vocabulary of 152,000, tied', args: ['--arch', 'qwen2', '--tie', '--params', 'layers=4,embd=896,ff=4864,heads=14,kv-heads=2,vocab=151936,context=1024', '--quant', 'Q8_0'], kv: 'f16', slots: 2, context: 640 },
  { what: 'latent attention, sixteen experts', args: ['--arch', 'deepseek2', '--params', 'layers=6,embd=768,ff=2048,heads=8,kv-heads=8,head-dim=96,value-dim=64,rot=32,q-lora=256,kv-lora=256,experts=16,experts-used=4,expert-ff=512,shared-experts=1,dense-layers=1,vocab=8000,context=1024', '--quant', 'Q8_0'], kv: 'f16', slots: 2, context: 640 },
  { what: 'an encoder in F16', embeds: true, args: ['--arch', 'bert', '--params', 'layers=8,embd=768,ff=3072,heads=12,vocab=20000,context=512', '--quant', 'F16'], kv: 'f16', slots: 2, context: 512 },
];

// Resident bytes of a process, page by page.
const resident = (pid) => 1024 * Number(/^Rss:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]);

// A prompt of that many tokens, which walks through the vocabulary.
const prompt = (n, vocab, seed) => Array.from({ length: n }, (_, i) => (i * 7919 + i * i * 31 + seed * 104729) % (vocab - 10));

async function fill(g, { embeds, slots, context, args }) {
  const vocab = Number(/vocab=(\d+)/.exec(args.join(' '))[1]);
  const post = (url, body) => fetch(`${g.url}${url}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ model: 'm', ...body }) });
  const each = Array.from({ length: slots }, (_, s) => prompt(context - 24, vocab, s));
  const answers = await Promise.all(embeds ? [post('/v1/embeddings', { input: each })]
    : each.map((p, seed) => post('/v1/completions', { prompt: p, max_tokens: 8, temperature: 0.8, seed })));
  for (const a of answers) assert.equal(a.status, 200, await a.text());
}

const instrumented = build !== path.join(root, 'build') && 'an instrumented program has other memory';
for (const k of kinds) {
  test(`the memory that is planned is the memory that a worker has, within 5 %: ${k.what}`, { skip: instrumented }, async (t) => {
    const file = synthesize(path.join(dir, 'm.gguf'), k.args);
    const { memory } = plan([file, '--cpu', '--bandwidth', '20', '--context', String(k.context), '--slots', String(k.slots), '--kv-type', k.kv]);
    const g = await Gateway.start({ models: [`m=${file},context=${k.context},slots=${k.slots},kv-type=${k.kv}`] });
    try {
      await fill(g, k);
      const [pid] = g.workers(), measured = resident(pid), off = memory.total / measured - 1;
      t.diagnostic(`planned ${(memory.total / 1e6).toFixed(1)} MB, measured ${(measured / 1e6).toFixed(1)} MB: ${(100 * off).toFixed(1)} %`);
      assert.ok(Math.abs(off) <= 0.05, `planned ${memory.total}, measured ${measured}: ${JSON.stringify(memory)}`);
    } finally { await g.end(); fs.rmSync(file); }
  });
}

// --- the command line -------------------------------------------------------------------------------------

test('a file, a name and a size are planned; a distilled model is called one', () => {
  const tiny = plan([demoModel, '--cpu', '--bandwidth', '10', '--memory', '1G']);
  assert.equal(tiny.quantization, 'Q8_0');
  assert.ok(tiny.fits && tiny.speed[0].tokens_per_second_estimate > 0);
  const r1 = plan(['deepseek-r1:7b', '--gpu', 'H100-80GB', '--count', '8']);
  assert.ok(r1.distilled && r1.gpus_needed === 1);
  const text = run(['deepseek-r1:7b', '--gpu', 'H100-80GB', '--count', '8']).stdout;
  assert.match(text, /a distill: Qwen2\.5-Math-7B/);
  assert.match(text, /it is not R1/);
  assert.match(text, /estimate: [\d.]+ tokens\/s for one request/);
  assert.match(text, /nothing was run on a GPU/);
  assert.match(run(['70B', '--cpu', '--memory', '64G', '--bandwidth', '50']).stdout, /nearest to it, Llama 3\.1 70B/);
});

test('the rule of thumb stands beside what is computed', () => {
  const text = run(['--rule-of-thumb']).stdout;
  assert.match(text, /^671B +1\.3-1\.6 TB +32 \(H100-80GB\) /m);
  const rows = plan(['--rule-of-thumb']);
  assert.equal(rows.length, 7);
  for (const r of rows) assert.ok(r.computed.F16.bytes > r.computed.Q8_0.bytes && r.computed.Q8_0.bytes > r.computed.Q4_K_M.bytes);
});

test('what can not be planned is told in one line', () => {
  for (const [args, says] of [
    [['0B'], /'0B': no model of about that size/],
    [['1e9B'], /'1e9B': no model of about that size/],
    [['7B', '--quant', 'Q4_KM'], /no quantization 'Q4_KM'; .*Q4_K_M/],
    [['7B', '--gpu', 'H110-80GB'], /no GPU 'H110-80GB'.*near names: H100-80GB/],
    [['7B', '--gpu', 'A100'], /several GPUs 'A100'.*A100-80GB A100-40GB/],
    [['7B', '--gpu', 'H100-80GB', '--count', '0'], /--count '0'/],
    [['7B', '--count', '2'], /--count needs --gpu/],
    [['deepsek-r1:7b'], /near names: deepseek-r1:7b/],
    [['nowhere.gguf'], /nowhere\.gguf: can't be opened/],
    [['7B', '--gpu', 'L4', '--context', '999999'], /longer than the 131072 tokens/],
    [['7B', '--slots'], /'--slots'/],
    [[demoModel, '--quant', 'F16'], /the file has its own/],
    [['7B', '--memory', '5 apples'], /a size such as 24G/],
    [[], /MODEL is missing/],
  ]) {
    const r = run(args);
    assert.ok(r.status === 1 || r.status === 2, `${args}: ${r.status}`);
    assert.equal(r.stdout, '');
    assert.match(r.stderr, says);
    assert.match(r.stderr, /^millrace plan: [^\n]+\n$/);
  }
});

// A program of that name in PATH that says what the driver would.
function smi(script) {
  const at = fs.mkdtempSync(path.join(dir, 'bin-'));
  fs.writeFileSync(path.join(at, 'nvidia-smi'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return { PATH: `${at}:${process.env.PATH}` };
}

test('GPUs that nvidia-smi finds are planned for; one that fails is an error, not a processor', () => {
  const found = run(['70B', '--json'], smi('printf "NVIDIA H100 80GB HBM3, 81559\\nNVIDIA H100 80GB HBM3, 81559\\nNVIDIA T4, 15360\\n"'));
  const { machine } = JSON.parse(found.stdout);
  assert.deepEqual(machine, { device: 'gpu', gpu: 'NVIDIA H100 80GB HBM3', gpus: 2, gpu_bytes: 81559 * 2 ** 20, detected: true, bandwidth_gb_s: 3350 });
  assert.match(run(['7B'], smi('echo "NVIDIA Something New, 30000"')).stdout, /no estimate: the memory's bandwidth is not known/);
  const broken = run(['7B'], smi('exit 9'));
  assert.equal(broken.status, 1);
  assert.match(broken.stderr, /nvidia-smi failed \(status 9\)/);
});
