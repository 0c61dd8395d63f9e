"""Conversion of messages between agentstore and OpenAI's APIs: chat completions and Responses."""
