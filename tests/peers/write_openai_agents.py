"""Write conversations with openai-agents, and print them. Runs where openai-agents is installed."""

import asyncio
import json
import sys

from agents.extensions.memory import SQLAlchemySession

_ITEMS = [
    {"role": "user", "content": "Any rain in 杭州?"},
    {
        "id": "fc_1", "type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "杭州"}',
        "status": "completed",
    },
    {"type": "function_call_output", "call_id": "c1", "output": "3 mm"},
    {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Little rain."}]},
    {
        "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "A little, 3 mm.", "annotations": [], "logprobs": []}],
    },
    {"role": "user", "content": [{"type": "input_text", "text": "and this?"}, {
        "type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"}]},
]  # fmt: skip


async def main(url: str) -> None:
    for name in ("first", "a:b", "密"):
        session = SQLAlchemySession.from_url(name, url=url, create_tables=True)
        await session.add_items(_ITEMS)
        await session.add_items([{"role": "user", "content": "removed again"}])
        await session.pop_item()
        await session.add_items([{"role": "user", "content": f"the end of {name}"}])
        print(json.dumps({"session": name, "items": await session.get_items()}))
        await session.engine.dispose()


asyncio.run(main(sys.argv[1]))
