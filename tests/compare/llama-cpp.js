// llama-cpp.js - compares our logits with those of a llama.cpp library, family by family.
//
//   node tests/compare/llama-cpp.js PATH/libllama.so [--freeze] [CASE ...]
//
// Each case is a random-weight model that `millrace-worker synthesize` writes (the same seed gives the same
// file everywhere), read by both, over the same tokens; the logits of every position are compared. The KV
// cache is float32 on both sides, flash attention off. What is compared and how near it must be:
//   F32 weights     largest difference over the deviation of the logits <= 1e-3; 1e-2 where llama.cpp looks
//                   the GELU up in a table of halves
//   quantized       smallest cosine of a row >= 0.998: both round activations to 8 bits, each in its way
//                   (all experts are used then: where the rounding decides which one is, nothing is compared)
// --freeze: what the library gave for the families that the reference set lacks goes to
// tests/data/synthetic/logits.json, which test_frozen.c compares with at every `make test`.
// Where a released library comes from and what was measured: docs/MODELS.md.
'use strict';
const { execFileSync, spawnSync } = require('child_process');
const fs = require('fs'), os = require('os'), path = require('path');

const S = 'layers=4,embd=64,ff=96,heads=4,kv-heads=2,vocab=320,context=512';
const MOE = S + ',experts=8,experts-used=3,expert-ff=64';
const Q = 'layers=4,embd=256,ff=512,heads=8,kv-heads=2,vocab=320,context=512';
const MLA = 'layers=3,embd=64,ff=96,heads=4,vocab=320,context=512,kv-lora=32,rot=16,head-dim=48,value-dim=32,' +
  'experts=8,experts-used=3,expert-ff=64,dense-layers=1,shared-experts=2';
const near = 1e-3, gelu = 1e-2;
// name, architecture, quantization, parameters, tolerance (a fraction: of the deviation; above 0.9: a cosine), tokens
const cases = [
  ['llama', 'llama', 'F32', S, near],
  ['llama-yarn', 'llama', 'F32', S + ',rope-factor=4,rope-context=128', near],
  ['llama-moe', 'llama', 'F32', S + ',experts=8,experts-used=2', near],
  ['qwen2', 'qwen2', 'F32', S, near],
  ['qwen2moe', 'qwen2moe', 'F32', MOE + ',shared-ff=96', near],
  ['qwen3', 'qwen3', 'F32', S + ',head-dim=32', near],
  ['qwen3moe', 'qwen3moe', 'F32', MOE + ',head-dim=32', near],
  ['gemma', 'gemma', 'F32', S, gelu],
  ['gemma2', 'gemma2', 'F32', S + ',window=24,attn-softcap=50,logit-softcap=30', gelu],
  ['gemma3', 'gemma3', 'F32', S.replace('layers=4', 'layers=7') + ',window=24,rope-base=1000000', gelu],
  ['phi2', 'phi2', 'F32', S.replace('kv-heads=2', 'kv-heads=4') + ',rot=8', gelu],
  ['phi3', 'phi3', 'F32', S, near],
  ['starcoder2', 'starcoder2', 'F32', S, gelu],
  ['command-r', 'command-r', 'F32', S, near],
  ['cohere2', 'cohere2', 'F32', S + ',window=24,logit-scale=0.25', near],
  ['deepseek2', 'deepseek2', 'F32', MLA + ',q-lora=32', near],
  ['gpt-oss', 'gpt-oss', 'F32', MOE + ',head-dim=32,window=24', near],
  ['gpt-oss-yarn', 'gpt-oss', 'F32', MOE + ',head-dim=32,window=128,rope-base=150000,rope-factor=32,rope-context=64', near],
  ['gpt-oss-mxfp4', 'gpt-oss', 'MXFP4_MOE', Q + ',experts=4,experts-used=4,expert-ff=256,window=128', 0.998],
  ['llama4', 'llama4', 'F32', MOE.replace('experts-used=3', 'experts-used=1'), near],
  ['llama4-dense-between', 'llama4', 'F32', MOE.replace('experts-used=3', 'experts-used=1') + ',moe-step=2', near],
  ['llama4-128-experts', 'llama4', 'F32', MOE.replace('experts=8,experts-used=3', 'experts=128,experts-used=1'), near],
  ['llama4-long', 'llama4', 'F32', 'layers=4,embd=32,ff=32,heads=2,kv-heads=1,vocab=260,context=20000,experts=2,' +
    'experts-used=1,expert-ff=32', near, 16640],
  ['glm4', 'glm4', 'F32', S + ',head-dim=32,rot=16', near],
  ['glm4moe', 'glm4moe', 'F32', MOE + ',head-dim=32,rot=16,dense-layers=1,shared-experts=1,expert-scale=2.5', near],
  ['granite', 'granite', 'F32', S + ',embd-scale=12,residual-scale=0.22,attn-scale=0.0625,logit-scale=8', near],
  ['granitemoe', 'granitemoe', 'F32', S + ',experts=8,experts-used=3,embd-scale=12,residual-scale=0.22,attn-scale=0.0625,' +
    'logit-scale=6', near],
  ['granitemoe-shared', 'granitemoe', 'F32', S + ',experts=8,experts-used=3,shared-ff=64,embd-scale=12,' +
    'residual-scale=0.22,logit-scale=6', near],
  ['llama-q8_0', 'llama', 'Q8_0', Q, 0.998],
  ['glm4moe-q8_0', 'glm4moe', 'Q8_0', Q + ',experts=4,experts-used=4,expert-ff=256,dense-layers=1', 0.998],
];

