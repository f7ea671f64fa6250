// Bad input: each gets a clear error of OpenAI's shape at once, and nobody else notices.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import { Gateway, schemaValidator, streamChat } from './support.mjs';

let g, openai;
before(async () => { g = await Gateway.start(); openai = await g.client(); });
after(() => g.end());

const hello = [{ role: 'user', content: 'Hello!' }];
const chat = (body, headers = {}) => fetch(`${g.url}/v1/chat/completions`, {
  method: 'POST', headers: { 'content-type': 'application/json', ...headers },
  body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
});

async function refused(res, status, fields = {}) {
  const text = await res.text();
  assert.equal(res.status, status, text);
  const { error } = JSON.parse(text);
  assert.ok(error, text);
  assert.equal(typeof error.message, 'string');
  assert.ok(error.message.length > 0 && !error.message.includes('\n'), text);
  assert.ok(error.code === null || typeof error.code === 'string', text);
  assert.ok('param' in error && 'type' in error, text);
  assert.match(res.headers.get('x-request-id') ?? '', /^req_/);
  schemaValidator()?.('X_ErrorResponse', JSON.parse(text));
  for (const [k, v] of Object.entries(fields)) assert.equal(error[k], v, text);
  return error;
}

test('a body that is not JSON, not UTF-8, or nested too deep', async () => {
  await refused(await chat('{"model": "tiny", '), 400);
  await refused(await chat(''), 400);
  await refused(await chat(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), 400);
  await refused(await chat('['.repeat(2000) + ']'.repeat(2000)), 400);
  await refused(await chat('{"model":"tiny","model":"tiny","messages":[]}'), 400);
  await refused(await chat('{"model":"tiny","messages":[{"role":"user","content":"\\ud800"}]}'), 400);
});

test('wrong types, missing fields, values out of range: the field is named', async () => {
  const bad = [
    [{ messages: hello }, 'model'], [{ model: 'tiny' }, 'messages'],
    [{ model: 'tiny', messages: [] }, 'messages'], [{ model: 'tiny', messages: 'hi' }, 'messages'],
    [{ model: 'tiny', messages: hello, temperature: 3 }, 'temperature'], [{ model: 'tiny', messages: hello, temperature: 'x' }, 'temperature'],
    [{ model: 'tiny', messages: hello, top_p: -0.1 }, 'top_p'], [{ model: 'tiny', messages: hello, n: 0 }, 'n'],
    [{ model: 'tiny', messages: hello, n: 1000 }, 'n'], [{ model: 'tiny', messages: hello, max_tokens: 0 }, 'max_tokens'],
    [{ model: 'tiny', messages: hello, max_tokens: -5 }, 'max_tokens'], [{ model: 'tiny', messages: hello, stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
    [{ model: 'tiny', messages: hello, stream: 'yes' }, 'stream'], [{ model: 'tiny', messages: hello, logit_bias: { x: 1 } }, 'logit_bias'],
    [{ model: 'tiny', messages: hello, top_logprobs: 30, logprobs: true }, 'top_logprobs'], [{ model: 'tiny', messages: hello, seed: 1.5 }, 'seed'],
    [{ model: 'tiny', messages: hello, presence_penalty: 5 }, 'presence_penalty'],
  ];
  for (const [body, param] of bad) {
    const e = await refused(await chat(body), 400, { type: 'invalid_request_error' });
    assert.ok((e.param ?? '').startsWith(param), `${JSON.stringify(body)} -> ${JSON.stringify(e)}`);
  }
});

test('a message of a wrong shape is named by its index', async () => {
  for (const [message, at] of [[{ role: 'robot', content: 'x' }, 'messages[1]'], [{ role: 'user' }, 'messages[1]'],
    [{ role: 'user', content: 5 }, 'messages[1]'], ['hi', 'messages[1]'],
    [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'http://x/y.png' } }] }, 'messages[1]']]) {
    const e = await refused(await chat({ model: 'tiny', messages: [...hello, message] }), 400);
    assert.ok(e.param.startsWith(at), JSON.stringify(e));
  }
});

test('a field that would change the answer is refused by name, never ignored', async () => {
  for (const extra of [{ frobnicate: 1 }, { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: {} } } },
    { modalities: ['audio'] }, { store: true }, { tool_choice: 'required', tools: [{ type: 'function', function: { name: 'f' } }] }])
    await refused(await chat({ model: 'tiny', messages: hello, ...extra }), 400);
});

test('an unknown model is 404 model_not_found', async () => {
  await refused(await chat({ model: 'gpt-4', messages: hello }), 404, { code: 'model_not_found' });
});

test('a prompt longer than the context is 400 context_length_exceeded, never truncated', async () => {
  const long = [{ role: 'user', content: 'word '.repeat(5000) }];
  await refused(await chat({ model: 'tiny', messages: long }), 400, { code: 'context_length_exceeded', param: 'messages' });
  await refused(await chat({ model: 'tiny', messages: long, stream: true }), 400, { code: 'context_length_exceeded' });
  await assert.rejects(openai.chat.completions.create({ model: 'tiny', messages: long }), (e) => e.code === 'context_length_exceeded');
});

