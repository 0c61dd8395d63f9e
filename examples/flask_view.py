"""Flask views over ``agentstore.sync``: ``flask --app flask_view run``."""

from flask import Flask, Response, abort, request

from agentstore import AgentStoreError, InvalidContent, Retryable
from agentstore.sync import AgentStore

app = Flask(__name__)
store = AgentStore()  # for all threads, and for each process that a server forks


@app.post("/notes/<user>")
def add(user: str) -> dict[str, int]:
    """Store a note: ``{"id": "n1", "text": "..."}``. A note that is sent again is stored once."""
    note = request.get_json()
    message = {"id": note.get("id"), "role": "user", "content": note.get("text")}
    stored = store.sessions.append(user, "notes", message)
    store.memory.add_memory(user, message, "notes")
    return {"number": stored.last_seq}


@app.get("/notes/<user>")
def find(user: str) -> list[dict[str, str]]:
    """Return the notes that match the words in the query ``?q=``, best first."""
    hits = store.memory.search(user, request.args.get("q", ""), {"top_k": 5})
    return [{"id": hit.message.id, "text": hit.message.text} for hit in hits]


@app.get("/notes/<user>/all")
def read(user: str) -> Response:
    """Return all notes as they are stored, without parsing them."""
    stored = store.sessions.read_messages(user, "notes") or abort(404)
    return Response(stored.json(), mimetype="application/json")


@app.delete("/notes/<user>")
def erase(user: str) -> dict[str, bool]:
    """Delete everything of a user."""
    return {"deleted": bool(store.users.delete_user(user))}


@app.errorhandler(AgentStoreError)
def fail(error: AgentStoreError) -> tuple[dict[str, str], int]:
    """Say what is wrong, and whether the request may be sent again."""
    code = 400 if isinstance(error, InvalidContent) else 503 if isinstance(error, Retryable) else 500
    return {"error": str(error)}, code
