"""The artifacts of ADK."""

# pyright: reportMissingImports=false
from typing import Any

from google.adk.artifacts import artifact_util
from google.adk.artifacts.base_artifact_service import ArtifactVersion, BaseArtifactService, ensure_part
from google.adk.errors.input_validation_error import InputValidationError
from google.genai.types import Part

from agentstore.adapters.adk.events import KEY, json_of
from agentstore.adapters.adk.keys import stored_id
from agentstore.adapters.stores import OnStore
from agentstore.errors import NotFound
from agentstore.schemas import Blob
from agentstore.schemas.payload import strip_id

# How many references from one artifact to another a load follows, as in ADK's own services.
_MAX_REFERENCES = 5


class AgentStoreArtifactService(OnStore, BaseArtifactService):  # type: ignore[misc]
    """A BaseArtifactService of ADK: each artifact is a file in ``store.blobs``, with its versions.

    An artifact whose name begins with ``user:`` belongs to the user in the application, any other one to its session.
    """

    async def save_artifact(
        self,
        *,
        app_name: str,
        user_id: str,
        filename: str,
        artifact: Part | dict[str, Any],
        session_id: str | None = None,
        custom_metadata: dict[str, Any] | None = None,
    ) -> int:
        """Store a new version of an artifact, and return its number: 0, or the one after the highest.

        Args:
            app_name: the application.
            user_id: the owner.
            filename: the name.
            artifact: a Part, or a dict of its fields: with a content, a text, or the URI of a file.
            session_id: the session; None if the name begins with ``user:``.
            custom_metadata: any JSON object.

        Raises:
            InputValidationError: the artifact is of another kind, or a name needs a session; nothing was written.
            InvalidContent, LimitExceeded: an id or the metadata is invalid, or the content too large; nothing was
                written.
            UnknownOutcome: the response was lost: the version may have been stored.
        """
        store, bucket = await self._started(), _bucket(app_name, filename, session_id)
        part = ensure_part(artifact)
        content, content_type = b"", None
        if part.inline_data is not None:
            content, content_type = part.inline_data.data or b"", part.inline_data.mime_type
            blob = part.inline_data.model_copy(update={"data": None})
            rest = part.model_copy(update={"inline_data": blob})
        elif part.text is not None:
            content, content_type = part.text.encode("utf-8", "surrogatepass"), "text/plain"
            rest = part.model_copy(update={"text": ""})
        elif part.file_data is not None:
            rest = part
            if artifact_util.is_artifact_ref(part):
                _resolve(part, app_name, user_id, session_id, _MAX_REFERENCES)
            else:
                content_type = part.file_data.mime_type
        else:
            raise InputValidationError("Not supported artifact type.")
        record = {"part": json_of(rest, f"artifact {filename!r}"), "custom_metadata": custom_metadata or {}}
        saved = await store.blobs.put(
            user_id, filename, content, bucket, app=app_name, content_type=content_type, metadata={KEY: record}
        )
        return saved.version

    async def load_artifact(
        self,
        *,
        app_name: str,
        user_id: str,
        filename: str,
        session_id: str | None = None,
        version: int | None = None,
    ) -> Part | None:
        """Return a version of an artifact, by default the highest one; None if it does not exist.

        Raises:
            InputValidationError: a name needs a session; or a reference to another artifact is invalid.
            InvalidContent: `version` is not an integer >= 0.
        """
        store = await self._started()
        for left in range(_MAX_REFERENCES, -1, -1):
            bucket = _bucket(app_name, filename, session_id)
            blob = await store.blobs.get(user_id, filename, bucket, app=app_name, version=version)
            if blob is None:
                return None
            part = Part.model_validate(_record_of(blob).get("part") or _default_part(blob))
            if artifact_util.is_artifact_ref(part):
                target = _resolve(part, app_name, user_id, session_id, left)
                filename, session_id, version = target.filename, target.session_id, target.version
                continue
            key: Any = {"app": app_name, "version": blob.version}
            try:
                content = b"".join([each async for each in store.blobs.read(user_id, filename, bucket, **key)])
            except NotFound:
                return None
            if part.inline_data is not None:
                part.inline_data.data = content
            elif part.text is not None:
                part.text = content.decode("utf-8", "surrogatepass")
            # A rewind stores an empty content for an artifact that did not exist at that time.
            return None if artifact_util._is_rewind_tombstone(part) else part
        return None

    async def list_artifact_keys(self, *, app_name: str, user_id: str, session_id: str | None = None) -> list[str]:
        """Return the names of the artifacts of the user in the application, and of a session, in order."""
        store = await self._started()
        found = list(await store.blobs.list(user_id, app=app_name))
        if session_id is not None:
            found += await store.blobs.list(user_id, stored_id(app_name, strip_id(session_id)), app=app_name)
        return sorted(blob.name for blob in found)

    async def delete_artifact(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None
    ) -> None:
        """Delete an artifact with all of its versions. Idempotent."""
        store = await self._started()
        await store.blobs.delete(user_id, filename, _bucket(app_name, filename, session_id), app=app_name)

    async def list_versions(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None
    ) -> list[int]:
        """Return the numbers of the versions of an artifact, the lowest first."""
        return [blob.version for blob in await self._versions(app_name, user_id, filename, session_id)]

    async def list_artifact_versions(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None
    ) -> list[ArtifactVersion]:
        """Return the versions of an artifact without their content, the lowest first."""
        found = await self._versions(app_name, user_id, filename, session_id)
        return [_version_of(blob, app_name, session_id) for blob in found]

    async def get_artifact_version(
        self,
        *,
        app_name: str,
        user_id: str,
        filename: str,
        session_id: str | None = None,
        version: int | None = None,
    ) -> ArtifactVersion | None:
        """Return a version of an artifact without its content, by default the highest one; None if it is missing."""
        store, bucket = await self._started(), _bucket(app_name, filename, session_id)
        blob = await store.blobs.get(user_id, filename, bucket, app=app_name, version=version)
        return None if blob is None else _version_of(blob, app_name, session_id)

    async def _versions(self, app_name: str, user_id: str, filename: str, session_id: str | None) -> list[Blob]:
        store, bucket = await self._started(), _bucket(app_name, filename, session_id)
        return list(await store.blobs.list_versions(user_id, filename, bucket, app=app_name))[::-1]


