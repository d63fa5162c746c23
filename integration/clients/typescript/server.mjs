// An official MCP server (2.x) on a port of its own: prints the port, then a line per tool that ran.
//
// server.mjs --stdio FILE: speaks on its standard input instead, and says in FILE what ran.
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { completable, createMcpHandler, McpServer, ResourceTemplate } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { z } from 'zod';

const text = text => ({ content: [{ type: 'text', text }] });
const stdio = process.argv[2] === '--stdio' && process.argv[3];
function ran(tool, message) {
    const line = `ran ${tool} ${message}`;
    if (stdio) appendFileSync(stdio, `${line}\n`);
    else console.log(line);
}

const released = new Map(); // who => [how many more steps, who waits for one]
const gate = who => released.get(who) ?? released.set(who, { more: 0, waiting: [] }).get(who);
function release(who) {
    const { waiting } = gate(who);
    if (waiting.length > 0) waiting.shift()();
    else gate(who).more++;
}
function step(who) {
    if (gate(who).more === 0) return new Promise(go => gate(who).waiting.push(go));
    gate(who).more--;
    return Promise.resolve();
}

function tools(server) {
    const message = z.object({ message: z.string() });
    const saying = (name, description) =>
        server.registerTool(name, { description, inputSchema: message }, args => {
            ran(name, args.message);
            return text(args.message);
        });
    saying('echo', 'Says it again.');
    saying('vanish', 'Only says it again here.');
    saying('erase', 'What nobody is granted.');
    server.registerTool(
        'count',
        {
            description: 'Goes on only after `release`.',
            inputSchema: z.object({ steps: z.number().int(), who: z.string() })
        },
        async ({ steps, who }, ctx) => {
            ran('count', who);
            const progressToken = ctx.mcpReq._meta?.progressToken;
            for (let progress = 1; progress <= steps; progress++) {
                const params = { progressToken, progress, total: steps };
                await ctx.mcpReq.notify({ method: 'notifications/progress', params });
                await step(who);
            }
            return text(`counted to ${steps}`);
        }
    );
    server.registerTool('release', { description: 'One step.', inputSchema: z.object({ who: z.string() }) }, args => {
        release(args.who);
        return text('released');
    });
    server.registerTool('announce', { description: 'Has nobody to tell.', inputSchema: z.object({}) }, () =>
        text('announced')
    );
}

function others(server) {
    const contents = (uri, text) => ({ contents: [{ uri: uri.href, mimeType: 'text/plain', text }] });
    server.registerResource('today', 'note://today', { description: 'A note.' }, uri => contents(uri, 'a note'));
    server.registerResource('secret', 'note://secret', { description: 'What nobody is granted.' }, uri => {
        ran('read', uri.href);
        return contents(uri, 'a secret');
    });
    const books = new ResourceTemplate('book://{title}', { list: undefined });
    server.registerResource('book', books, { description: 'Any book.' }, (uri, { title }) =>
        contents(uri, `the book ${title}`)
    );
    const names = value => ['Ada', 'Alan', 'Grace'].filter(name => name.startsWith(value));
    const argsSchema = z.object({ name: completable(z.string(), names) });
    server.registerPrompt('greet', { description: 'Asks for a greeting.', argsSchema }, ({ name }) => ({
        messages: [{ role: 'user', content: { type: 'text', text: `Greet ${name}.` } }]
    }));
}

function build() {
    const server = new McpServer({ name: 'tools', version: '1' });
    tools(server);
    others(server);
    return server;
}

if (stdio) {
    serveStdio(build);
} else {
    const listener = createServer(toNodeHandler(createMcpHandler(build)));
    listener.listen(0, '127.0.0.1', () => console.log(listener.address().port));
}
