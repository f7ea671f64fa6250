// Constrained output against an independent validator: random schemas, random texts through the token masks.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import Ajv from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

const build = process.env.MILLRACE_BUILD ?? 'build';
const SCHEMAS = Number(process.env.MILLRACE_SCHEMAS ?? 10000);

let seed = 20260101;
const random = () => { // xorshift: the same schemas in every run
  seed ^= seed << 13; seed ^= seed >>> 17; seed ^= seed << 5;
  return (seed >>> 0) / 2 ** 32;
};
const int = (lo, hi) => lo + Math.floor(random() * (hi - lo + 1));
const pick = (list) => list[int(0, list.length - 1)];
const maybe = (p = 0.5) => random() < p;

const names = ['a', 'b', 'id', 'name', 'é', 'a b', 'quote"', 'back\\slash', '日本', 'x-y', 'line\n', ''];
const patterns = ['^[a-z]{1,4}$', '^(foo|bar)+$', '^\\d{3}-\\d{2}$', '[A-Z]', '^[^a-z"]{0,3}$', '^\\w+@\\w+\\.com$', '^.{2}$', '^é+\\s?$'];
const formats = ['date', 'time', 'date-time', 'uuid', 'email', 'ipv4', 'ipv6', 'hostname', 'duration', 'uri'];
const decimal = () => maybe() ? int(-50, 50) : int(-5000, 5000) / 100;

function number(type) {
  const s = { type };
  if (maybe(0.6)) s[maybe(0.8) ? 'minimum' : 'exclusiveMinimum'] = type === 'integer' && maybe(0.8) ? int(-200, 20) : decimal();
  if (maybe(0.5)) s[maybe(0.8) ? 'maximum' : 'exclusiveMaximum'] = (s.minimum ?? s.exclusiveMinimum ?? 0) + int(2, 300);
  if (maybe(0.1)) s.multipleOf = type === 'integer' ? int(1, 12) : pick([0.1, 0.01, 1]);
  return s;
}
function string() {
  const s = { type: 'string' };
  const kind = int(0, 4);
  if (kind === 0) s.pattern = pick(patterns);
  if (kind === 1) s.format = pick(formats);
  if (kind === 2) { s.minLength = int(0, 6); s.maxLength = s.minLength + int(0, 9); }
  return s;
}
const scalar = () => pick([null, true, false, 0, 1, -3, 2.5, 'x', 'a"b', 'é', '', [1], { k: 1 }]);
function object(depth) {
  const s = { type: 'object', properties: {} };
  for (let n = int(0, 4); n > 0; n--) s.properties[pick(names)] = schema(depth - 1);
  const keys = Object.keys(s.properties);
  s.required = keys.filter(() => maybe());
  if (maybe(0.5)) s.additionalProperties = pick([false, true, string()]);
  if (maybe(0.1)) s.minProperties = int(0, keys.length);
  if (maybe(0.1)) s.maxProperties = int(s.required.length, 6);
  return s;
}
function array(depth) {
  const s = { type: 'array' };
  if (maybe(0.2)) s.prefixItems = [schema(depth - 1), schema(depth - 1)];
  if (maybe(0.9)) s.items = maybe(0.1) ? false : schema(depth - 1);
  if (maybe(0.4)) { s.minItems = int(0, 3); s.maxItems = s.minItems + int(0, 3); }
  return s;
}
function schema(depth) {
  switch (int(0, depth > 0 ? 13 : 6)) {
    case 0: return { type: pick(['null', 'boolean']) };
    case 1: return number('integer');
    case 2: return number('number');
    case 3: case 4: return string();
    case 5: return { enum: [...new Set([scalar(), scalar(), scalar()])] };
    case 6: return maybe() ? { const: scalar() } : { type: ['string', 'null', pick(['integer', 'boolean'])] };
    case 7: return { anyOf: [schema(depth - 1), schema(depth - 1)] };
    case 8: return { oneOf: [schema(depth - 1), schema(depth - 1)] };
    case 9: return { allOf: [object(depth - 1), object(depth - 1)] };
    case 10: return maybe(0.3) ? {} : { $ref: '#/$defs/node' };
    case 11: return array(depth);
    default: return object(depth);
  }
}

test(`${SCHEMAS} random schemas: every finished output is valid`, { timeout: 200_000 }, () => {
  const schemas = Array.from({ length: SCHEMAS }, () => ({
    ...schema(3),
    $defs: { node: { type: 'object', properties: { v: { type: 'integer' }, next: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/node' }] } },
      required: ['v', 'next'], additionalProperties: false } },
  }));
  const run = spawnSync(`${build}/tools/wk_grammar_sample`, ['deploy/models/millrace-tiny-q8_0.gguf', '4'],
    { input: schemas.map((s) => JSON.stringify(s)).join('\n') + '\n', maxBuffer: 1 << 30, encoding: 'utf8' });
  assert.equal(run.status, 0, run.stderr);
  const lines = run.stdout.trim().split('\n').map((l) => JSON.parse(l));
  assert.equal(lines.length, SCHEMAS);
  let outputs = 0, compiled = 0;
  const wrong = [], refusals = new Map();
  // Without a precision, ajv finds that 0.6 is no multiple of 0.1.
  const ajv = new Ajv({ strict: false, validateSchema: false, logger: false, multipleOfPrecision: 6 });
  addFormats(ajv);
  lines.forEach((line, i) => {
    if (line.error !== undefined) {
      const what = line.error.replace(/ \(at.*/, '').replace(/\d+/g, 'N');
      refusals.set(what, (refusals.get(what) ?? 0) + 1);
      return;
    }
    compiled++;
    if (line.outputs.length === 0) return;
    const valid = ajv.compile(schemas[i]);
    for (const text of line.outputs) {
      outputs++;
      let value;
      try { value = JSON.parse(text); } catch { wrong.push([schemas[i], text, 'not JSON']); continue; }
      if (!valid(value)) wrong.push([schemas[i], text, ajv.errorsText(valid.errors)]);
    }
    ajv.removeSchema(schemas[i]);
  });
  console.log(`# ${compiled} compiled, ${outputs} outputs; refused: ${JSON.stringify([...refusals])}`);
  assert.equal(wrong.length, 0, `${wrong.length} of ${outputs}: ${wrong.slice(0, 5).map((w) => JSON.stringify(w)).join('\n')}`);
  assert.ok(compiled > SCHEMAS / 2 && outputs > SCHEMAS, 'most schemas compile and most texts end');
});
