// The official TypeScript client 1.x.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';

export async function connect(url, headers) {
    const client = new Client({ name: 'client-check', version: '1' });
    const announced = new Promise(heard => client.setNotificationHandler(ToolListChangedNotificationSchema, heard));
    const transport = url.command
        ? new StdioClientTransport(url)
        : new StreamableHTTPClientTransport(url, { requestInit: { headers } });
    await client.connect(transport);
    const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
    return { client, call, announced };
}