test('unknown paths, wrong methods, wrong content types', async () => {
  await refused(await fetch(`${g.url}/v1/nothing`), 404);
  await refused(await fetch(`${g.url}/v1/chat/completions`), 405);
  await refused(await chat({ model: 'tiny', messages: hello }, { 'content-type': 'text/plain' }), 415);
});

test('a body over the limit is 413', async () => {
  const res = await chat('{"model":"tiny","messages":[{"role":"user","content":"' + 'x'.repeat(40 << 20) + '"}]}').catch(() => null);
  if (res) await refused(res, 413); // some clients see the connection end before they read the answer
});

test('a request for another host is refused on loopback (DNS rebinding)', async () => {
  const text = await raw(`GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n`);
  assert.match(text, /^HTTP\/1.1 4\d\d /);
});

// Keeps its side open: a client that half-closes counts as gone.
function raw(bytes, { waitMs = 3000 } = {}) {
  return new Promise((resolve) => {
    let out = '';
    const s = net.connect(g.port, '127.0.0.1', () => { s.write(bytes); });
    s.on('data', (d) => (out += d));
    s.on('close', () => resolve(out));
    s.on('error', () => resolve(out));
    setTimeout(() => s.destroy(), waitMs).unref();
  });
}

// Sends the body only when the server has said 100 Continue.
function expecting(head, body) {
  return new Promise((resolve) => {
    let out = '';
    const s = net.connect(g.port, '127.0.0.1', () => s.write(head));
    s.on('data', (d) => { if (!out && d.includes('100 Continue')) s.write(body); out += d; });
    s.on('close', () => resolve(out));
    s.on('error', () => resolve(out));
    setTimeout(() => s.destroy(), 3000).unref();
  });
}

test('malformed and smuggling HTTP is refused and the connection closed', async () => {
  const host = `Host: 127.0.0.1:${g.port}\r\n`;
  for (const bytes of [
    'NONSENSE\r\n\r\n', `GET /v1/models HTTP/1.1\r\n\r\n`, `GET /v1/models HTTP/9.9\r\n${host}\r\n`,
    `POST /v1/chat/completions HTTP/1.1\r\n${host}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello`,
    `POST /v1/chat/completions HTTP/1.1\r\n${host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    `POST /v1/chat/completions HTTP/1.1\r\n${host}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
    `POST /v1/chat/completions HTTP/1.1\r\n${host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
    `POST /v1/chat/completions HTTP/1.1\r\n${host}Content-Length: -1\r\n\r\n`,
    `POST /v1/chat/completions HTTP/1.1\r\n${host}Content-Length : 0\r\n\r\n`,
    `GET /v1/models HTTP/1.1\r\n${host}X: a\r\n b\r\n\r\n`, `GET /v1/models HTTP/1.1\n${host.replace('\r', '')}\n`,
    `GET /v1/models HTTP/1.1\r\n${host}X: ${'y'.repeat(70000)}\r\n\r\n`,
  ]) {
    const answer = await raw(bytes, { waitMs: 2000 });
    assert.match(answer, /^HTTP\/1\.1 [45]\d\d /, JSON.stringify(bytes.slice(0, 80)) + ' -> ' + JSON.stringify(answer.slice(0, 80)));
    assert.equal(answer.match(/HTTP\/1\.1 \d\d\d /g).length, 1, 'one answer, then the end');
  }
});

test('chunked bodies, Expect: 100-continue, keep-alive and pipelining work', async () => {
  const host = `Host: 127.0.0.1:${g.port}\r\n`;
  const body = JSON.stringify({ model: 'tiny', messages: hello, temperature: 0 });
  const chunked = [...body.matchAll(/.{1,7}/gs)].map(([p]) => `${Buffer.byteLength(p).toString(16)}\r\n${p}\r\n`).join('') + '0\r\n\r\n';
  const head = `POST /v1/chat/completions HTTP/1.1\r\n${host}Content-Type: application/json\r\n`;
  assert.match(await raw(`${head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n${chunked}`), /200 OK[\s\S]*Millrace Tiny/);
  assert.match(await expecting(`${head}Expect: 100-continue\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`, body),
    /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK/);
  const get = `GET /v1/models HTTP/1.1\r\n${host}\r\n`;
  const answers = await raw(get + get + get.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
  assert.equal(answers.match(/HTTP\/1.1 200 OK/g).length, 3);
});

test('bad requests beside it leave a running stream untouched', async () => {
  const request = { model: 'tiny', messages: [{ role: 'user', content: 'Tell me a story.' }], temperature: 0, max_tokens: 80 };
  const alone = await streamChat(openai, request);
  const stream = streamChat(openai, request);
  await Promise.all(Array.from({ length: 20 }, (_, i) =>
    i % 2 ? chat('{').then((r) => r.text()) : chat({ model: 'tiny', messages: [{ role: 'user', content: 'w '.repeat(9000) }] }).then((r) => r.text())));
  assert.equal((await stream).text, alone.text);
});

test('the health endpoints answer', async () => {
  assert.equal((await fetch(`${g.url}/healthz`)).status, 200);
  assert.equal((await fetch(`${g.url}/readyz`)).status, 200);
  const m = await g.metrics();
  assert.ok(Object.keys(m).some((k) => k.startsWith('millrace_')));
  assert.ok('vllm:num_requests_running' in m);

});
