// The main job: the official SDK, with nothing changed but base_url, gets the demo model's answers.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { Gateway, expected, sure, partsOf, partsOfMessage, streamChat, sse, schemaValidator, until } from './support.mjs';

let g, openai;
before(async () => { g = await Gateway.start(); openai = await g.client(); });
after(() => g.end());

test('every sure case of the demo model gives its text, plain and streamed, with the same usage', async () => {
  for (const c of sure) {
    const plain = await openai.chat.completions.create({ model: 'tiny', ...c.request });
    const parts = partsOf(c.text.q8_0);
    const finish = parts.calls.length ? 'tool_calls' : 'stop';
    assert.deepEqual(partsOfMessage(plain.choices[0].message), parts, c.id);
    assert.equal(plain.choices[0].finish_reason, finish, c.id);
    assert.equal(plain.usage.prompt_tokens, c.prompt_tokens, c.id);
    assert.equal(plain.usage.completion_tokens, c.completion_tokens.q8_0, c.id);
    assert.equal(plain.usage.total_tokens, c.prompt_tokens + c.completion_tokens.q8_0, c.id);
    const streamed = await streamChat(openai, { model: 'tiny', ...c.request });
    assert.deepEqual([streamed.text, streamed.reasoning], [parts.content, parts.reasoning], c.id);
    assert.equal(streamed.finish, finish, c.id);
    assert.equal(streamed.usage.completion_tokens, plain.usage.completion_tokens, c.id);
    assert.equal(streamed.usage.prompt_tokens, plain.usage.prompt_tokens, c.id);
  }
});

test('near-tie cases are at least the same plain and streamed', async () => {
  for (const c of expected.filter((e) => !sure.includes(e))) {
    const plain = await openai.chat.completions.create({ model: 'tiny', ...c.request });
    assert.equal((await streamChat(openai, { model: 'tiny', ...c.request })).text, plain.choices[0].message.content ?? '', c.id);
  }
});

test('a stream arrives token by token, not at the end', async () => {
  const s = await sse(`${g.url}/v1/chat/completions`, {
    model: 'tiny', messages: [{ role: 'user', content: 'Count to ten.' }], temperature: 0, stream: true });
  assert.equal(s.events.at(-1), '[DONE]');
  assert.equal(s.rest, '');
  const chunks = s.events.slice(0, -1).map((e) => JSON.parse(e));
  assert.ok(chunks.length >= 10, `${chunks.length} chunks`);
  assert.ok(new Set(s.at).size >= 3, 'chunks came in several reads');
  assert.equal(new Set(chunks.map((c) => `${c.id} ${c.created} ${c.model} ${c.object}`)).size, 1);
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  assert.ok(chunks.slice(1).every((c) => !c.choices[0]?.delta.role), 'role only once');
  assert.equal(chunks.filter((c) => c.choices[0]?.finish_reason).length, 1);
  assert.ok(chunks.every((c) => !('usage' in c) || c.usage == null), 'no usage unless asked for');
  assert.match(s.headers.get('content-type'), /^text\/event-stream/);
  assert.equal(s.headers.get('cache-control'), 'no-cache');
  assert.equal(s.headers.get('x-accel-buffering'), 'no');
  assert.match(s.headers.get('x-request-id'), /^req_/);
});

test('answers and chunks validate against the published schemas', async (t) => {
  const validate = schemaValidator();
  if (!validate) return t.skip('the published schemas are not at hand');
  const request = { model: 'tiny', messages: [{ role: 'user', content: 'Hello!' }], temperature: 0 };
  const post = (p, body) => fetch(`${g.url}${p}`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }).then((r) => r.json());
  validate('CreateChatCompletionResponse', await post('/v1/chat/completions', request));
  validate('CreateChatCompletionResponse', await post('/v1/chat/completions', { ...request, n: 2, logprobs: true, top_logprobs: 3 }));
  validate('CreateCompletionResponse', await post('/v1/completions', { model: 'tiny', prompt: 'Once upon', max_tokens: 5, logprobs: 2 }));
  validate('ListModelsResponse', await fetch(`${g.url}/v1/models`).then((r) => r.json()));
  validate('Model', await fetch(`${g.url}/v1/models/tiny`).then((r) => r.json()));
  validate('X_ErrorResponse', await post('/v1/chat/completions', { model: 'nobody', messages: [] }));
  for (const extra of [{}, { stream_options: { include_usage: true } }, { logprobs: true, top_logprobs: 2 }, { n: 3, seed: 5, temperature: 1 }]) {
    const s = await sse(`${g.url}/v1/chat/completions`, { ...request, ...extra, stream: true });
    for (const e of s.events.slice(0, -1)) validate('CreateChatCompletionStreamResponse', JSON.parse(e));
  }
  const s = await sse(`${g.url}/v1/completions`, { model: 'tiny', prompt: 'Once', max_tokens: 5, stream: true, logprobs: 1 });
  for (const e of s.events.slice(0, -1)) validate('X_CompletionChunk', JSON.parse(e));
});

