// An echo on version 2 of the TypeScript SDK: v2.mjs PORT
import { NodeStreamableHTTPServerTransport } from '@modelcontextprotocol/node';
import { McpServer } from '@modelcontextprotocol/server';
import { z } from 'zod';

import { serve } from './serve.mjs';

serve(() => {
  const server = new McpServer({ name: 'peer', version: '1' });
  const inputSchema = z.object({ message: z.string() });
  server.registerTool('echo', { inputSchema }, ({ message }) => ({ content: [{ type: 'text', text: message }] }));
  return server;
}, NodeStreamableHTTPServerTransport);