const frozen = ['cohere2', 'gpt-oss', 'gpt-oss-yarn', 'llama4', 'llama4-dense-between', 'llama4-128-experts', 'glm4', 'glm4moe',
  'granite', 'granitemoe', 'granitemoe-shared'];
const frozenRows = [0, 30, 90, 199], frozenColumns = 12;

const root = path.join(__dirname, '..', '..');
const worker = path.join(root, 'build', 'millrace-worker'), theirs = path.join(root, 'build', 'tools', 'llamalogits');

function floats(bytes) {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

function tokens(n, vocab) {
  let x = 12345;
  return Array.from({ length: n }, () => ((x = (x * 1103515245 + 12345) & 0x7fffffff) >> 8) % vocab);
}

function compare(ours, other, vocab) {
  let sum = 0, squares = 0, most = 0, cosine = 1;
  for (const v of other) { sum += v; squares += v * v; }
  const deviation = Math.sqrt(squares / other.length - (sum / other.length) ** 2);
  for (let row = 0; row < other.length; row += vocab) {
    let ab = 0, aa = 0, bb = 0;
    for (let i = row; i < row + vocab; i++) {
      const d = Math.abs(ours[i] - other[i]);
      most = d <= most ? most : d; // NaN wins
      ab += ours[i] * other[i]; aa += ours[i] ** 2; bb += other[i] ** 2;
    }
    const c = ab / Math.sqrt(aa * bb);
    cosine = c >= cosine ? cosine : c;
  }
  return { difference: most / deviation, cosine, deviation };
}

function run([name, arch, quant, params, tolerance, length = 200], library, dir) {
  const file = path.join(dir, name + '.gguf');
  const made = spawnSync(worker, ['synthesize', file, '--arch', arch, '--quant', quant, '--params', params], { encoding: 'utf8' });
  if (made.status !== 0) return [false, made.stderr.trim()];
  const vocab = Number(/vocab=(\d+)/.exec(params)[1]);
  const ids = tokens(length, vocab).join(','), context = String(length + 8);
  const limit = { maxBuffer: 1 << 30 };
  const other = spawnSync(theirs, [library, file, context, ids], limit);
  const ours = spawnSync(worker, ['logits', file, '--context', context, '--tokens', ids], limit);
  fs.unlinkSync(file);
  if (ours.status !== 0) return [false, ours.stderr.toString().trim()];
  if (other.status !== 0) return [null, other.stderr.toString().trim().split('\n').pop()];
  const a = floats(ours.stdout), b = floats(other.stdout);
  if (a.length !== b.length || a.length !== vocab * length) return [false, `${a.length} numbers, ${b.length} there`];
  const { difference, cosine, deviation } = compare(a, b, vocab);
  const freeze = {
    name, arch, quant, params, deviation: Number(deviation.toPrecision(6)), tokens: ids.split(',').map(Number),
    rows: frozenRows.map((at) => ({ at, logits: Array.from(b.subarray(at * vocab, at * vocab + frozenColumns),
      (v) => Number(v.toPrecision(7))) })),
  };
  return [tolerance > 0.9 ? cosine >= tolerance : difference <= tolerance,
    `largest difference / deviation ${difference.toExponential(1)}, cosine ${cosine.toFixed(6)}`, freeze];
}

const [library, ...rest] = process.argv.slice(2);
const only = rest.filter((a) => a !== '--freeze'), keep = [];
if (!library) {
  console.error('usage: node tests/compare/llama-cpp.js PATH/libllama.so [--freeze] [CASE ...]');
  process.exit(2);
}
execFileSync('make', ['-s', 'build/millrace-worker', 'build/tools/llamalogits'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-compare-'));
let failed = 0;
for (const c of cases) {
  if (only.length && !only.includes(c[0])) continue;
  const [ok, text, freeze] = run(c, path.resolve(library), dir);
  failed += ok === false;
  if (ok && frozen.includes(c[0])) keep.push(freeze);
  console.log(`${ok === null ? 'skip  ' : ok ? 'ok    ' : 'NOT OK'} ${c[0].padEnd(22)} ${c[2].padEnd(10)} ${text}`);
}
fs.rmdirSync(dir);
if (rest.includes('--freeze')) {
  const to = path.join(root, 'tests', 'data', 'synthetic');
  fs.mkdirSync(to, { recursive: true });
  fs.writeFileSync(path.join(to, 'logits.json'), '[\n' + keep.map((k) => JSON.stringify(k)).join(',\n') + '\n]\n');
}
process.exit(failed ? 1 : 0);
