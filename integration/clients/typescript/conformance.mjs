// An official MCP server (SDK 1.x, sessions, replayed streams) with what the conformance suite asks a server
// to have; names, arguments and answers are the suite's. Prints its port.
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import * as types from '@modelcontextprotocol/sdk/types.js';

const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
const wav = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=';

const text = text => ({ type: 'text', text });
const image = { type: 'image', data: png, mimeType: 'image/png' };
const embedded = (uri, mimeType, text) => ({ type: 'resource', resource: { uri, mimeType, text } });
const object = (properties = {}, required = Object.keys(properties)) => ({ type: 'object', properties, required });
const string = description => ({ type: 'string', description });
const choices = (key, ...titled) => titled.map(([value, title]) => ({ [key]: value, title }));

const elicit = (extra, message, requestedSchema) =>
    extra.sendRequest({ method: 'elicitation/create', params: { message, requestedSchema } }, types.ElicitResultSchema);
const elicited = ({ action, content }) =>
    text(`Elicitation completed: action=${action}, content=${JSON.stringify(content)}`);

const defaults = object(
    {
        name: { type: 'string', default: 'John Doe' },
        age: { type: 'integer', default: 30 },
        score: { type: 'number', default: 95.5 },
        status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
        verified: { type: 'boolean', default: true }
    },
    []
);
const plain = { type: 'string', enum: ['option1', 'option2', 'option3'] };
const enums = object(
    {
        untitledSingle: plain,
        titledSingle: { type: 'string', oneOf: choices('const', ['value1', 'First'], ['value2', 'Second']) },
        legacyEnum: { type: 'string', enum: ['opt1', 'opt2'], enumNames: ['Option One', 'Option Two'] },
        untitledMulti: { type: 'array', items: plain },
        titledMulti: {
            type: 'array',
            items: { anyOf: choices('const', ['value1', 'First'], ['value2', 'Second']) }
        }
    },
    []
);

async function logs(_, extra) {
    for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
        await extra.sendNotification({ method: 'notifications/message', params: { level: 'info', data } });
        await pause(50);
    }
    return [text('logged')];
}

async function progresses(_, extra) {
    const progressToken = extra._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
        const params = { progressToken, progress, total: 100 };
        if (progressToken !== undefined) await extra.sendNotification({ method: 'notifications/progress', params });
        await pause(50);
    }
    return [text('done')];
}

async function samples({ prompt }, extra) {
    const messages = [{ role: 'user', content: text(prompt) }];
    const request = { method: 'sampling/createMessage', params: { messages, maxTokens: 100 } };
    const { content } = await extra.sendRequest(request, types.CreateMessageResultSchema);
    return [text(`LLM response: ${content.text}`)];
}

async function elicits({ message }, extra) {
    const schema = object({ username: string("User's response"), email: string("User's email address") });
    const { action, content } = await elicit(extra, message, schema);
    return [text(`User response: action: ${action}, content: ${JSON.stringify(content)}`)];
}

async function reconnects(_, extra) {
    extra.closeSSEStream?.();
    await pause(100);
    return [text('resumed')];
}

const dialect = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    $defs: { address: { type: 'object', properties: { street: { type: 'string' }, city: { type: 'string' } } } },
    properties: { name: { type: 'string' }, address: { $ref: '#/$defs/address' } },
    additionalProperties: false
};
const mixed = embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}');
const within = embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.');
const fails = () => Promise.reject(new Error('This tool intentionally returns an error for testing'));

const tools = {
    test_simple_text: { run: () => [text('This is a simple text response for testing.')] },
    test_image_content: { run: () => [image] },
    test_audio_content: { run: () => [{ type: 'audio', data: wav, mimeType: 'audio/wav' }] },
    test_embedded_resource: { run: () => [within] },
    test_multiple_content_types: { run: () => [text('Multiple content types test:'), image, mixed] },
    test_tool_with_logging: { run: logs },
    test_tool_with_progress: { run: progresses },
    test_error_handling: { run: fails },
    test_sampling: { run: samples, inputSchema: object({ prompt: string('For the model') }) },
    test_elicitation: { run: elicits, inputSchema: object({ message: string('For the user') }) },
    test_elicitation_sep1034_defaults: { run: async (_, extra) => [elicited(await elicit(extra, '?', defaults))] },
    test_elicitation_sep1330_enums: { run: async (_, extra) => [elicited(await elicit(extra, '?', enums))] },
    test_reconnection: { run: reconnects },
    json_schema_2020_12_tool: { run: args => [text(JSON.stringify(args))], inputSchema: dialect }
};

