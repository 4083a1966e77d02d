"""What the tests of language models share: requests, a PNG, and players that answer the same script."""

import contextlib
import hashlib
import struct
import zlib

from pydantic import SecretStr

from orchestrator.core.dialogue import Request
from orchestrator.llm.anthropic import AnthropicModel, Credentials, Times
from orchestrator.llm.loopback import LoopbackServer, Says
from orchestrator.llm.recorded import RecordedModel
from orchestrator.llm.scripted import ScriptedModel

KEY = "sk-test-0123456789abcdef"
QUICK = Times(connect_s=5.0, silence_s=10.0, reply_s=20.0, backoff_s=0.01, longest_retry_s=0.5)
TOOLS = (
    {"name": "view_file", "description": "Read.", "input_schema": {"type": "object", "properties": {}}},
    {"name": "submit", "description": "End.", "input_schema": {"type": "object", "properties": {}}},
)
SYSTEM = ({"type": "text", "text": "You are a scientist.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},)


def text(words):
    return {"type": "text", "text": words}


def user(*content):
    return {"role": "user", "content": [text(c) if isinstance(c, str) else c for c in content]}


def request(*messages, **more):
    """Return a request; by default with one user message."""
    fields = {"model": "claude-opus-5-5", "max_tokens": 500, "tools": TOOLS, "system": SYSTEM}
    return Request(**fields | {"messages": messages or (user("What next?"),)} | more)


def goes_on(asked, reply, *content):
    """Return the request that sends a reply back as it came, with the results of its calls before `content`."""
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": [text(f"result of {block['name']}")]}
        for block in reply.content
        if block["type"] == "tool_use"
    ]
    messages = (*asked.messages, {"role": "assistant", "content": list(reply.content)}, user(*results, *content))
    return asked.model_copy(update={"messages": messages})


def png():
    """Return a PNG of one pixel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


PNG = png()
SHA = hashlib.sha256(PNG).hexdigest()


def picture():
    """Return an image as requests name it."""
    return {"type": "image", "source": {"type": "blob", "media_type": "image/png", "sha256": SHA}}


def blob(sha):
    """Return the bytes of the only image there is."""
    return {SHA: PNG}[sha]


@contextlib.contextmanager
def adapter(server, **more):
    """Build the real adapter on a loopback server."""
    more = {"times": QUICK} | more
    model = AnthropicModel(Credentials(api_key=SecretStr(KEY), base_url=server.url), **more)
    try:
        yield model
    finally:
        model.close()


@contextlib.contextmanager
def serving(*script, **more):
    """A loopback server with a script and the adapter on it."""
    answers = script[0] if len(script) == 1 and callable(script[0]) else script
    with LoopbackServer(answers) as server, adapter(server, **more) as model:
        yield model, server


class _Recorder(ScriptedModel):
    def __init__(self, script):
        super().__init__(script)
        self.exchanges = []

    def converse(self, asked, image, longest_s=None):
        reply = super().converse(asked, image)
        self.exchanges.append((asked, reply))
        return reply


def play(kind, replies, conversation):
    """Return what a conversation (model -> anything) returns with a model that gives these replies."""
    if kind == "anthropic":
        with serving(*(Says.of(reply, usage=reply.usage) for reply in replies)) as (model, _):
            return conversation(model)
    if kind == "scripted":
        return conversation(ScriptedModel(replies))
    recorder = _Recorder(replies)
    conversation(recorder)
    return conversation(RecordedModel(recorder.exchanges))
