// An official MCP server on a port of its own: prints the port, then a line per tool that ran.
import { createServer } from 'node:http';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { z } from 'zod';

const text = text => ({ content: [{ type: 'text', text }] });
const ran = tool => console.log(`ran ${tool}`);

let released = 0;
const waiting = [];
const release = () => (waiting.length > 0 ? waiting.shift()() : released++);
const step = () => (released > 0 ? (released--, Promise.resolve()) : new Promise(go => waiting.push(go)));

function build() {
    const server = new McpServer({ name: 'tools', version: '1' });
    const message = z.object({ message: z.string() });
    server.registerTool('echo', { description: 'Says it again.', inputSchema: message }, args => {
        ran('echo');
        return text(args.message);
    });
    server.registerTool(
        'count',
        { description: 'Goes on only after `release`.', inputSchema: z.object({ steps: z.number().int() }) },
        async ({ steps }, ctx) => {
            ran('count');
            const progressToken = ctx.mcpReq._meta?.progressToken;
            for (let progress = 1; progress <= steps; progress++) {
                const params = { progressToken, progress, total: steps };
                await ctx.mcpReq.notify({ method: 'notifications/progress', params });
                await step();
            }
            return text(`counted to ${steps}`);
        }
    );
    server.registerTool('release', { description: 'One step.', inputSchema: z.object({}) }, () => {
        release();
        return text('released');
    });
    server.registerTool('erase', { description: 'What nobody is granted.', inputSchema: message }, args => {
        ran('erase');
        return text(args.message);
    });
    return server;
}

const listener = createServer(toNodeHandler(createMcpHandler(build)));
listener.listen(0, '127.0.0.1', () => console.log(listener.address().port));
