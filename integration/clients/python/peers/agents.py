"""The MCP connection of openai-agents, and an agent that uses it with a model that is made up."""

import json
from contextlib import asynccontextmanager

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage
from agents.mcp import MCPServerStreamableHttp
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from . import Peer


class MadeUp(Model):
    """Calls one tool, then says what the tool answered."""

    def __init__(self, tool: str, arguments: dict):
        self.tool, self.arguments = tool, arguments

    async def get_response(self, system_instructions, input, *_, **__) -> ModelResponse:
        outputs = [item["output"] for item in input if item.get("type") == "function_call_output"]
        return ModelResponse([self.say(outputs[-1]) if outputs else self.call()], Usage(), None)

    def call(self):
        arguments = json.dumps(self.arguments)
        return ResponseFunctionToolCall(type="function_call", call_id="1", name=self.tool, arguments=arguments)

    def say(self, output):
        said = output if isinstance(output, str) else output[0]["text"]
        text = ResponseOutputText(type="output_text", text=said, annotations=[])
        return ResponseOutputMessage(id="1", type="message", role="assistant", status="completed", content=[text])

    def stream_response(self, *_, **__):
        raise NotImplementedError


class Agents(Peer):
    more = ["agent", "resources", "template", "prompt"]

    def __init__(self, server, second):
        super().__init__(server)
        self.second = second
        self.progress = None

    async def raw_call(self, tool: str, arguments: dict, progress):
        self.progress = progress
        meta = {"progressToken": "1"} if progress else None
        return await self.client.call_tool(tool, arguments, meta=meta)

    async def release(self, who: str) -> None:
        await self.second.call_tool("release", {"who": who})

    async def agent(self, tool: str, arguments: dict) -> str:
        agent = Agent(name="check", model=MadeUp(tool, arguments), mcp_servers=[self.client])
        offline = RunConfig(tracing_disabled=True)
        return (await Runner.run(agent, "Do it.", run_config=offline)).final_output

    async def hear(self, message) -> None:
        params = getattr(getattr(message, "root", message), "params", None)
        if self.progress and hasattr(params, "progress"):
            await self.progress(params.progress)


@asynccontextmanager
async def connect(url: str, headers: dict):
    peer: Agents

    async def hear(message) -> None:
        await peer.hear(message)

    def server(handler):
        params = {"url": url, "headers": headers, "timeout": 20}
        return MCPServerStreamableHttp(params, message_handler=handler, client_session_timeout_seconds=20)

    async with server(hear) as first, server(None) as second:
        peer = Agents(first, second)
        yield peer