def _bucket(app_name: str, filename: str, session_id: str | None) -> str | None:
    """Return the session of agentstore of an artifact; None if it belongs to the user.

    Raises:
        InputValidationError: it belongs to a session, and none is given.
    """
    if filename.startswith("user:"):
        return None
    if session_id is None:
        raise InputValidationError("Session ID must be provided for session-scoped artifacts.")
    return stored_id(app_name, strip_id(session_id))


def _resolve(part: Any, app_name: str, user_id: str, session_id: str | None, left: int) -> Any:
    """Return the artifact that another one refers to.

    Raises:
        InputValidationError: the reference is invalid or leaves the session, or `left` is 0.
    """
    return artifact_util.resolve_artifact_reference(
        file_uri=part.file_data.file_uri,
        app_name=app_name,
        user_id=user_id,
        session_id=session_id,
        remaining_depth=left,
    )


def _record_of(blob: Blob) -> dict[str, Any]:
    record = blob.metadata.get(KEY)
    return record if isinstance(record, dict) else {}


def _default_part(blob: Blob) -> dict[str, Any]:
    """Return the part for a file that another program has stored."""
    return {"inlineData": {"mimeType": blob.content_type or "application/octet-stream"}}


def _version_of(blob: Blob, app_name: str, session_id: str | None) -> ArtifactVersion:
    session_id = None if blob.name.startswith("user:") else session_id
    return ArtifactVersion(
        version=blob.version,
        canonical_uri=artifact_util.get_artifact_uri(app_name, blob.user_id, blob.name, blob.version, session_id),
        custom_metadata=_record_of(blob).get("custom_metadata") or {},
        create_time=blob.saved_at.timestamp(),
        mime_type=blob.content_type,
    )
