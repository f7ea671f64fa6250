// Tool calls of the demo model, which was taught the form of Qwen2.5: recognised, streamed as whole, answered, never in the content.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Gateway, sure, partsOf, partsOfMessage, streamChat, sse, schemaValidator } from './support.mjs';

const cases = sure.filter((c) => c.request.tools && c.text.q8_0.includes('<tool_call>'));
const parallel = cases.find((c) => partsOf(c.text.q8_0).calls.length > 1);

async function withGateway(body) {
  const g = await Gateway.start();
  try { await body(g, await g.client()); } finally { await g.end(); }
}

test('calls come as tool_calls with their own ids, streamed as whole, and finish with tool_calls', async () => {
  assert.ok(cases.length >= 3);
  await withGateway(async (g, openai) => {
    for (const c of cases) {
      const whole = (await openai.chat.completions.create({ model: 'tiny', ...c.request })).choices[0];
      assert.deepEqual(partsOfMessage(whole.message), partsOf(c.text.q8_0), c.id);
      assert.equal(whole.finish_reason, 'tool_calls', c.id);
      const ids = whole.message.tool_calls.map((t) => t.id);
      assert.equal(new Set(ids).size, ids.length);
      assert.ok(ids.every((id) => /^call_\w+$/.test(id)), JSON.stringify(ids));
      const streamed = await streamChat(openai, { model: 'tiny', ...c.request });
      assert.deepEqual(streamed.calls.map((t) => [t.type, t.function]), whole.message.tool_calls.map((t) => [t.type, t.function]), c.id);
      assert.equal(new Set(streamed.calls.map((t) => t.id)).size, ids.length);
      assert.deepEqual([streamed.text, streamed.reasoning, streamed.finish], [whole.message.content ?? '', whole.message.reasoning_content ?? '', 'tool_calls']);
    }
  });
});

test('parallel_tool_calls false ends the answer with its first call', async () => {
  await withGateway(async (g, openai) => {
    const want = partsOf(parallel.text.q8_0).calls;
    const request = { model: 'tiny', ...parallel.request, parallel_tool_calls: false };
    const one = await openai.chat.completions.create(request);
    assert.deepEqual(partsOfMessage(one.choices[0].message).calls, want.slice(0, 1));
    assert.equal(one.choices[0].finish_reason, 'tool_calls');
    assert.ok(one.usage.completion_tokens < parallel.completion_tokens.q8_0);
    const streamed = await streamChat(openai, request);
    assert.equal(streamed.calls.length, 1);
    assert.equal(streamed.usage.completion_tokens, one.usage.completion_tokens);
  });
});

test('tool_choice none: the model is not shown the tools, and nothing is read as a call', async () => {
  await withGateway(async (g, openai) => {
    const r = (await openai.chat.completions.create({ model: 'tiny', ...parallel.request, tool_choice: 'none' })).choices[0];
    assert.equal(r.message.tool_calls, undefined);
    assert.notEqual(r.finish_reason, 'tool_calls');
  });
});

test('kill -9 of the worker in the middle of a call: the same bytes', async () => {
  await withGateway(async (g, openai) => {
    const request = { model: 'tiny', ...parallel.request, stream: true };
    const read = async (killAt) => {
      let pieces = 0;
      const calls = [];
      for await (const chunk of await openai.chat.completions.create(request))
        for (const t of chunk.choices[0]?.delta.tool_calls ?? []) {
          (calls[t.index] ??= { name: '', args: '' }).name += t.function?.name ?? '';
          calls[t.index].args += t.function?.arguments ?? '';
          if (++pieces === killAt) for (const pid of g.workers()) process.kill(pid, 'SIGKILL');
        }
      return calls;
    };
    const calm = await read(0);
    for (const at of [1, 3, 6]) assert.deepEqual(await read(at), calm, `killed after piece ${at}`);
    assert.ok((await g.rowsWhen(4)).some((r) => r.failovers > 0));
  });
});

test('a conversation with calls and their results goes on: the SDK\'s own message is accepted back', async () => {
  await withGateway(async (g, openai) => {
    const first = cases.find((c) => c.id === 'tool-call');
    const asked = (await openai.chat.completions.create({ model: 'tiny', ...first.request })).choices[0].message;
    const answer = await openai.chat.completions.create({ model: 'tiny', ...first.request, messages: [...first.request.messages, asked,
      { role: 'tool', tool_call_id: asked.tool_calls[0].id, content: '{"temperature": 18, "sky": "sunny"}' }] });
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.match(answer.choices[0].message.content, /18/);
  });
});

test('answers with calls, and their chunks, validate against the published schemas', async (t) => {
  const validate = schemaValidator();
  if (!validate) return t.skip('the published schemas are not at hand');
  await withGateway(async (g) => {
    const request = { model: 'tiny', ...parallel.request, logprobs: true, top_logprobs: 1 };
    const whole = await fetch(`${g.url}/v1/chat/completions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(request) });
    validate('CreateChatCompletionResponse', await whole.json());
    const s = await sse(`${g.url}/v1/chat/completions`, { ...request, stream: true, stream_options: { include_usage: true } });
    const chunks = s.events.slice(0, -1).map((e) => JSON.parse(e));
    for (const c of chunks) validate('CreateChatCompletionStreamResponse', c);
    // the id and the name once, with the first delta of a call
    const deltas = chunks.flatMap((c) => c.choices[0]?.delta.tool_calls ?? []);
    for (const index of [0, 1]) {
      const own = deltas.filter((d) => d.index === index);
      assert.ok(own.length > 1 && own[0].id && own[0].function.name && own.slice(1).every((d) => d.id === undefined && d.function.name === undefined));
    }
  });
});

test('what clients send back beside calls - content null, "", parts or none - is all the same to the model', async () => {
  await withGateway(async (g, openai) => {
    const first = cases.find((c) => c.id === 'tool-call');
    const asked = (await openai.chat.completions.create({ model: 'tiny', ...first.request })).choices[0].message;
    const answers = [];
    for (const content of [null, '', undefined]) for (const result of ['{"temperature": 18, "sky": "sunny"}', [{ type: 'text', text: '{"temperature": 18, "sky": "sunny"}' }]]) {
      const r = await openai.chat.completions.create({ model: 'tiny', ...first.request, messages: [...first.request.messages,
        { role: 'assistant', content, tool_calls: asked.tool_calls }, { role: 'tool', tool_call_id: asked.tool_calls[0].id, content: result }] });
      answers.push([r.usage.prompt_tokens, r.choices[0].message.content]);
    }
    for (const a of answers) assert.deepEqual(a, answers[0]);
  });
});
