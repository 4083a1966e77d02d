"""One small paid request to the real service: `pytest -m live` with ANTHROPIC_API_KEY set; never in `make test`."""

import pytest

from orchestrator.core.dialogue import Request
from orchestrator.llm.anthropic import AnthropicModel


@pytest.mark.live
def test_the_service_answers(live_key):
    request = Request(
        model=live_key.model or "claude-haiku-5-5",
        max_tokens=256,
        messages=({"role": "user", "content": [{"type": "text", "text": "Reply with the word ready."}]},),
    )
    reply = AnthropicModel(live_key).converse(request, lambda sha: b"")
    assert "ready" in "".join(b.get("text", "") for b in reply.content).lower()
    assert 0 < reply.usage.output_tokens <= 256
    assert reply.request_id