test('usage equals the rows in SQLite', async () => {
  const seen = [];
  for (const content of ['Hello!', 'Tell me a story.', 'What is 2 + 2?']) {
    const r = await openai.chat.completions.create({ model: 'tiny', messages: [{ role: 'user', content }], temperature: 0, user: 'ledger' });
    seen.push(r.usage);
  }
  const rows = await g.rowsWhen(seen.length, "end_user = 'ledger'");
  assert.deepEqual(rows.map((r) => [r.prompt_tokens, r.completion_tokens, r.delivered_tokens, r.outcome]),
    seen.map((u) => [u.prompt_tokens, u.completion_tokens, u.completion_tokens, 'finished']));
});

test('32 streams at once are each byte-equal to their solo run', async () => {
  const requests = [];
  for (let i = 0; i < 32; i++) {
    const c = expected[i % expected.length];
    requests.push({ model: 'tiny', ...c.request, temperature: i % 2 ? 0.8 : 0, seed: i, max_tokens: 60 });
  }
  const solo = [];
  for (const r of requests) solo.push((await streamChat(openai, r)).text);
  const together = await Promise.all(requests.map((r) => streamChat(openai, r)));
  assert.deepEqual(together.map((t) => t.text), solo);
});

test('the same seed gives the same text, another seed another', async () => {
  const ask = (seed) => openai.chat.completions.create({
    model: 'tiny', messages: [{ role: 'user', content: 'Tell me a story.' }], temperature: 1.2, seed, max_tokens: 40 })
    .then((r) => r.choices[0].message.content);
  const [a, b, c] = [await ask(1), await ask(1), await ask(2)];
  assert.equal(a, b);
  assert.notEqual(a, c);
});

test('n choices are different samples of one prompt, which is counted once', async () => {
  const one = await openai.chat.completions.create({
    model: 'tiny', messages: [{ role: 'user', content: 'Tell me a story.' }], temperature: 1, seed: 3, max_tokens: 30 });
  const three = await openai.chat.completions.create({
    model: 'tiny', messages: [{ role: 'user', content: 'Tell me a story.' }], temperature: 1, seed: 3, max_tokens: 30, n: 3 });
  assert.deepEqual(three.choices.map((c) => c.index), [0, 1, 2]);
  assert.equal(three.choices[0].message.content, one.choices[0].message.content);
  assert.equal(new Set(three.choices.map((c) => c.message.content)).size, 3);
  assert.equal(three.usage.prompt_tokens, one.usage.prompt_tokens);
});

test('max_tokens ends with "length", stop strings end with "stop" and are not shown', async () => {
  const count = expected.find((c) => c.id === 'count').request.messages;
  const ask = (extra) => openai.chat.completions.create({
    model: 'tiny', messages: count, temperature: 0, ...extra }).then((r) => r.choices[0]);
  const full = (await ask({})).message.content;
  const cut = await ask({ max_tokens: 4 });
  assert.equal(cut.finish_reason, 'length');
  assert.ok(full.startsWith(cut.message.content));
  assert.deepEqual(await ask({ max_completion_tokens: 4 }).then((c) => c.message.content), cut.message.content);
  const stopped = await ask({ stop: [', 5', 'nothing'] });
  assert.equal(stopped.finish_reason, 'stop');
  assert.equal(stopped.message.content, full.slice(0, full.indexOf(', 5')));
  const streamed = await streamChat(openai, { model: 'tiny', messages: count, temperature: 0, stop: ', 5' });
  assert.equal(streamed.text, stopped.message.content);
});

