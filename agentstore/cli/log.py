"""The log of the command line."""

import json
import logging
import sys
from datetime import UTC, datetime

# The attributes that every record has; others are those of the event that it reports.
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def configure_log(log_format: str) -> None:
    """Write the log to stderr in a format of the setting LOG_FORMAT. "text" is what Python does by itself."""
    logger = logging.getLogger("agentstore")
    if log_format == "json" and not any(isinstance(each.formatter, JsonFormatter) for each in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object in one line, with the attributes of its event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
