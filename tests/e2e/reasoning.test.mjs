// A model that thinks before it answers: thoughts apart from content, streamed and not, whatever happens to its worker.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Gateway, demoModel } from './support.mjs';

// The demo model was taught to think. Under this template, which opens the block of thoughts itself as DeepSeek-R1's does, it always does.
const template = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}<|im_start|>assistant
<think>
`;
const story = { model: 'tiny', messages: [{ role: 'user', content: 'Tell me a long story about a dragon.' }], temperature: 0, max_tokens: 60 };

async function withThinker(body) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-think-'));
  const file = path.join(dir, 'template.jinja');
  fs.writeFileSync(file, template);
  const g = await Gateway.start({ models: [`tiny=${demoModel},chat-template=${file}`] });
  try { await body(g, await g.client()); } finally { await g.end(); fs.rmSync(dir, { recursive: true, force: true }); }
}

async function read(openai, request, atPiece = () => {}) {
  const out = { content: '', reasoning: '', other: '', usage: null, finish: null };
  let n = 0;
  for await (const chunk of await openai.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } })) {
    const choice = chunk.choices[0];
    out.usage = chunk.usage ?? out.usage;
    out.finish = choice?.finish_reason ?? out.finish;
    out.content += choice?.delta.content ?? '';
    out.reasoning += choice?.delta.reasoning_content ?? '';
    out.other += choice?.delta.reasoning ?? '';
    if (choice?.delta.reasoning_content) await atPiece(++n);
  }
  return out;
}

test('thoughts come as reasoning_content, streamed as whole, and are counted; reasoning_format none leaves them in the content', async () => {
  await withThinker(async (g, openai) => {
    const whole = await openai.chat.completions.create(story);
    const m = whole.choices[0].message;
    assert.ok(m.reasoning_content.length > 50, JSON.stringify(m));
    assert.equal(m.reasoning, m.reasoning_content);
    assert.match(m.content, /^Once upon a time/);
    assert.doesNotMatch(m.content + m.reasoning_content, /think>/);
    assert.equal(whole.usage.completion_tokens, 60);
    const thought = whole.usage.completion_tokens_details.reasoning_tokens;
    assert.ok(thought > 10 && thought < 60, `${thought}`);
    const streamed = await read(openai, story);
    assert.deepEqual([streamed.reasoning, streamed.other, streamed.content], [m.reasoning_content, m.reasoning, m.content]);
    assert.equal(streamed.usage.completion_tokens_details.reasoning_tokens, thought);
    const plain = await openai.chat.completions.create({ ...story, reasoning_format: 'none' });
    assert.ok(plain.choices[0].message.content.includes(`${m.reasoning_content}`) && plain.choices[0].message.content.includes('</think>'));
    assert.equal(plain.choices[0].message.reasoning_content, undefined);
    const rows = await g.rowsWhen(3);
    assert.deepEqual(rows.map((r) => r.reasoning_tokens), [thought, thought, 0]);
  });
});

test('include_reasoning false: the same answer and the same count, and no thoughts', async () => {
  await withThinker(async (g, openai) => {
    const shown = await openai.chat.completions.create(story);
    const request = { ...story, include_reasoning: false };
    const whole = await openai.chat.completions.create(request);
    const { content } = shown.choices[0].message;
    assert.equal(whole.choices[0].message.content, content);
    assert.equal(whole.choices[0].message.reasoning_content, undefined);
    assert.deepEqual(whole.usage.completion_tokens_details, shown.usage.completion_tokens_details);
    const streamed = await read(openai, request);
    assert.deepEqual([streamed.content, streamed.reasoning, streamed.other], [content, '', '']);
    assert.deepEqual(streamed.usage.completion_tokens_details, shown.usage.completion_tokens_details);
    await assert.rejects(openai.chat.completions.create({ ...request, reasoning_format: 'none' }), { status: 400, param: 'include_reasoning' });
  });
});

test('logprobs are those of the content, not of the thoughts, streamed as whole', async () => {
  await withThinker(async (g, openai) => {
    const request = { ...story, logprobs: true };
    const whole = (await openai.chat.completions.create(request)).choices[0];
    const tokens = whole.logprobs.content.map((t) => t.token);
    assert.equal(tokens.join('').trim(), whole.message.content.trim());
    const streamed = [];
    for await (const chunk of await openai.chat.completions.create({ ...request, stream: true })) streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
    assert.deepEqual(streamed, whole.logprobs.content);
  });
});

test('tools for a template that does not show them to the model are refused by name', async () => {
  await withThinker(async (g, openai) => {
    const tools = [{ type: 'function', function: { name: 'f', parameters: { type: 'object', properties: {} } } }];
    await assert.rejects(openai.chat.completions.create({ ...story, tools }), { status: 400, param: 'tools' });
    const off = await openai.chat.completions.create({ ...story, tools, tool_choice: 'none' });
    assert.ok(off.choices[0].message.content);
    assert.deepEqual(['none', 'think'], [(await openai.models.retrieve('tiny')).millrace.tool_format, (await openai.models.retrieve('tiny')).millrace.reasoning_format]);
  });
});

test('a stop string counts in the answer, not in the thoughts', async () => {
  await withThinker(async (g, openai) => {
    const free = (await openai.chat.completions.create(story)).choices[0].message.reasoning_content;
    const word = 'dragon';
    const stopped = await openai.chat.completions.create({ ...story, stop: [word] });
    assert.equal(stopped.choices[0].message.reasoning_content, free);
    const plain = await openai.chat.completions.create({ ...story, stop: [word], reasoning_format: 'none' });
    assert.ok(plain.choices[0].message.content.length < free.length);
    assert.equal(plain.choices[0].finish_reason, 'stop');
  });
});

test('kill -9 of the worker in the middle of a thought: the same bytes', async () => {
  await withThinker(async (g, openai) => {
    const calm = await read(openai, story);
    for (const at of [1, 9]) {
      const r = await read(openai, story, (n) => { if (n === at) for (const pid of g.workers()) process.kill(pid, 'SIGKILL'); });
      assert.deepEqual({ ...r, usage: r.usage.completion_tokens_details.reasoning_tokens }, { ...calm, usage: calm.usage.completion_tokens_details.reasoning_tokens });
    }
    assert.ok((await g.rowsWhen(3)).some((r) => r.failovers > 0));
  });
});
