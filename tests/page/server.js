/** A server of its own for each test, and clients that keep it busy. */
import { spawn } from 'node:child_process';
import http from 'node:http';
import net from 'node:net';

export const TOKEN = 'the-operators-token';

/** A port on which nobody listens. */
export async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Server {
  #child;

  constructor(port) {
    this.port = port;
  }

  static async start(variables = {}) {
    const server = new Server(await freePort());
    await server.start(variables);
    return server;
  }

  async start(variables = {}) {
    const env = {
      HOST: '127.0.0.1', PORT: String(this.port), BASE_DOMAIN: 'example.test', ADMIN_TOKEN: TOKEN, LOG_LEVEL: 'warn', ...variables,
    };
    this.#child = spawn(process.env.ECHO_BINARY, [], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.greeting = '';
    this.#child.stderr.on('data', (text) => { this.greeting += text; });
    for (let tries = 0; tries < 100; tries += 1) {
      if (this.#child.exitCode !== null) throw new Error(`the server ended: ${this.greeting}`);
      if (await this.ask(0, 'GET', '/readyz').then(({ status }) => status === 200, () => false)) return;
      await pause(50);
    }
    throw new Error('the server did not become ready');
  }

  signal(name = 'SIGTERM') {
    this.#child.kill(name);
  }

  async ended() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      await new Promise((resolve) => this.#child.once('exit', resolve));
    }
  }

  async stop() {
    this.signal();
    await this.ended();
  }

  /** Where a browser finds an instance, or the front door. */
  url(instance = '', path = '/debug') {
    return `http://echo-stateful${instance}.example.test:${this.port}${path}`;
  }

  /** One request to an instance. */
  ask(instance, method, path, headers = {}, body = undefined) {
    return new Promise((resolve, reject) => {
      const host = `echo-stateful${instance}.example.test`;
      const options = { host: '127.0.0.1', port: this.port, method, path, headers: { host, ...headers } };
      const request = http.request(options, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part) => { text += part; }).on('error', reject)
          .on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }));
      });
      request.on('error', reject).end(body);
    });
  }

  rpc(instance, method, params, session) {
    const headers = { 'content-type': 'application/json', ...(session && { 'mcp-session-id': session }) };
    return this.ask(instance, 'POST', '/mcp', headers, JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }));
  }

  /** Begins a session; what comes back speaks in it. */
  async session(instance, name = 'test', version = '1.0') {
    const params = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name, version } };
    const { headers } = await this.rpc(instance, 'initialize', params);
    const id = headers['mcp-session-id'];
    const call = (tool, args = {}) => this.rpc(instance, 'tools/call', { name: tool, arguments: args }, id);
    const info = JSON.parse((await call('get_session_info')).text);
    return { id, ref: info.result.structuredContent.session_ref, call };
  }

  /** Opens a stream on which the server speaks first; destroy it to close it. */
  listen(instance, id) {
    return new Promise((resolve, reject) => {
      const headers = { host: `echo-stateful${instance}.example.test`, accept: 'text/event-stream', 'mcp-session-id': id };
      const request = http.get({ host: '127.0.0.1', port: this.port, path: '/mcp', headers }, () => resolve(request));
      request.on('error', reject);
    });
  }
}
