// Sessions over node:http, as the SDKs' examples keep them: one server and one transport for each, by session id.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

export function serve(makeServer, Transport) {
  const sessions = new Map();
  const http = createServer(async (request, response) => {
    const id = request.headers['mcp-session-id'];
    let transport = id && sessions.get(id);
    if (id && !transport) {
      response.writeHead(404).end();
      return;
    }
    if (!transport) {
      transport = new Transport({
        sessionIdGenerator: randomUUID,
        enableJsonResponse: true,
        onsessioninitialized: (made) => sessions.set(made, transport),
        onsessionclosed: (gone) => sessions.delete(gone),
      });
      await makeServer().connect(transport);
    }
    await transport.handleRequest(request, response);
  });
  http.on('connection', (socket) => socket.setNoDelay(true));
  http.keepAliveTimeout = 3_600_000;
  http.listen(Number(process.argv[2]), '127.0.0.1');
}
