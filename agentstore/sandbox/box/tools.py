"""The tools of a sandbox: their JSON schemas, and the validation of arguments."""

from typing import Any

from .protocol import InvalidCall


def _tool(description: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"description": description, "parameters": parameters}


def _string(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


_PATH = _string("A path in the workspace.")
_STRINGS = {"type": "array", "items": {"type": "string"}}
_EDITS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"oldText": {"type": "string"}, "newText": {"type": "string"}},
        "required": ["oldText", "newText"],
    },
}

TOOLS: dict[str, dict[str, Any]] = {
    "run_ipython_cell": _tool(
        "Run a cell of Python in IPython. Variables persist between cells.", {"code": _string("The code.")}, "code"
    ),
    "run_shell_command": _tool(
        "Run a shell command in the workspace.", {"command": _string("The command.")}, "command"
    ),
    "read_file": _tool("Return the content of a file.", {"path": _PATH}, "path"),
    "write_file": _tool(
        "Write a file, and create missing parent directories.",
        {
            "path": _PATH,
            "content": _string("The text of the file."),
            "blob": _string("The bytes of the file in Base64, instead of content."),
        },
        "path",
    ),
    "list_files": _tool("List the names in a directory.", {"path": _PATH}),
    "remove_file": _tool("Remove a file, or a directory with everything in it.", {"path": _PATH}, "path"),
    "create_directory": _tool("Create a directory and its missing parents.", {"path": _PATH}, "path"),
    "list_directory": _tool("List a directory, with [FILE] or [DIR] before each name.", {"path": _PATH}, "path"),
    "move_file": _tool(
        "Move or rename a file or a directory. The destination must not exist.",
        {"source": _PATH, "destination": _PATH},
        *("source", "destination"),
    ),
    "get_file_info": _tool("Return the size, times, type and permissions of a file.", {"path": _PATH}, "path"),
    "search_files": _tool(
        "Find files and directories below a directory, by a part of their name or by a pattern such as *.py.",
        {"path": _PATH, "pattern": _string("A part of the name, or a pattern."), "excludePatterns": _STRINGS},
        *("path", "pattern"),
    ),
    "read_multiple_files": _tool("Return the text of several files.", {"paths": _STRINGS}, "paths"),
    "edit_file": _tool(
        "Replace text in a file, and return the unified diff.",
        {
            "path": _PATH,
            "edits": _EDITS,
            "dryRun": {"type": "boolean", "description": "Return the diff without changing the file."},
        },
        *("path", "edits"),
    ),
    "directory_tree": _tool("Return a directory and everything in it, as JSON.", {"path": _PATH}, "path"),
    "list_allowed_directories": _tool("Return the directories that the file tools may access.", {}),
}


def check_arguments(tool: str, arguments: Any) -> None:
    """Check the arguments of a tool against its schema.

    Raises:
        InvalidCall: They do not match it.
    """
    if not isinstance(arguments, dict):
        raise InvalidCall(f"the arguments of {tool} must be an object, got {type(arguments).__name__}")
    schema = TOOLS[tool]["parameters"]
    for name, value in arguments.items():
        if name not in schema["properties"]:
            raise InvalidCall(f"{tool} has no argument {name[:80]!r}: it has {', '.join(schema['properties'])}")
        if not _matches(value, schema["properties"][name]):
            kind = schema["properties"][name]["type"]
            detail = ", without unpaired surrogates" if kind == "string" else ", as in the tool's schema"
            raise InvalidCall(f"the argument {name} of {tool} must be of type {kind}{detail}")
    for name in schema["required"]:
        if name not in arguments:
            raise InvalidCall(f"{tool} requires the argument {name}")
    if tool == "write_file" and ("content" in arguments) == ("blob" in arguments):
        raise InvalidCall("write_file requires either content or blob, and not both")


def _matches(value: Any, schema: dict[str, Any]) -> bool:
    if schema["type"] == "string":
        return isinstance(value, str) and _can_be_encoded(value)
    if schema["type"] == "boolean":
        return isinstance(value, bool)
    if schema["type"] == "array":
        return isinstance(value, list) and all(_matches(each, schema["items"]) for each in value)
    properties = schema["properties"]
    return (
        isinstance(value, dict)
        and all(name in value for name in schema["required"])
        and all(name in properties and _matches(each, properties[name]) for name, each in value.items())
    )


def _can_be_encoded(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False  # an unpaired surrogate
    return True