test('a repeated prefix is reused and reported as cached_tokens', async () => {
  const history = [{ role: 'user', content: 'Tell me a long story about a dragon, a castle and a king, please. '.repeat(4) }];
  const ask = () => openai.chat.completions.create({ model: 'tiny', messages: history, temperature: 0, max_tokens: 20 });
  const first = await ask(), second = await ask();
  assert.equal(second.choices[0].message.content, first.choices[0].message.content);
  assert.ok(second.usage.prompt_tokens_details.cached_tokens > 0);
  assert.ok(second.usage.prompt_tokens_details.cached_tokens < second.usage.prompt_tokens);
});

test('completions continue a prompt, plain and streamed', async () => {
  const r = await openai.completions.create({ model: 'tiny', prompt: 'Once upon a time', max_tokens: 12, temperature: 0 });
  assert.ok(r.choices[0].text.length > 0);
  let text = '';
  for await (const c of await openai.completions.create({ model: 'tiny', prompt: 'Once upon a time', max_tokens: 12, temperature: 0, stream: true }))
    text += c.choices[0]?.text ?? '';
  assert.equal(text, r.choices[0].text);
  const echoed = await openai.completions.create({ model: 'tiny', prompt: 'Once upon a time', max_tokens: 12, temperature: 0, echo: true });
  assert.equal(echoed.choices[0].text, 'Once upon a time' + r.choices[0].text);
});

test('logprobs are those of the tokens, with alternatives and raw bytes', async () => {
  const r = await openai.chat.completions.create({
    model: 'tiny', messages: [{ role: 'user', content: 'Show me three emoji.' }], temperature: 0, logprobs: true, top_logprobs: 2, max_tokens: 12 });
  const { content } = r.choices[0].logprobs;
  assert.ok(content.length > 0);
  for (const t of content) {
    assert.ok(t.logprob <= 0 && t.top_logprobs.length === 2);
    assert.ok(t.top_logprobs[0].logprob >= t.top_logprobs[1].logprob);
    assert.equal(t.top_logprobs[0].token, t.token); // greedy takes the best
  }
  const bytes = Buffer.from(content.flatMap((t) => t.bytes ?? []));
  assert.ok(bytes.toString('utf8').startsWith(r.choices[0].message.content));
});

test('logit_bias bans and forces tokens', async () => {
  const ask = (extra) => openai.chat.completions.create({
    model: 'tiny', messages: [{ role: 'user', content: 'Hello!' }], temperature: 0, max_tokens: 8, logprobs: true, top_logprobs: 2, ...extra });
  const plain = await ask({});
  const first = plain.choices[0].logprobs.content[0].token;
  let banned;
  for (let id = 0; id < 2048 && !banned; id += 256) { // find the id of the first token by banning ranges
    const bias = Object.fromEntries(Array.from({ length: 256 }, (_, k) => [String(id + k), -100]));
    const r = await ask({ logit_bias: bias });
    if (r.choices[0].logprobs.content[0].token !== first) banned = r;
  }
  assert.ok(banned, 'one of the banned ranges held the first token');
});

test('models are listed and retrieved', async () => {
  const list = [];
  for await (const m of openai.models.list()) list.push(m.id);
  assert.deepEqual(list, ['tiny']);
  assert.equal((await openai.models.retrieve('tiny')).id, 'tiny');
  await assert.rejects(openai.models.retrieve('org/none'), (e) => e.status === 404 && e.code === 'model_not_found');
});

test('millrace usage reports what was used', async () => {
  const { execFileSync } = await import('node:child_process');
  const { build } = await import('./support.mjs');
  const run = (...a) => execFileSync(`${build}/millrace`, ['usage', '--data', g.data, ...a], { encoding: 'utf8' });
  await until('all rows', async () => (await g.metrics()) && true);
  const [row] = JSON.parse(run('--by', 'model', '--format', 'json'));
  assert.equal(row.model, 'tiny');
  const rows = g.rows();
  assert.equal(row.jobs, rows.length);
  assert.equal(row.completion, rows.reduce((a, r) => a + r.completion_tokens, 0));
  assert.match(run('--since', '1h', '--by', 'day,model'), /^day .*\n\d{4}-\d\d-\d\d +tiny/);
  assert.match(run('--by', 'dialect', '--format', 'csv'), /dialect,jobs,.*\r\nchat,/);
});