const resources = {
    'test://static-text': { mimeType: 'text/plain', text: 'This is the content of the static text resource.' },
    'test://static-binary': { mimeType: 'image/png', blob: png },
    'test://watched-resource': { mimeType: 'text/plain', text: 'watched' }
};
const template = { uriTemplate: 'test://template/{id}/data', name: 'template', mimeType: 'application/json' };
const templated = id => JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });

const argument = name => ({ name, description: `Argument ${name}`, required: true });
const prompts = {
    test_simple_prompt: { say: () => [text('This is a simple prompt for testing.')] },
    test_prompt_with_arguments: {
        arguments: [argument('arg1'), argument('arg2')],
        say: ({ arg1, arg2 }) => [text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)]
    },
    test_prompt_with_embedded_resource: {
        arguments: [argument('resourceUri')],
        say: ({ resourceUri }) => [
            embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.'),
            text('Please process the embedded resource above.')
        ]
    },
    test_prompt_with_image: { say: () => [image, text('Please analyze the image above.')] }
};

async function called({ params }, extra) {
    const tool = tools[params.name];
    if (!tool) throw new types.McpError(types.ErrorCode.InvalidParams, `no tool ${params.name}`);
    try {
        return { content: await tool.run(params.arguments ?? {}, extra) };
    } catch (why) {
        return { isError: true, content: [text(why.message)] };
    }
}

function read({ params: { uri } }) {
    const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
    const found = id ? { mimeType: template.mimeType, text: templated(id) } : resources[uri];
    if (!found) throw new types.McpError(types.ErrorCode.InvalidParams, `no resource ${uri}`);
    return { contents: [{ uri, ...found }] };
}

const named = ([name, { inputSchema = object() }]) => ({ name, description: `The suite's ${name}`, inputSchema });
const resource = ([uri, { mimeType }]) => ({ uri, name: uri, description: `The suite's ${uri}`, mimeType });
const prompt = ([name, { arguments: args }]) => ({ name, description: `The suite's ${name}`, arguments: args });
const messages = ({ params: { name, arguments: args } }) =>
    prompts[name].say(args ?? {}).map(content => ({ role: 'user', content }));

function build() {
    const capabilities = {
        tools: {}, resources: { subscribe: true }, prompts: {}, completions: {}, logging: {}
    };
    const server = new Server({ name: 'conformance', version: '1' }, { capabilities });
    const on = (schema, handler) => server.setRequestHandler(schema, handler);
    on(types.ListToolsRequestSchema, () => ({ tools: Object.entries(tools).map(named) }));
    on(types.CallToolRequestSchema, called);
    on(types.ListResourcesRequestSchema, () => ({ resources: Object.entries(resources).map(resource) }));
    on(types.ListResourceTemplatesRequestSchema, () => ({ resourceTemplates: [template] }));
    on(types.ReadResourceRequestSchema, read);
    on(types.SubscribeRequestSchema, () => ({}));
    on(types.UnsubscribeRequestSchema, () => ({}));
    on(types.ListPromptsRequestSchema, () => ({ prompts: Object.entries(prompts).map(prompt) }));
    on(types.GetPromptRequestSchema, request => ({ messages: messages(request) }));
    on(types.CompleteRequestSchema, () => ({ completion: { values: ['test'], total: 1, hasMore: false } }));
    return server;
}

// Keeps the events of one session, so that a stream that was closed can be taken up again.
class Events {
    kept = [];
    async storeEvent(stream, message) {
        this.kept.push({ stream, message });
        return String(this.kept.length - 1);
    }
    async getStreamIdForEventId(id) {
        return this.kept[Number(id)]?.stream;
    }
    async replayEventsAfter(last, { send }) {
        const stream = await this.getStreamIdForEventId(last);
        for (const [index, event] of this.kept.entries())
            if (index > Number(last) && event.stream === stream && event.message.jsonrpc)
                await send(String(index), event.message);
        return stream;
    }
}

const sessions = new Map();
async function session(request) {
    const known = sessions.get(request.headers['mcp-session-id']);
    if (known) return known;
    const transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new Events(),
        retryInterval: 100,
        onsessioninitialized: id => sessions.set(id, transport),
        onsessionclosed: id => sessions.delete(id)
    });
    await build().connect(transport);
    return transport;
}

const app = createMcpExpressApp({ host: '127.0.0.1' });
app.all('/mcp', async (request, response) => {
    await (await session(request)).handleRequest(request, response, request.body);
});
const listener = app.listen(0, '127.0.0.1', () => console.log(listener.address().port));
