// POST /v1/embeddings through the official SDK, over models of random weights: every number is the one that
// `millrace-worker embed` computes for the same tokens alone, bit for bit.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Gateway, demoModel, schemaValidator, synthesize, tokenize, embedBytes } from './support.mjs';

const DIMS = 96;
let dir, bert, qwen, g, openai;
before(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-embed-'));
  const shape = (more) => `layers=3,embd=${DIMS},ff=192,heads=4,vocab=1200,${more}`;
  bert = synthesize(path.join(dir, 'bert.gguf'), ['--arch', 'bert', '--params', shape('context=256')]);
  qwen = synthesize(path.join(dir, 'qwen.gguf'), ['--arch', 'qwen3', '--params', shape('context=2048,kv-heads=2,pooling=3')]);
  g = await Gateway.start({ models: [`bert=${bert}`, `nested=${bert},dimensions=16`, `qwen=${qwen}`, `tiny=${demoModel}`, `cls=${bert},pooling=cls`] });
  openai = await g.client();
});
after(async () => { await g?.end(); fs.rmSync(dir, { recursive: true, force: true }); });

const valid = schemaValidator() ?? (() => {});
const post = (body) => fetch(`${g.url}/v1/embeddings`, {
  method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
const bytesOf = (floats) => Buffer.from(Float32Array.from(floats).buffer);
const words = 'the water people world over little think number system after question great live back only place'.split(' ');
const text = (n, at = 0) => Array.from({ length: n }, (_, i) => words[(i * 7 + at * 3 + i * i) % words.length]).join(' ');

test('a text, a list of texts, tokens, lists of tokens: the vectors of millrace-worker embed, bit for bit', async () => {
  const texts = ['The people of the world.', 'water', text(120), 'Über 42!'];
  const lists = texts.map((t) => tokenize(bert, t));
  const want = lists.map((ids) => embedBytes(bert, ids));
  const total = lists.reduce((n, ids) => n + ids.length, 0);
  for (const input of [texts, lists]) {
    const r = await openai.embeddings.create({ model: 'bert', input, encoding_format: 'float', user: 'forms' });
    valid('CreateEmbeddingResponse', r);
    assert.equal(r.model, 'bert');
    assert.deepEqual(r.usage, { prompt_tokens: total, total_tokens: total });
    assert.deepEqual(r.data.map((d) => d.index), [0, 1, 2, 3]);
    r.data.forEach((d, i) => assert.deepEqual(bytesOf(d.embedding), want[i], `input ${i}`));
  }
  for (const [input, i] of [[texts[0], 0], [lists[2], 2], [[texts[3]], 3], [[lists[1]], 1]]) {
    const r = await openai.embeddings.create({ model: 'bert', input, user: 'forms' }); // base64 on the wire: the SDK's default
    assert.equal(r.data.length, 1);
    assert.deepEqual(bytesOf(r.data[0].embedding), want[i]);
    assert.deepEqual(r.usage, { prompt_tokens: lists[i].length, total_tokens: lists[i].length });
  }
  const rows = await g.rowsWhen(6, "end_user = 'forms'");
  assert.deepEqual(rows.map((r) => r.prompt_tokens), [total, total, lists[0].length, lists[2].length, lists[3].length, lists[1].length]);
  assert.ok(rows.every((r) => r.dialect === 'embeddings' && r.outcome === 'finished' && r.model === 'bert' && r.completion_tokens === 0
    && r.computed_tokens === r.prompt_tokens && r.choices === 1));
});

test('float and base64 are the same numbers, little-endian float32', async () => {
  const [float, base64] = await Promise.all(['float', 'base64'].map(async (encoding_format) =>
    (await post({ model: 'bert', input: [text(9), text(30, 1)], encoding_format })).json()));
  valid('X_CreateEmbeddingResponse', base64);
  valid('CreateEmbeddingResponse', float);
  for (let i = 0; i < 2; i++) {
    const bytes = Buffer.from(base64.data[i].embedding, 'base64');
    assert.equal(bytes.length, 4 * DIMS);
    const values = Array.from({ length: DIMS }, (_, k) => bytes.readFloatLE(4 * k));
    assert.deepEqual(float.data[i].embedding, values); // as doubles, too
    assert.ok(Math.abs(Math.hypot(...values) - 1) < 1e-6);
  }
});

test('64 inputs of mixed lengths give what each gives alone, from an encoder and from a decoder', async () => {
  for (const [model, file, longest, args] of [['bert', bert, 250, []], ['qwen', qwen, 700, ['--kv-type', 'f16']]]) {
    const input = Array.from({ length: 64 }, (_, i) => tokenize(file, text(1 + (i * 37) % longest, i)).slice(0, longest));
    const all = await openai.embeddings.create({ model, input });
    assert.equal(all.data.length, 64);
    for (let i = 0; i < 64; i++)
      assert.deepEqual(bytesOf(all.data[i].embedding), embedBytes(file, input[i], args), `${model}: input ${i} of ${input[i].length} tokens`);
    const alone = await Promise.all(input.slice(0, 16).map((one) => openai.embeddings.create({ model, input: one })));
    alone.forEach((r, i) => assert.deepEqual(r.data[0].embedding, all.data[i].embedding));
  }
});

test('pooling is the file\'s, or the one that was asked for', async () => {
  const ids = tokenize(bert, text(20));
  const cls = await openai.embeddings.create({ model: 'cls', input: ids });
  assert.deepEqual(bytesOf(cls.data[0].embedding), embedBytes(bert, ids, ['--pooling', 'cls']));
  const mean = await openai.embeddings.create({ model: 'bert', input: ids });
  assert.deepEqual(bytesOf(mean.data[0].embedding), embedBytes(bert, ids, ['--pooling', 'mean']));
});

test('dimensions: cut and normed again where the model allows, refused by name where not', async () => {
  const whole = (await openai.embeddings.create({ model: 'nested', input: 'water' })).data[0].embedding;
  for (const dimensions of [16, 40, DIMS]) {
    const r = await openai.embeddings.create({ model: 'nested', input: 'water', dimensions });
    const got = r.data[0].embedding, front = whole.slice(0, dimensions), length = Math.hypot(...front);
    assert.equal(got.length, dimensions);
    got.forEach((v, i) => assert.ok(Math.abs(v - front[i] / length) < 1e-6));
  }
  assert.equal((await openai.embeddings.create({ model: 'bert', input: 'water', dimensions: DIMS })).data[0].embedding.length, DIMS);
  for (const [model, dimensions, code] of [['bert', 40, 'unsupported_parameter'], ['nested', 8, 'invalid_value'], ['nested', DIMS + 1, 'invalid_value'],
    ['nested', 0, 'integer_below_min_value'], ['nested', 1.5, 'invalid_type']]) {
    const res = await post({ model, input: 'water', dimensions });
    const { error } = await res.json();
    assert.equal(res.status, 400);
    assert.deepEqual([error.param, error.code, error.type], ['dimensions', code, 'invalid_request_error'], error.message);
  }
});

test('bad input is 400 with the field named, and nothing is ever cut', async () => {
  const cases = [
    [{ input: '' }, 'input', 'empty_string'], [{ input: [] }, 'input', 'empty_array'], [{ input: ['a', ''] }, 'input[1]', 'empty_string'],
    [{ input: [[]] }, 'input[0]', 'empty_array'], [{ input: ['a', 1] }, 'input[1]', 'invalid_type'], [{ input: [1, 'a'] }, 'input[1]', 'invalid_type'],
    [{ input: { a: 1 } }, 'input', 'invalid_type'], [{}, 'input', 'missing_required_parameter'],
    [{ input: Array(2049).fill('a') }, 'input', 'array_above_max_length'], [{ input: [-1] }, 'input[0]', 'integer_below_min_value'],
    [{ input: [999999] }, 'input', 'invalid_value'], [{ input: 'a', encoding_format: 'int8' }, 'encoding_format', 'invalid_value'],
    [{ input: 'a', stream: true }, 'stream', 'unknown_parameter'], [{ input: ['a', text(300)] }, 'input', 'context_length_exceeded'],
    [{ input: Array(1300).fill(Array(240).fill(7)) }, 'input', 'invalid_value'], // 312,000 tokens
  ];
  for (const [body, param, code] of cases) {
    const res = await post({ model: 'bert', ...body });
    const json = await res.json();
    valid('X_ErrorResponse', json);
    const what = `${JSON.stringify(body).slice(0, 60)}: ${JSON.stringify(json)}`;
    assert.equal(res.status, 400, what);
    assert.deepEqual([json.error.param, json.error.code], [param, code], what);
  }
  const res = await post({ model: 'nobody', input: 'a' });
  assert.deepEqual([res.status, (await res.json()).error.code], [404, 'model_not_found']);
});

test('a model that writes text gives no embeddings, and the other way round: 400 that says so', async () => {
  for (const call of [() => openai.embeddings.create({ model: 'tiny', input: 'a' }),
    () => openai.chat.completions.create({ model: 'bert', messages: [{ role: 'user', content: 'a' }] }),
    () => openai.completions.create({ model: 'qwen', prompt: 'a' })]) {
    await assert.rejects(call, (e) => e.status === 400 && e.param === 'model' && e.code === 'unsupported_value' && /embeddings/.test(e.message));
  }
  const models = await openai.models.list();
  assert.deepEqual(models.data.map((m) => m.id).sort(), ['bert', 'cls', 'nested', 'qwen', 'tiny']);
  models.data.forEach((m) => valid('Model', m));
});

test('the most inputs that OpenAI takes, while others are answered', async () => {
  const input = Array.from({ length: 2048 }, (_, i) => text(1 + (i % 11), i));
  const big = openai.embeddings.create({ model: 'bert', input, user: 'big' });
  const small = await openai.embeddings.create({ model: 'bert', input: 'water' });
  assert.equal(small.data.length, 1);
  const r = await big;
  assert.deepEqual(r.data.map((d) => d.index), input.map((_, i) => i));
  assert.deepEqual(bytesOf(r.data[2047].embedding), embedBytes(bert, tokenize(bert, input[2047])));
  const [row] = await g.rowsWhen(1, "end_user = 'big'");
  assert.equal(row.prompt_tokens, r.usage.prompt_tokens);
});
