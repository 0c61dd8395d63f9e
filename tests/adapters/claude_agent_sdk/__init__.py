"""The session store for claude-agent-sdk."""
