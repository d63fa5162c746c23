// What each TypeScript client does, whatever its own way of saying it.
//
// scenario.mjs PEER URL CELL ERA [TOKEN]: PEER is `ts1` or `ts2`; the rest is as in python/scenario.py.
// Prints `PASS step` or `FAIL step: why`; exits 1 if any failed.
import assert from 'node:assert/strict';

const [peer, url, cell, era, token] = process.argv.slice(2);
const { connect } = await import(`./${peer}.mjs`);
const headers = token && token !== '-' ? { 'Outrider-Task-Token': token } : {};
const server = url.startsWith('stdio:') ? started(JSON.parse(url.slice('stdio:'.length))) : new URL(url);
const { client, call, announced, revision } = await connect(server, headers).catch(why => {
    console.log(`FAIL connection: ${String(why).replaceAll('\n', ' ')}`);
    process.exit(1);
});
const decision = /\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b/;

// What starts a server of that command.
function started([command, ...args]) {
    return { command, args, env: { ...process.env, ...(token ? { OUTRIDER_TASK_TOKEN: token } : {}) } };
}

const sorted = (items, member) => items.map(item => item[member]).sort();
const hiding = (everything, hidden) => everything.filter(name => !token || name !== hidden);

async function tools() {
    const everything = ['announce', 'count', 'echo', 'erase', 'release', 'vanish'];
    assert.deepEqual(sorted((await client.listTools()).tools, 'name'), hiding(everything, 'erase'));
}

async function echo() {
    const message = `h\u00e9llo ${cell}`;
    const result = await call('echo', { message });
    assert.ok(!result.isError);
    assert.equal(result.content[0].text, message);
}

// The server waits for `release` after each step: a buffered event would never be answered.
async function stream() {
    const seen = [];
    const releases = [];
    const onprogress = ({ progress }) => {
        seen.push(progress);
        releases.push(call('release', { who: cell }));
    };
    const result = await call('count', { steps: 3, who: cell }, { onprogress, timeout: 20_000 });
    assert.equal(result.content[0].text, 'counted to 3');
    assert.deepEqual(seen, [1, 2, 3]);
    await Promise.all(releases);
}

const refused = (expected, name, args) => async () => {
    const result = await call(name, args);
    assert.equal(result.isError, true);
    const { id, code } = result._meta['outrider/decision'];
    assert.equal(code, expected);
    assert.match(id, decision);
    assert.ok(result.content[0].text.includes(id));
};

const text = async uri => (await client.readResource({ uri })).contents[0].text;

async function resources() {
    const { resources } = await client.listResources();
    assert.deepEqual(sorted(resources, 'uri'), hiding(['note://secret', 'note://today'], 'note://secret'));
    assert.equal(await text('note://today'), 'a note');
    if (token) await assert.rejects(text('note://secret'), decision);
}

async function template() {
    const { resourceTemplates } = await client.listResourceTemplates();
    assert.deepEqual(sorted(resourceTemplates, 'uriTemplate'), ['book://{title}']);
    assert.equal(await text('book://dune'), 'the book dune');
}

async function prompt() {
    assert.deepEqual(sorted((await client.listPrompts()).prompts, 'name'), ['greet']);
    const { messages } = await client.getPrompt({ name: 'greet', arguments: { name: 'Ada' } });
    assert.equal(messages[0].content.text, 'Greet Ada.');
}

async function completion() {
    const ref = { type: 'ref/prompt', name: 'greet' };
    const { completion } = await client.complete({ ref, argument: { name: 'name', value: 'A' } });
    assert.deepEqual(completion.values, ['Ada', 'Alan']);
}

// What the server says without being asked comes over the stream that GET opened.
async function isAnnounced() {
    for (let tries = 0; tries < 20; tries++) {
        await call('announce', {});
        const second = new Promise(go => setTimeout(go, 1000, 'late')); // the stream may not be open yet
        if ((await Promise.race([announced, second])) !== 'late') return;
    }
    assert.fail('nothing came');
}

// The stream ends before the answer, which comes when the client asks for the rest.
async function resumed() {
    const result = await call('vanish', { message: cell }, { timeout: 20_000 });
    assert.equal(result.content[0].text, cell);
}

const guarded = {
    refused_tool: refused('policy_denied', 'erase', { message: cell }),
    refused_by_rule: refused('policy_denied', 'echo', { message: `forbidden ${cell}` }),
    refused_by_schema: refused('schema_violation', 'echo', { message: ['forbidden', cell] })
};
const steps = {
    tools, call: echo, stream, ...(token ? guarded : {}),
    ...(era === 'legacy' ? { resumed, announced: isAnnounced } : {}),
    resources, template, prompt, completion, 'call again': echo,
    ...(era === 'modern' && revision ? { revision: () => assert.equal(revision(), '2026-07-28') } : {})
};
for (const [name, step] of Object.entries(steps)) {
    try {
        await step();
        console.log(`PASS ${name}`);
    } catch (why) {
        process.exitCode = 1;
        console.log(`FAIL ${name}: ${String(why).replaceAll('\n', ' ')}`);
    }
}
await client.close();
