// pull_support.mjs - registries and file servers for the tests of `millrace pull`: real ones, and one that misbehaves on demand.
import { spawn, execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { build, demoModel, root, until } from './support.mjs';

export const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');
export const demo = fs.readFileSync(demoModel);
export const ggufOf = (n, seed = 1) => { // bytes that begin as a GGUF file does and repeat nowhere
  const b = Buffer.alloc(n);
  for (let i = 0, x = seed; i + 4 <= n; i += 4) b.writeUInt32LE((x = (Math.imul(x, 1664525) + 1013904223) >>> 0), i);
  b.write('GGUF');
  return b;
};

const types = 'application/vnd.ollama.image.';
export const layerOf = (kind, bytes, more = {}) =>
  ({ mediaType: kind.includes('/') ? kind : types + kind, digest: `sha256:${sha256(bytes)}`, size: bytes.length, ...more });
export const manifestOf = (...layers) => JSON.stringify({
  schemaVersion: 2, mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
  config: layerOf('application/vnd.docker.container.image.v1+json', Buffer.from('{}')), layers,
});

export const has = (program) => {
  try { return execFileSync('sh', ['-c', `command -v ${program} || ls /usr/sbin/${program}`], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim(); }
  catch { return null; }
};

export const tmpdir = () => fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-pull-'));

// The environment of the tests: no proxy, no token of whoever runs them.
export function cleanEnv(more = {}) {
  const env = { ...process.env };
  for (const k of Object.keys(env)) if (/proxy$|^HF_|^MILLRACE_(REG|URL|MODELS|DATA)|^OLLAMA_/i.test(k)) delete env[k];
  return { ...env, ...more };
}

// One run of the program: { code, signal, out, err }; `child` at once.
export function millrace(args, { env = {}, onErr, terminal } = {}) {
  const program = path.join(build, 'millrace');
  // script(1) gives it a terminal; all that it prints is in `out` then.
  const [run, words] = terminal ? ['script', ['-qec', [program, ...args].join(' '), '/dev/null']] : [program, args];
  const child = spawn(run, words, { cwd: root, env: cleanEnv(env), stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '', err = '';
  child.stdout.on('data', (d) => (out += d));
  child.stderr.on('data', (d) => { err += d; onErr?.(err); });
  const done = new Promise((resolve) => child.on('close', (code, signal) => {
    if (/AddressSanitizer|runtime error:/.test(err)) throw new Error(err);
    resolve({ code, signal, out, err });
  }));
  done.child = child;
  return done;
}

export const files = (dir) => (fs.existsSync(dir) ? fs.readdirSync(dir).sort() : []);
// The error is one line that names the program; it is the last thing said.
export function oneLine(assert, result, pattern, code = 1) {
  const last = result.err.trimEnd().split('\n').at(-1);
  assert.equal(result.code, code, result.err);
  assert.match(last, /^millrace pull: /);
  assert.match(last, pattern);
}

// A server whose answers a test writes: routes by path; counts body bytes that left it, by path.
export class Scripted {
  static async start(routes = {}, { tls } = {}) {
    const s = new Scripted();
    s.routes = routes;
    s.requests = [];
    s.sent = {};
    const handler = (req, res) => {
      const at = req.url.split('?')[0];
      s.requests.push({ path: at, url: req.url, headers: req.headers });
      const write = res.write.bind(res), end = res.end.bind(res);
      const count = (b) => { if (b?.length) s.sent[at] = (s.sent[at] ?? 0) + b.length; };
      res.write = (b, ...r) => { count(b); return write(b, ...r); };
      res.end = (b, ...r) => { if (typeof b !== 'function') count(b); return end(b, ...r); };
      const route = s.routes[at] ?? s.routes['*'];
      if (!route) { res.statusCode = 404; res.end('{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}'); return; }
      Promise.resolve(typeof route === 'function' ? route(req, res, s) : serveBytes(route)(req, res)).catch((e) => res.destroy(e));
    };
    const { createServer } = tls ? await import('node:https') : http;
    s.server = tls ? createServer(tls, handler) : createServer(handler);
    await new Promise((r) => s.server.listen(0, '127.0.0.1', r));
    s.port = s.server.address().port;
    s.url = `${tls ? 'https' : 'http'}://127.0.0.1:${s.port}`;
    return s;
  }
  of(at) { return this.requests.filter((r) => r.path === at); }
  stop() { this.server.closeAllConnections(); return new Promise((r) => this.server.close(r)); }

  // Routes of a model in a registry's layout; `blob` may replace how blobs are served.
  model(name, tag, layers, { blob = (bytes) => serveBytes(bytes), manifest } = {}) {
    const full = name.includes('/') ? name : `library/${name}`;
    const text = manifest ?? manifestOf(...layers.map(([kind, bytes, more]) => layerOf(kind, bytes, more)));
    this.routes[`/v2/${full}/manifests/${tag}`] = Buffer.from(text);
    for (const [, bytes] of [...layers, ['config', Buffer.from('{}')]])
      this.routes[`/v2/${full}/blobs/sha256:${sha256(bytes)}`] = blob(bytes);
    return (bytes) => `/v2/${full}/blobs/sha256:${sha256(bytes)}`;
  }
}

// Serves bytes as a good file server does: Range, If-Range, ETag.
export function serveBytes(bytes, { etag, cut, ranges = true, slow } = {}) {
  return async (req, res) => {
    const tag = etag ?? `"${sha256(bytes).slice(0, 16)}"`;
    const wanted = ranges ? /^bytes=(\d+)-$/.exec(req.headers.range ?? '') : null;
    let from = wanted && (!req.headers['if-range'] || req.headers['if-range'] === tag) ? Number(wanted[1]) : 0;
    if (tag) res.setHeader('etag', tag);
    if (tag && req.headers['if-none-match'] === tag) { res.statusCode = 304; res.end(); return; }
    if (from >= bytes.length && from > 0) { res.statusCode = 416; res.end(); return; }
    if (from) { res.statusCode = 206; res.setHeader('content-range', `bytes ${from}-${bytes.length - 1}/${bytes.length}`); }
    res.setHeader('content-length', bytes.length - from);
    const body = bytes.subarray(from);
    if (cut) { // the connection breaks after so many bytes
      res.write(body.subarray(0, cut));
      await new Promise((r) => setTimeout(r, 30));
      res.socket.destroy();
      return;
    }
    if (slow) { // so many bytes every 20 ms
      for (let i = 0; i < body.length && !res.destroyed; i += slow) {
        res.write(body.subarray(i, i + slow));
        await new Promise((r) => setTimeout(r, 20));
      }
      res.end();
      return;
    }
    res.end(body);
  };
}

function freePort() {
  return new Promise((resolve) => {
    const s = net.createServer();
    s.listen(0, '127.0.0.1', () => { const { port } = s.address(); s.close(() => resolve(port)); });
  });
}

async function spawned(program, args, url) {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (d) => (log += d));
  const exited = new Promise((r) => child.on('exit', () => r(true)));
  child.on('error', (e) => (log += e));
  await until(`${program} answers`, async () => {
    if (child.exitCode !== null) throw new Error(`${program} ended: ${log}`);
    return fetch(url).then(() => true, () => false);
  });
  return { child, stop: async () => { child.kill('SIGTERM'); setTimeout(() => child.kill('SIGKILL'), 3000).unref(); await exited; } };
}

// Debian's docker-registry, storing in a folder of its own.
export async function startRegistry() {
  const dir = tmpdir(), port = await freePort(), url = `http://127.0.0.1:${port}`;
  fs.writeFileSync(path.join(dir, 'config.yml'), [
    'version: 0.1', 'log: {level: error, accesslog: {disabled: true}}', `storage: {filesystem: {rootdirectory: ${dir}/data}}`,
    `http: {addr: '127.0.0.1:${port}', secret: tests}`, ''].join('\n'));
  const p = await spawned(has('docker-registry'), ['serve', path.join(dir, 'config.yml')], `${url}/v2/`);
  const push = async (name, tag, layers) => {
    const full = name.includes('/') ? name : `library/${name}`;
    for (const [, bytes] of [...layers, ['config', Buffer.from('{}')]]) {
      const begun = await fetch(`${url}/v2/${full}/blobs/uploads/`, { method: 'POST' });
      const at = new URL(begun.headers.get('location'), url);
      at.searchParams.set('digest', `sha256:${sha256(bytes)}`);
      const put = await fetch(at, { method: 'PUT', body: bytes, headers: { 'content-type': 'application/octet-stream' } });
      if (put.status !== 201) throw new Error(`blob: ${put.status} ${await put.text()}`);
    }
    const put = await fetch(`${url}/v2/${full}/manifests/${tag}`, {
      method: 'PUT', body: manifestOf(...layers.map(([kind, bytes, more]) => layerOf(kind, bytes, more))),
      headers: { 'content-type': 'application/vnd.docker.distribution.manifest.v2+json' } });
    if (put.status !== 201) throw new Error(`manifest: ${put.status} ${await put.text()}`);
  };
  return { url, dir, push, stop: async () => { await p.stop(); fs.rmSync(dir, { recursive: true, force: true }); } };
}

// nginx over a folder; `location` holds more directives.
export async function startNginx(location = '') {
  const dir = tmpdir(), port = await freePort();
  fs.mkdirSync(path.join(dir, 'files'));
  fs.chmodSync(dir, 0o755); // its workers may run as somebody else
  const conf = `daemon off; master_process off; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 64; }
http { access_log ${dir}/access.log; client_body_temp_path ${dir}/t1; proxy_temp_path ${dir}/t2; fastcgi_temp_path ${dir}/t3;
  uwsgi_temp_path ${dir}/t4; scgi_temp_path ${dir}/t5;
  log_format sent '$status $body_bytes_sent $http_range $uri'; access_log ${dir}/sent.log sent;
  server { listen 127.0.0.1:${port}; location / { root ${dir}/files; ${location} } } }\n`;
  fs.writeFileSync(path.join(dir, 'nginx.conf'), conf);
  const p = await spawned(has('nginx'), ['-e', `${dir}/error.log`, '-c', path.join(dir, 'nginx.conf')], `http://127.0.0.1:${port}/`);
  return {
    url: `http://127.0.0.1:${port}`, dir, put: (name, bytes) => fs.writeFileSync(path.join(dir, 'files', name), bytes),
    sent: () => fs.readFileSync(path.join(dir, 'sent.log'), 'utf8').trim().split('\n').filter((l) => !l.endsWith(' /')),
    stop: async () => { await p.stop(); fs.rmSync(dir, { recursive: true, force: true }); },
  };
}

// A certificate authority and a certificate for 127.0.0.1, by openssl; null where it is missing.
export function certificates(dir) {
  if (!has('openssl')) return null;
  const run = (...a) => execFileSync('openssl', a, { cwd: dir, stdio: 'ignore' });
  run('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=test authority');
  run('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'key.pem', '-out', 'req.pem', '-subj', '/CN=127.0.0.1');
  fs.writeFileSync(path.join(dir, 'ext'), 'subjectAltName=IP:127.0.0.1\n');
  run('x509', '-req', '-in', 'req.pem', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', 'cert.pem', '-days', '2', '-extfile', 'ext');
  return { ca: path.join(dir, 'ca.pem'), tls: { key: fs.readFileSync(path.join(dir, 'key.pem')), cert: fs.readFileSync(path.join(dir, 'cert.pem')) } };
}

// A GGUF file cut into two parts, as gguf-split writes them (split.no, split.count, split.tensors.count; GGUF's own spec for the rest).
export function splitGguf(b) {
  let at = 8;
  const u64 = () => Number(b.readBigUInt64LE((at += 8) - 8));
  const u32 = () => b.readUInt32LE((at += 4) - 4);
  const text = () => { const n = u64(); return b.toString('utf8', at, (at += n)); };
  const width = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
  const skip = (type) => {
    if (type === 8) text();
    else if (type === 9) { const inner = u32(), n = u64(); for (let i = 0; i < n; i++) skip(inner); }
    else at += width[type];
  };
  const nTensors = u64(), nKeys = u64(), keysAt = at;
  let align = 32;
  for (let i = 0; i < nKeys; i++) {
    const key = text(), type = u32();
    if (key === 'general.alignment') align = b.readUInt32LE(at);
    skip(type);
  }
  const keys = b.subarray(keysAt, at), tensors = [];
  for (let i = 0; i < nTensors; i++) {
    const begin = at;
    text();
    const dims = u32();
    at += 8 * dims + 4;
    tensors.push({ info: b.subarray(begin, at), offset: u64() });
  }
  const pad = (n) => Math.ceil(n / align) * align, dataAt = pad(at);
  tensors.forEach((t, i) => (t.data = b.subarray(dataAt + t.offset, i + 1 < nTensors ? dataAt + tensors[i + 1].offset : b.length)));
  const n64 = (v) => { const x = Buffer.alloc(8); x.writeBigUInt64LE(BigInt(v)); return x; };
  const n32 = (v) => { const x = Buffer.alloc(4); x.writeUInt32LE(v); return x; };
  const n16 = (v) => { const x = Buffer.alloc(2); x.writeUInt16LE(v); return x; };
  const key = (name, type, value) => Buffer.concat([n64(name.length), Buffer.from(name), n32(type), value]);
  const half = Math.floor(nTensors / 2);
  return [tensors.slice(0, half), tensors.slice(half)].map((own, no) => {
    const head = [Buffer.from('GGUF'), b.subarray(4, 8), n64(own.length), n64((no ? 0 : nKeys) + 3), ...(no ? [] : [keys]),
      key('split.no', 2, n16(no)), key('split.count', 2, n16(2)), key('split.tensors.count', 5, n32(nTensors))];
    const data = [];
    let offset = 0;
    for (const t of own) {
      head.push(t.info, n64(offset));
      data.push(t.data, Buffer.alloc(pad(t.data.length) - t.data.length));
      offset += pad(t.data.length);
    }
    const top = Buffer.concat(head);
    return Buffer.concat([top, Buffer.alloc(pad(top.length) - top.length), ...data]);
  });
}
