// An echo on version 1 of the TypeScript SDK: v1.mjs PORT
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { z } from 'zod';

import { serve } from './serve.mjs';

serve(() => {
  const server = new McpServer({ name: 'peer', version: '1' });
  const inputSchema = { message: z.string() };
  server.registerTool('echo', { inputSchema }, ({ message }) => ({ content: [{ type: 'text', text: message }] }));
  return server;
}, StreamableHTTPServerTransport);
