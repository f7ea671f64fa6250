// What goes wrong during a pull: broken connections, servers that lie, kill -9, a full disk, two at once.
// In each case: one clear line, nothing half-written in blobs/, and the next pull goes on from what is there.
import { test, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { sleep, until } from '../e2e/support.mjs';
import { Scripted, demo, files, ggufOf, has, layerOf, manifestOf, millrace, oneLine, serveBytes, sha256, startNginx, tmpdir } from '../e2e/pull_support.mjs';

const dirs = [];
const models = () => { const d = path.join(tmpdir(), 'models'); dirs.push(path.dirname(d)); return d; };
after(() => dirs.forEach((d) => fs.rmSync(d, { recursive: true, force: true })));

const config = Buffer.from('{}');
const blobs = (dir) => files(path.join(dir, 'blobs'));
const partial = (dir) => files(path.join(dir, 'partial')).filter((f) => !f.endsWith('.json'));
const whole = (dir, ...bytes) => assert.deepEqual(blobs(dir), [...bytes].map((b) => `sha256-${sha256(b)}`).sort());
const MB = 1 << 20;

// { s: scripted server with model m:latest of `bytes`, pull(...more args), at: the blob's path }
async function withModel(bytes, options, body) {
  const s = await Scripted.start(), dir = models();
  const at = s.model('m', 'latest', [['model', bytes]], options)(bytes);
  const pull = (...more) => millrace(['pull', 'm', '--registry', s.url, '--models-dir', dir, ...more]);
  try { await body({ s, dir, at, pull }); } finally { await s.stop(); }
}

test('a connection that breaks again and again: the pull resumes by Range, and no byte is fetched twice', async () => {
  const bytes = ggufOf(5 * MB);
  await withModel(bytes, { blob: (b) => serveBytes(b, b.length > MB ? { cut: Math.floor(1.3 * MB) } : {}) }, async ({ s, dir, at, pull }) => {
    const got = await pull();
    assert.equal(got.code, 0, got.err);
    whole(dir, bytes, config);
    assert.deepEqual(fs.readFileSync(path.join(dir, 'blobs', `sha256-${sha256(bytes)}`)), bytes);
    const ranges = s.of(at).map((r) => r.headers.range ?? 'whole');
    assert.equal(ranges.length, 4);
    assert.equal(ranges[0], 'whole');
    assert.equal(s.sent[at], bytes.length, `sent ${s.sent[at]} bytes in ${ranges}`);
    assert.match(got.err, /the connection ended early; trying again in 0\.5 s \(1 of 6\)/);
  });
});

test('attempts are bounded: a connection that never brings anything new ends the pull, and what came stays', async () => {
  const bytes = ggufOf(2 * MB);
  let open = true;
  await withModel(bytes, { blob: (b) => (req, res) => serveBytes(b, open && b.length > MB ? { cut: req.headers.range ? 0.0001 : MB } : {})(req, res) }, async ({ s, dir, at, pull }) => {
    oneLine(assert, await pull('--retries', '2'), /the model sha256:[0-9a-f]{12}\.\.\.: 127\.0\.0\.1: the connection ended early/);
    assert.equal(s.of(at).length, 3);
    assert.deepEqual(blobs(dir).length, 0);
    assert.equal(fs.statSync(path.join(dir, 'partial', partial(dir)[0])).size, MB);
    open = false;
    const got = await pull();
    assert.equal(got.code, 0, got.err);
    whole(dir, bytes, config);
    assert.equal(s.of(at).at(-1).headers.range, `bytes=${MB}-`);
  });
});

test('kill -9 in mid-pull, three times: each run goes on where the last one was, and the blob is right', async () => {
  const bytes = ggufOf(6 * MB);
  let slow = true;
  await withModel(bytes, { blob: (b) => (req, res) => serveBytes(b, slow && b.length > MB ? { slow: 64 * 1024 } : {})(req, res) }, async ({ s, dir, at, pull }) => {
    let before = 0;
    for (let i = 0; i < 3; i++) {
      const run = pull();
      const file = path.join(dir, 'partial', `sha256-${sha256(bytes)}`);
      await until('bytes come', () => fs.existsSync(file) && fs.statSync(file).size > before + 300000);
      run.child.kill('SIGKILL');
      assert.equal((await run).signal, 'SIGKILL');
      assert.equal(blobs(dir).length, 0, 'nothing half-written in blobs/');
      assert.equal(files(path.join(dir, 'manifests')).length, 0);
      if (i) assert.equal(s.of(at).at(-1).headers.range, `bytes=${before}-`);
      before = fs.statSync(file).size;
    }
    slow = false;
    const asked = s.of(at).length;
    const got = await pull();
    assert.equal(got.code, 0, got.err);
    assert.equal(s.of(at).length, asked + 1);
    assert.equal(s.of(at).at(-1).headers.range, `bytes=${before}-`);
    whole(dir, bytes, config);
    assert.deepEqual(partial(dir), []);
  });
});

test('a blob with a wrong digest leaves nothing; damage in a resumed part is healed by one fresh start', async () => {
  const bytes = ggufOf(2 * MB), other = Buffer.from(bytes);
  other[MB] ^= 1;
  let lie = true;
  await withModel(bytes, { blob: (b) => (req, res) => serveBytes(lie && b === bytes ? other : b)(req, res) }, async ({ s, dir, at, pull }) => {
    oneLine(assert, await pull(), /the SHA-256 [0-9a-f]{16}\.\.\., [0-9a-f]{16}\.\.\. was promised: nothing was kept/);
    assert.deepEqual([blobs(dir), partial(dir)], [[], []]);
    assert.equal(s.of(at).length, 1, 'not fetched again in the hope of something else');
    lie = false;
    fs.writeFileSync(path.join(dir, 'partial', `sha256-${sha256(bytes)}`), other.subarray(0, MB + 1));
    const got = await pull();
    assert.equal(got.code, 0, got.err);
    assert.match(got.err, /the resumed part may be damaged: once more from the start/);
    whole(dir, bytes, config);
    fs.rmSync(path.join(dir, 'blobs', `sha256-${sha256(bytes)}`));
    fs.writeFileSync(path.join(dir, 'partial', `sha256-${sha256(bytes)}`), Buffer.alloc(3 * MB)); // longer than it can be
    assert.equal((await pull()).code, 0);
    whole(dir, bytes, config);
  });
});

test('a server that lies about lengths: announced, sent too much, sent too little, or another range than asked', async () => {
  const bytes = ggufOf(2 * MB);
  const head = (res, status, headers) => res.writeHead(status, headers);
  const lies = [
    ['a longer file announced', (req, res) => { head(res, 200, { 'content-length': bytes.length + 5 }); res.write(bytes); }, /announces a file of 2097157 bytes, 2097152 were promised/],
    ['a shorter file announced', (req, res) => { head(res, 200, { 'content-length': 100 }); res.end(bytes.subarray(0, 100)); }, /announces a file of 100 bytes/],
    ['more sent than promised', (req, res) => { res.write(bytes); res.end('more'); }, /sends more than the 2097152 bytes promised/],
    ['less sent than promised', (req, res) => { res.write(bytes.subarray(0, 5)); res.end(); }, /the body ended 2097147 bytes early/],
    ['a range nobody asked for', (req, res) => { head(res, 206, { 'content-range': 'bytes 7-9/10', 'content-length': 3 }); res.end('abc'); }, /a part of the file, unasked/],
    ['no GGUF file', (req, res) => { res.end(Buffer.alloc(bytes.length, 'x')); }, /no GGUF file; it starts with 'xxxx/],
  ];
  for (const [name, lie, pattern] of lies) {
    await withModel(bytes, { blob: (b) => (b === bytes ? lie : serveBytes(b)) }, async ({ dir, pull }) => {
      const got = await pull('--retries', '1');
      oneLine(assert, got, pattern);
      assert.equal(blobs(dir).length, 0, name);
    });
  }
  await withModel(bytes, { blob: (b) => (req, res) => {
    if (b !== bytes || !req.headers.range) return serveBytes(b, b === bytes ? { cut: MB } : {})(req, res);
    res.writeHead(206, { 'content-range': `bytes 0-${b.length - 1}/${b.length}` });
    res.end(b);
  } }, async ({ dir, pull }) => {
    oneLine(assert, await pull(), /another part of the file than was asked for/);
    assert.equal(blobs(dir).length, 0);
  });
});

test('a server without ranges costs a start from byte 0, not a wrong file', async () => {
  const bytes = ggufOf(2 * MB);
  let first = true;
  await withModel(bytes, { blob: (b) => (req, res) => {
    const cut = first && b.length > MB ? { cut: MB } : {};
    if (b.length > MB) first = false;
    return serveBytes(b, { ranges: false, ...cut })(req, res);
  } }, async ({ dir, pull }) => {
    const got = await pull();
    assert.equal(got.code, 0, got.err);
    assert.match(got.err, /cannot resume: from the start/);
    whole(dir, bytes, config);
  });
});

test('a file behind a URL that changes between two runs is not glued together', async () => {
  const old = ggufOf(2 * MB, 1), now = ggufOf(2 * MB, 9), dir = models();
  const s = await Scripted.start({ '/x.gguf': serveBytes(old, { etag: '"old"', cut: MB }) });
  const pull = () => millrace(['pull', `${s.url}/x.gguf`, '--models-dir', dir, '--retries', '0']);
  try {
    oneLine(assert, await pull(), /connection ended early/);
    s.routes['/x.gguf'] = serveBytes(now, { etag: '"new"' });
    const got = await pull();
    assert.equal(got.code, 0, got.err);
    assert.equal(s.requests.at(-1).headers['if-range'], '"old"');
    whole(dir, now);
    // A server that calls our range impossible.
    s.routes['/z.gguf'] = serveBytes(old, { etag: '"e"', cut: MB });
    const third = () => millrace(['pull', `${s.url}/z.gguf`, '--models-dir', dir, '--retries', '0']);
    await third();
    s.routes['/z.gguf'] = (req, res) => (req.headers.range ? res.writeHead(416).end() : serveBytes(now)(req, res));
    assert.equal((await third()).code, 0);
    whole(dir, now);
    // Without a validator nothing can be resumed safely.
    s.routes['/y.gguf'] = (req, res) => { res.setHeader('content-length', old.length); res.write(old.subarray(0, MB)); setTimeout(() => res.socket.destroy(), 50); };
    const other = () => millrace(['pull', `${s.url}/y.gguf`, '--models-dir', dir, '--retries', '0']);
    await other();
    s.routes['/y.gguf'] = old;
    assert.equal((await other()).code, 0);
    assert.equal(s.requests.at(-1).headers.range, undefined);
    whole(dir, now, old);
  } finally { await s.stop(); }
});

test('kill -9 in mid-pull from nginx: what is sent in both runs adds up to one file', { skip: has('nginx') ? false : 'nginx is not installed' }, async () => {
  const bytes = ggufOf(4 * MB), dir = models(), n = await startNginx('limit_rate_after 512k; limit_rate 1m;');
  try {
    n.put('x.gguf', bytes);
    const args = ['pull', `${n.url}/x.gguf`, '--models-dir', dir];
    const run = millrace(args);
    let file;
    await until('bytes come', () => (file = partial(dir)[0]) && fs.statSync(path.join(dir, 'partial', file)).size > 600000);
    run.child.kill('SIGKILL');
    await run;
    const kept = fs.statSync(path.join(dir, 'partial', file)).size;
    const got = await millrace(args);
    assert.equal(got.code, 0, got.err);
    whole(dir, bytes);
    const [status, sent, range] = n.sent().at(-1).split(' ');
    assert.deepEqual([status, Number(sent), range], ['206', bytes.length - kept, `bytes=${kept}-`]);
  } finally { await n.stop(); }
});

test('two pulls of one model at once: one fetches, the other waits and takes what is there', async () => {
  const bytes = ggufOf(3 * MB);
  await withModel(bytes, { blob: (b) => serveBytes(b, b.length > MB ? { slow: 128 * 1024 } : {}) }, async ({ s, dir, at, pull }) => {
    const runs = [pull(), pull(), pull()];
    await sleep(150);
    const rm = await millrace(['rm', 'm', '--models-dir', dir]);
    assert.match(rm.err, /a pull is under way there/);
    for (const got of await Promise.all(runs)) assert.equal(got.code, 0, got.err);
    assert.equal(s.sent[at], bytes.length);
    whole(dir, bytes, config);
    assert.deepEqual(partial(dir), []);
  });
});

test('kill -9 of the one that fetches: the one that waits goes on from its bytes', async () => {
  const bytes = ggufOf(3 * MB);
  await withModel(bytes, { blob: (b) => serveBytes(b, b.length > MB ? { slow: 64 * 1024 } : {}) }, async ({ s, dir, at, pull }) => {
    const first = pull();
    const file = path.join(dir, 'partial', `sha256-${sha256(bytes)}`);
    await until('bytes come', () => fs.existsSync(file) && fs.statSync(file).size > 300000);
    let says = '';
    const second = millrace(['pull', 'm', '--registry', s.url, '--models-dir', dir], { onErr: (e) => (says = e) });
    await until('it waits', () => /waiting for it/.test(says));
    first.child.kill('SIGKILL');
    const got = await second;
    assert.equal(got.code, 0, got.err);
    assert.match(s.of(at).at(-1).headers.range, /^bytes=[1-9]\d*-$/);
    whole(dir, bytes, config);
  });
});

test('statuses: each is one line; those that may pass are tried again, as Retry-After says', async () => {
  const bytes = ggufOf(1000);
  await withModel(bytes, {}, async ({ s, dir, at, pull }) => {
    const manifest = '/v2/library/m/manifests/latest', good = s.routes[manifest];
    for (const [status, pattern] of [[404, /no such model or tag at .*status 404/], [401, /status 401.*MILLRACE_REGISTRY_TOKEN/], [403, /status 403/],
      [400, /status 400 \(it says: because\)/], [302, /status 302/], [418, /status 418/]]) {
      s.routes[manifest] = (req, res) => { res.statusCode = status; res.end('{"error":"because"}'); };
      const from = s.requests.length;
      oneLine(assert, await pull(), pattern);
      assert.equal(s.requests.length, from + 1, `status ${status} is not tried again`);
    }
    s.routes[manifest] = (req, res) => { res.statusCode = 503; res.end('busy'); };
    let from = s.requests.length;
    oneLine(assert, await pull('--retries', '1'), /status 503/);
    assert.equal(s.requests.length, from + 2);
    s.routes[manifest] = (req, res) => { res.statusCode = 429; res.setHeader('retry-after', '100000'); res.end(); };
    from = s.requests.length;
    oneLine(assert, await pull(), /asks to slow down: status 429/);
    assert.equal(s.requests.length, from + 1, 'nobody waits a day');
    let n = 0;
    s.routes[manifest] = (req, res) => (n++ ? serveBytes(good)(req, res) : (res.writeHead(429, { 'retry-after': '1' }), res.end()));
    const blob = s.routes[at];
    let k = 0;
    s.routes[at] = (req, res) => (k++ ? blob(req, res) : (res.writeHead(500), res.end()));
    const began = Date.now(), got = await pull();
    assert.equal(got.code, 0, got.err);
    assert.ok(Date.now() - began >= 1400);
    whole(dir, bytes, config);
    s.routes[manifest] = (req, res) => { res.writeHead(302, { location: manifest }); res.end(); };
    oneLine(assert, await pull(), /more than 5 redirects/);
    s.routes[manifest] = (req, res) => { res.writeHead(302, { location: 'file:///etc/passwd' }); res.end(); };
    oneLine(assert, await pull(), /redirects to what is not https/);
  });
});

test('a server that stands still is left after the timeout', async () => {
  const bytes = ggufOf(2 * MB);
  await withModel(bytes, { blob: (b) => (req, res) => { res.setHeader('content-length', b.length); res.write(b.subarray(0, 1000)); } }, async ({ pull }) => {
    const began = Date.now();
    oneLine(assert, await pull('--timeout', '1', '--retries', '1'), /nothing came for 1 s/);
    assert.ok(Date.now() - began >= 2500 && Date.now() - began < 10000);
  });
});

test('manifests that are none: too big, broken, another digest, another kind of image', async () => {
  const bytes = ggufOf(1000), dir = models(), s = await Scripted.start();
  const at = '/v2/library/m/manifests/latest';
  const pull = () => millrace(['pull', 'm', '--registry', s.url, '--models-dir', dir, '--retries', '1']);
  const model = layerOf('model', bytes);
  try {
    for (const [answer, pattern] of [
      [Buffer.alloc(5 * MB, ' '), /has 5242880 bytes, more than the 4194304 allowed/],
      [(req, res) => { for (let i = 0; i < 6; i++) res.write(Buffer.alloc(MB, ' ')); res.end(); }, /more than the 4194304 bytes allowed/],
      ['', /manifest: /], ['{"schemaVersion":2,"layers":[', /manifest: /], ['<html>', /manifest: /], ['['.repeat(100), /manifest: /],
      ['{"schemaVersion":2,"manifests":[]}', /several platforms/],
      [manifestOf({ ...model, digest: 'sha256:../../../../etc/passwd' }), /the digest is not sha256/],
      [manifestOf({ ...model, digest: 'sha512:' + 'a'.repeat(128) }), /the digest is not sha256/],
      [manifestOf({ ...model, size: -1 }), /size is no whole number/], [manifestOf({ ...model, size: 1e300 }), /size is no whole number/],
      [manifestOf({ ...model, size: 9e15 }), /has .* free and 9000 TB are needed/],
      [manifestOf(layerOf('template', bytes)), /no model layer/], [manifestOf(model, layerOf('adapter', bytes)), /adapter/],
      [manifestOf(layerOf('tensor', bytes)), /reads GGUF/], [manifestOf(model, { ...model, digest: 'sha256:' + 'a'.repeat(64) }), /2 model layers/],
      [manifestOf(model, { ...layerOf('license', bytes), size: 17 * MB }), /license layer has 17825792 bytes/],
      [(req, res) => { res.setHeader('docker-content-digest', 'sha256:' + 'b'.repeat(64)); res.end(manifestOf(model)); }, /not what the registry's own digest says/],
    ]) {
      s.routes[at] = typeof answer === 'string' ? Buffer.from(answer) : answer;
      oneLine(assert, await pull(), pattern);
    }
    assert.deepEqual([blobs(dir), files(path.join(dir, 'manifests'))], [[], []]);
  } finally { await s.stop(); }
});

test('a full disk: refused before the first byte where the size is known, one line and resumable where not', async (t) => {
  const home = tmpdir();
  try { execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', home], { stdio: 'ignore' }); } catch {
    fs.rmdirSync(home);
    t.skip('a file system can be mounted by root only');
    return;
  }
  const dir = path.join(home, 'models'), bytes = ggufOf(5 * MB), small = ggufOf(MB), s = await Scripted.start();
  try {
    const at = s.model('m', 'latest', [['model', bytes]])(bytes);
    const pull = (...what) => millrace(['pull', '--models-dir', dir, ...what]);
    oneLine(assert, await pull('m', '--registry', s.url), /has 3\.\d MB free and 5\.2 MB are needed: make room, or name another place/);
    assert.equal(s.of(at).length, 0);
    s.routes['/known.gguf'] = bytes;
    oneLine(assert, await pull(`${s.url}/known.gguf`), /free and 5\.2 MB are needed/);
    s.routes['/small.gguf'] = small;
    assert.equal((await pull(`${s.url}/small.gguf`)).code, 0);
    // No length stated: it fills up on the way.
    s.routes['/x.gguf'] = (req, res) => (req.headers.range ? serveBytes(bytes, { etag: '"e"' })(req, res)
      : (res.setHeader('etag', '"e"'), res.write(bytes.subarray(0, 4 * MB)), res.end(bytes.subarray(4 * MB))));
    oneLine(assert, await pull(`${s.url}/x.gguf`), /the disk is full; what came is kept: make room and run the same command again/);
    whole(dir, small);
    execFileSync('mount', ['-o', 'remount,size=20m', home]);
    const got = await pull(`${s.url}/x.gguf`);
    assert.equal(got.code, 0, got.err);
    assert.match(s.of('/x.gguf').at(-1).headers.range, /^bytes=\d{7}-$/);
    whole(dir, small, bytes);
  } finally {
    await s.stop();
    execFileSync('umount', [home]);
    fs.rmdirSync(home);
  }
});

test('a folder that cannot be written, and leftovers: one line each, and rm --partial cleans up', async () => {
  const bytes = ggufOf(2 * MB);
  await withModel(bytes, { blob: (b) => serveBytes(b, b.length > MB ? { cut: MB } : {}) }, async ({ s, dir, pull }) => {
    oneLine(assert, await pull('--retries', '0'), /connection ended early/);
    assert.equal(partial(dir).length, 1);
    const rm = await millrace(['rm', '--partial', '--models-dir', dir]);
    assert.match(rm.out, /removed partial downloads \(1\.0 MB\)/);
    assert.deepEqual(files(path.join(dir, 'partial')), []);
    const file = path.join(path.dirname(dir), 'file');
    fs.writeFileSync(file, '');
    oneLine(assert, await millrace(['pull', 'm', '--registry', s.url, '--models-dir', path.join(file, 'x')]), /cannot create the folder: Not a directory/);
  });
});

test('a blob removed or shortened behind our back: serve says so, the next pull repairs it', async () => {
  const s = await Scripted.start(), dir = models();
  try {
    s.model('m', 'latest', [['model', demo]]);
    const pull = () => millrace(['pull', 'm', '--registry', s.url, '--models-dir', dir]);
    assert.equal((await pull()).code, 0);
    const blob = path.join(dir, 'blobs', `sha256-${sha256(demo)}`);
    fs.truncateSync(blob, 1000);
    const serve = await millrace(['serve', '--listen', '127.0.0.1:0', '--model', 'm', '--models-dir', dir, '--data', path.join(dir, 'data')]);
    assert.equal(serve.code, 2);
    assert.match(serve.err, /--model m: m: its model blob sha256-[0-9a-f]{12}\.\.\. has 1000 bytes instead of \d+; pull it again/);
    assert.equal((await pull()).code, 0);
    assert.deepEqual(fs.readFileSync(blob), demo);
  } finally { await s.stop(); }
});
