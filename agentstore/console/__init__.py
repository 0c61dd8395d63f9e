"""The web console: conversations, memory, states and the health of a store in a browser.

Needs the extra ``console``. :func:`agentstore.console.app.create_app` returns an ASGI application; the command
``agentstore console`` serves it. Pages are rendered by the server and complete without script. They read through the
public API of a store, and execute no SQL of their own.
"""
