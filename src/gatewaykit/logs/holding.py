"""Records of the time before it is known where logs go."""

from __future__ import annotations

import logging


class HeldLogs(logging.Handler):
    """Keeps the records until it is known who wants them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.records.append(record)

    def warnings(self) -> list[str]:
        """What was said of level warning and above, each text once."""
        said = (record.getMessage() for record in self.records if record.levelno >= logging.WARNING)
        return list(dict.fromkeys(said))


def hold_logs() -> HeldLogs:
    """Hold back all that the standard ``logging`` gets from now on, unless handlers of another program are there."""
    held = HeldLogs()
    logging.basicConfig(handlers=[held], level=logging.INFO)
    return held
