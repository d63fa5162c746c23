// The official TypeScript client 2.x.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

export async function connect(url, headers) {
    const client = new Client({ name: 'client-check', version: '1' }, { versionNegotiation: { mode: 'auto' } });
    const announced = new Promise(heard => client.setNotificationHandler('notifications/tools/list_changed', heard));
    const transport = url.command
        ? new StdioClientTransport(url)
        : new StreamableHTTPClientTransport(url, { requestInit: { headers } });
    await client.connect(transport);
    const call = (name, args, options) => client.callTool({ name, arguments: args }, options);
    return { client, call, announced, revision: () => client.getNegotiatedProtocolVersion() };
}
