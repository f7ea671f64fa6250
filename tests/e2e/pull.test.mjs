// `millrace pull` against a real registry and a real file server, and what is served from it afterwards.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { Gateway, demoModel, sure, until } from './support.mjs';
import { Scripted, certificates, demo, files, ggufOf, has, layerOf, manifestOf, millrace, oneLine, serveBytes, sha256, splitGguf, startNginx, startRegistry, tmpdir } from './pull_support.mjs';

const dirs = [];
const models = () => { const d = path.join(tmpdir(), 'models'); dirs.push(path.dirname(d)); return d; };
after(() => dirs.forEach((d) => fs.rmSync(d, { recursive: true, force: true })));

const noRegistry = has('docker-registry') ? false : 'docker-registry is not installed';
const noNginx = has('nginx') ? false : 'nginx is not installed';
const blobOf = (dir, bytes) => path.join(dir, 'blobs', `sha256-${sha256(bytes)}`);

async function chatIsTheDemoModels(args, name) {
  const g = await Gateway.start({ models: [], args: [...args, '--model', name] });
  try {
    const openai = await g.client();
    const c = sure[0], model = name.split('=')[0];
    const answer = await openai.chat.completions.create({ model, ...c.request });
    assert.equal(answer.choices[0].message.content, c.text.q8_0);
    assert.deepEqual((await openai.models.list()).data.map((m) => m.id), [model]);
  } finally { await g.end(); }
}

