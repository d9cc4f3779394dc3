/**
 * What defaults/talk.py does, for clients in JavaScript: talk.js CLIENT URL.
 */
import readline from 'node:readline';

const answer = (said, failed = false) => ({ failed, said: typeof said === 'string' ? said : JSON.stringify(said) });

const clients = {
    async ai_sdk(url) {
        const { createMCPClient } = await import('@ai-sdk/mcp');
        const client = await createMCPClient({ transport: { type: 'http', url } });
        const tools = await client.tools();
        return {
            names: Object.keys(tools),
            async call(name, args) {
                const { content, isError } = await tools[name].execute(args, { toolCallId: '1', messages: [] });
                return answer(content[0].text, isError);
            },
            close: () => client.close()
        };
    },

    /** It puts its own name for the server before each tool's. */
    async mastra(url) {
        const { MCPClient } = await import('@mastra/mcp');
        const client = new MCPClient({ servers: { echo: { url: new URL(url) } } });
        const tools = await client.listTools();
        return {
            names: Object.keys(tools).map(name => name.replace(/^echo_/, '')),
            call: async (name, args) => answer(await tools[`echo_${name}`].execute(args, {})),
            close: () => client.disconnect()
        };
    }
};

// Some log to their standard output.
console.log = console.info = console.error;
const [name, url] = process.argv.slice(2);
const { names, call, close } = await clients[name](url);
const print = what => process.stdout.write(JSON.stringify(what) + '\n');
print(names);
for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
        print(await call(...JSON.parse(line)));
    } catch (error) {
        print(answer(error.message, true));
    }
}
await close();
