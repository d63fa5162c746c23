// The official TypeScript client: list, call, streamed call, refused call, call again.
//
// client.mjs URL [TOKEN]: with a token the calls go through Outrider, where `erase` is not granted.
// Prints `PASS step` or `FAIL step: why`; exits 1 if any failed.
import assert from 'node:assert/strict';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [url, token] = process.argv.slice(2);
const headers = token ? { 'Outrider-Task-Token': token } : {};
const info = { name: 'client-check', version: '1' };
const client = new Client(info, { versionNegotiation: { mode: 'auto' } });

async function list() {
    const { tools } = await client.listTools();
    const names = tools.map(tool => tool.name).sort();
    assert.deepEqual(names, token ? ['count', 'echo', 'release'] : ['count', 'echo', 'erase', 'release']);
}

async function call() {
    const result = await client.callTool({ name: 'echo', arguments: { message: 'h\u00e9llo' } });
    assert.ok(!result.isError);
    assert.equal(result.content[0].text, 'h\u00e9llo');
}

// The server waits for `release` after each step: a buffered event would never be answered.
async function stream() {
    const seen = [];
    const onprogress = ({ progress }) => {
        seen.push(progress);
        client.callTool({ name: 'release', arguments: {} });
    };
    const request = { name: 'count', arguments: { steps: 3 } };
    const result = await client.callTool(request, { onprogress, timeout: 20_000 });
    assert.equal(result.content[0].text, 'counted to 3');
    assert.deepEqual(seen, [1, 2, 3]);
}

async function refused() {
    const result = await client.callTool({ name: 'erase', arguments: { message: 'x' } });
    assert.equal(result.isError, true);
    const decision = result._meta['outrider/decision'];
    assert.equal(decision.code, 'policy_denied');
    assert.ok(result.content[0].text.includes(decision.id));
}

function revision() {
    assert.equal(client.getNegotiatedProtocolVersion(), '2026-07-28');
}

const steps = { list, call, stream, ...(token ? { refused } : {}), 'call again': call, revision };
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
for (const [name, step] of Object.entries(steps)) {
    try {
        await step();
        console.log(`PASS ${name}`);
    } catch (why) {
        process.exitCode = 1;
        console.log(`FAIL ${name}: ${why}`);
    }
}
await client.close();