test('a model pushed to docker-registry in Ollama\'s layout is pulled, served by its name, and removed', { skip: noRegistry }, async () => {
  const r = await startRegistry(), dir = models();
  try {
    await r.push('tiny', 'q8_0', [['model', demo], ['template', Buffer.from('{{ .Prompt }}')], ['license', Buffer.from('MIT')],
      ['params', Buffer.from('{"stop":["<|im_end|>"],"temperature":0.6}')]]);
    const got = await millrace(['pull', 'tiny:q8_0', '--registry', r.url, '--models-dir', dir]);
    assert.equal(got.code, 0, got.err);
    assert.match(got.out, /^pulled tiny:q8_0 \(\d/);
    assert.match(got.err, /its params layer \(stop, temperature\) is kept, not applied/);
    assert.match(got.err, /its Go template is kept, not used/);
    assert.deepEqual(fs.readFileSync(blobOf(dir, demo)), demo);
    assert.deepEqual(files(path.join(dir, 'partial')), []);
    await chatIsTheDemoModels(['--models-dir', dir], 'tiny:q8_0');
    await chatIsTheDemoModels(['--models-dir', dir], 'other=tiny:q8_0,context=512');
    const again = await millrace(['pull', 'tiny:q8_0'], { env: { MILLRACE_REGISTRY: r.url, MILLRACE_MODELS: dir } });
    assert.match(again.out, /^up to date: tiny:q8_0/, again.err);
    const gone = await millrace(['rm', 'tiny:q8_0', '--models-dir', dir]);
    assert.equal(gone.code, 0, gone.err);
    assert.deepEqual(files(path.join(dir, 'blobs')), []);
    oneLine(assert, await millrace(['pull', 'tiny:none', '--registry', r.url, '--models-dir', dir]),
      /tiny:none: there is no such model or tag at http:.*status 404 \(it says: manifest unknown/);
  } finally { await r.stop(); }
});

test('a GGUF file of a plain URL is pulled, named after its file, and found unchanged the second time', { skip: noNginx }, async () => {
  const n = await startNginx(), dir = models();
  try {
    n.put('Tiny-Q8_0.gguf', demo);
    const args = ['pull', `${n.url}/Tiny-Q8_0.gguf?download=true`, '--models-dir', dir];
    const got = await millrace(args);
    assert.equal(got.code, 0, got.err);
    await chatIsTheDemoModels(['--models-dir', dir], 'Tiny-Q8_0');
    assert.match((await millrace(args)).out, /^up to date: Tiny-Q8_0/);
    assert.match(n.sent().at(-1), /^304 0 /);
    n.put('Tiny-Q8_0.gguf', ggufOf(5000));
    assert.match((await millrace(args)).out, /^pulled Tiny-Q8_0 \(5\.0 kB\)/);
    // Something else under the same name is refused, another name is taken.
    n.put('other.gguf', ggufOf(100));
    oneLine(assert, await millrace(['pull', `${n.url}/other.gguf`, '--as', 'Tiny-Q8_0', '--models-dir', dir]), /'Tiny-Q8_0' is here already, from http/);
    assert.equal((await millrace(['pull', `${n.url}/other.gguf`, '--as', 'mine:1', '--models-dir', dir])).code, 0);
    oneLine(assert, await millrace(['pull', `${n.url}/none.gguf`, '--models-dir', dir]), /none\.gguf: 127\.0\.0\.1 does not have it: status 404/);
    n.put('page.gguf', '<!DOCTYPE html><p>please log in');
    oneLine(assert, await millrace(['pull', `${n.url}/page.gguf`, '--models-dir', dir]), /no GGUF file; it starts with '<!DOCTYPE ht'/);
    n.put('empty.gguf', '');
    oneLine(assert, await millrace(['pull', `${n.url}/empty.gguf`, '--models-dir', dir]), /no GGUF file/);
    oneLine(assert, await millrace(['pull', `${n.url}/other.gguf`, '--as', 'b', '--sha256', 'a'.repeat(64), '--models-dir', dir]), /was promised|not aaaa/);
    assert.deepEqual(files(path.join(dir, 'partial')).filter((f) => !f.endsWith('.json')), []);
  } finally { await n.stop(); }
});

test('all parts of a split file are pulled from the URL of any of them, find each other, and are served', { skip: noNginx }, async () => {
  const n = await startNginx(), dir = models();
  try {
    const parts = [1, 2, 3].map((i) => ggufOf(1000 * i, i));
    parts.forEach((b, i) => n.put(`big-0000${i + 1}-of-00003.gguf`, b));
    const got = await millrace(['pull', `${n.url}/big-00002-of-00003.gguf`, '--models-dir', dir]);
    assert.equal(got.code, 0, got.err);
    assert.match(got.out, /^pulled big \(6\.0 kB\)/);
    const links = path.join(dir, 'splits', sha256(parts[0]));
    parts.forEach((b, i) => assert.deepEqual(fs.readFileSync(path.join(links, `big-0000${i + 1}-of-00003.gguf`)), b));
    splitGguf(demo).forEach((b, i) => n.put(`tiny-0000${i + 1}-of-00002.gguf`, b));
    assert.equal((await millrace(['pull', `${n.url}/tiny-00001-of-00002.gguf`, '--models-dir', dir])).code, 0);
    await chatIsTheDemoModels(['--models-dir', dir], 'tiny');
    assert.equal((await millrace(['rm', 'tiny', '--models-dir', dir])).code, 0);
    fs.rmSync(path.join(n.dir, 'files/big-00003-of-00003.gguf'));
    oneLine(assert, await millrace(['pull', `${n.url}/big-00001-of-00003.gguf`, '--as', 'again', '--models-dir', dir]), /big-00003-of-00003\.gguf: .*404/);
    const gone = await millrace(['rm', 'big', '--models-dir', dir]);
    assert.equal(gone.code, 0, gone.err);
    assert.deepEqual([files(path.join(dir, 'blobs')), files(path.join(dir, 'splits'))], [[], []]);
  } finally { await n.stop(); }
});

test('an Ollama folder is served from in place and never written', async () => {
  const home = tmpdir(), dir = path.join(home, 'models');
  dirs.push(home);
  const at = path.join(dir, 'manifests/registry.ollama.ai/library/tiny');
  fs.mkdirSync(at, { recursive: true });
  fs.mkdirSync(path.join(dir, 'blobs'));
  fs.writeFileSync(path.join(at, 'q8_0'), manifestOf(layerOf('model', demo), layerOf('template', Buffer.from('x'))));
  fs.copyFileSync(demoModel, blobOf(dir, demo));
  const before_ = JSON.stringify(fs.readdirSync(dir, { recursive: true }).sort());
  fs.chmodSync(path.join(dir, 'blobs'), 0o555);
  await chatIsTheDemoModels(['--models-dir', models(), '--ollama-models', dir], 'tiny:q8_0');
  fs.chmodSync(path.join(dir, 'blobs'), 0o755);
  assert.equal(JSON.stringify(fs.readdirSync(dir, { recursive: true }).sort()), before_);
});

test('a token goes to the registry and not to where it redirects; without one an anonymous one is asked for', async () => {
  const dir = models(), files_ = await Scripted.start(), r = await Scripted.start();
  const bytes = ggufOf(3000);
  try {
    const at = r.model('private', 'latest', [['model', bytes]]);
    files_.routes['/there'] = bytes;
    const serve = r.routes[at(bytes)], manifest = r.routes['/v2/library/private/manifests/latest'];
    const guard = (token, then) => (req, res) => {
      if (req.headers.authorization === `Bearer ${token}`) return typeof then === 'function' ? then(req, res) : serveBytes(then)(req, res);
      res.statusCode = 401;
      res.setHeader('www-authenticate', `Bearer realm="${r.url}/token",service="reg",scope="repository:library/private:pull"`);
      res.end('{"errors":[{"message":"authentication required"}]}');
    };
    const redirect = (req, res) => { res.writeHead(307, { location: `${files_.url}/there` }); res.end(); };
    const setup = (token) => {
      r.routes['/v2/library/private/manifests/latest'] = guard(token, manifest);
      r.routes[at(bytes)] = guard(token, redirect);
      r.routes[at(Buffer.from('{}'))] = guard(token, Buffer.from('{}'));
    };
    void serve;
    setup('mine');
    const base = ['pull', 'private', '--registry', r.url, '--models-dir', dir];
    const got = await millrace(base, { env: { MILLRACE_REGISTRY_TOKEN: 'mine' } });
    assert.equal(got.code, 0, got.err);
    assert.deepEqual(files_.of('/there').map((q) => q.headers.authorization), [undefined]);
    oneLine(assert, await millrace(base, { env: { MILLRACE_REGISTRY_TOKEN: 'wrong' } }), /MILLRACE_REGISTRY_TOKEN is not good for it/);
    oneLine(assert, await millrace(base), /set MILLRACE_REGISTRY_TOKEN/);
    // The realm hands out a token for everybody.
    fs.rmSync(dir, { recursive: true });
    setup('anybody');
    r.routes['/token'] = Buffer.from('{"token":"anybody"}');
    const anonymous = await millrace(base);
    assert.equal(anonymous.code, 0, anonymous.err);
    assert.match(r.of('/token').at(-1).url, /service=reg&scope=repository:library\/private:pull/);
  } finally { await r.stop(); await files_.stop(); }
});

test('TLS is verified, --ca-file names an authority, and a redirect never leaves https', async (t) => {
  const dir = models(), keys = tmpdir();
  dirs.push(keys);
  const c = certificates(keys);
  if (!c) { t.skip('openssl is not installed'); return; }
  const s = await Scripted.start({}, { tls: c.tls }), plain = await Scripted.start();
  try {
    const bytes = ggufOf(2000);
    s.routes['/a.gguf'] = bytes;
    plain.routes['/a.gguf'] = bytes;
    s.routes['/down.gguf'] = (req, res) => { res.writeHead(302, { location: `${plain.url}/a.gguf` }); res.end(); };
    oneLine(assert, await millrace(['pull', `${s.url}/a.gguf`, '--models-dir', dir]), /certificate cannot be verified.*--ca-file/);
    const got = await millrace(['pull', `${s.url}/a.gguf`, '--models-dir', dir, '--ca-file', c.ca]);
    assert.equal(got.code, 0, got.err);
    oneLine(assert, await millrace(['pull', `${s.url}/down.gguf`, '--models-dir', dir, '--ca-file', c.ca]), /redirects to what is not https/);
    assert.equal(plain.requests.length, 0);
  } finally { await s.stop(); await plain.stop(); }
});

test('http is for this machine; a proxy of the environment is used', async () => {
  const dir = models(), bytes = ggufOf(2000);
  const proxy = await Scripted.start({ '*': serveBytes(bytes) });
  try {
    oneLine(assert, await millrace(['pull', 'http://models.test/a.gguf', '--models-dir', dir]), /plain http .*--insecure-http/);
    oneLine(assert, await millrace(['pull', 'x', '--registry', 'http://models.test', '--models-dir', dir]), /plain http/);
    const got = await millrace(['pull', 'http://models.test/a.gguf', '--insecure-http', '--models-dir', dir], { env: { http_proxy: proxy.url } });
    assert.equal(got.code, 0, got.err);
    assert.equal(proxy.requests[0].url, 'http://models.test/a.gguf');
  } finally { await proxy.stop(); }
});

test('Hugging Face: the stated digest is checked, and HF_ENDPOINT names a mirror', async () => {
  const dir = models(), bytes = ggufOf(4000), cdn = await Scripted.start({ '/blob': bytes }), hub = await Scripted.start();
  try {
    const linked = (hex) => (req, res) => { res.writeHead(302, { location: `${cdn.url}/blob`, 'x-linked-etag': `"${hex}"` }); res.end(); };
    hub.routes['/u/r/resolve/main/good.gguf'] = linked(sha256(bytes));
    hub.routes['/u/r/resolve/main/bad.gguf'] = linked('0'.repeat(64));
    assert.equal((await millrace(['pull', `${hub.url}/u/r/resolve/main/good.gguf`, '--models-dir', dir])).code, 0);
    fs.rmSync(dir, { recursive: true });
    oneLine(assert, await millrace(['pull', `${hub.url}/u/r/resolve/main/bad.gguf`, '--models-dir', dir]), /0000000000000000\.\.\. was promised: nothing was kept/);
    assert.deepEqual(files(path.join(dir, 'blobs')), []);
    hub.model('u/r', 'Q8_0', [['model', bytes]]);
    const got = await millrace(['pull', 'hf.co/u/r:Q8_0', '--models-dir', dir], { env: { HF_ENDPOINT: hub.url, HF_TOKEN: 'hft' } });
    assert.match(got.out, /^pulled hf\.co\/u\/r:Q8_0/, got.err);
    assert.equal(hub.requests.at(-1).headers.authorization, 'Bearer hft');
    await until('listed', () => fs.existsSync(path.join(dir, 'manifests/hf.co/u/r/Q8_0')));
  } finally { await hub.stop(); await cdn.stop(); }
});

test('a terminal gets a bar that repaints itself, a log gets lines', { skip: has('script') ? false : 'script (util-linux) is not installed' }, async () => {
  const s = await Scripted.start({ '/x.gguf': serveBytes(ggufOf(3 << 20), { slow: 64 * 1024 }) });
  try {
    const line = (await millrace(['pull', `${s.url}/x.gguf`, '--models-dir', models()])).err;
    assert.ok(!line.includes('\r') && !line.includes('\x1b'), JSON.stringify(line));
    const shown = await millrace(['pull', `${s.url}/x.gguf`, '--as', 'tty', '--models-dir', models()], { terminal: true });
    assert.equal(shown.code, 0, shown.out);
    assert.match(shown.out, /\rx\.gguf {2} *\d+ % #+\.+ .* of 3\.1 MB/);
    assert.match(shown.out, /\npulled tty \(3\.1 MB\)/);
  } finally { await s.stop(); }
});

test('unusable arguments and names are one line', async () => {
  const dir = models();
  for (const [args, pattern, code] of [
    [[], /no model is named/, 2], [['a', 'b'], /one name at a time/, 2], [['--frob', 'a'], /unknown option --frob/, 2],
    [['a', '--as'], /no value after --as/, 2], [['a', '--retries', 'many'], /--retries/, 2], [['a', '--sha256', 'xyz'], /64 lowercase/, 2],
    [['a', '--ca-file', '/nonexistent'], /--ca-file/, 2], [['../../etc/passwd'], /is no name of a model/, 1], [['a:../../b'], /is no name/, 1],
    [['ok', '--as', '../x'], /is no name/, 1], [['https://u:p@h/x.gguf'], /credentials/, 1], [['https://h/x.bin'], /does not name a GGUF file/, 1],
    [['hf.co/a/b', '--registry', 'https://h'], /leave it or --registry out/, 1], [['a', '--registry', 'ftp://h'], /only https/, 1],
    [['a', '--registry', 'https://h/?x'], /expected https/, 1], [['a', '--registry', 'http://127.0.0.1:1'], /127\.0\.0\.1: /, 1],
  ]) oneLine(assert, await millrace(['pull', '--models-dir', dir, ...args]), pattern, code);
});
