"""How many samples may fail before a run stops: 5 % of the last 1,000, or 100 in a row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from mmssl.errors import UserError

BUDGET_OF, BUDGET_SHARE, BUDGET_RUN = 1000, 0.05, 100


class TooManyFailures(UserError):
    """The budget is spent; `causes` counts the failures of the whole run."""

    def __init__(self, message: str, causes: Mapping[str, int]) -> None:
        super().__init__(message)
        self.causes = dict(causes)


class Budget:
    """Counts samples in the order of the global batches. All ranks of a run must note the same samples."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=BUDGET_OF)
        self._in_a_row = 0

    def note(self, failed: Iterable[bool]) -> bool:
        """Count samples; True if the budget is spent with one of them."""
        spent = False
        for one in failed:
            self._recent.append(one)
            self._in_a_row = self._in_a_row + 1 if one else 0
            if one and (sum(self._recent) > BUDGET_SHARE * BUDGET_OF or self._in_a_row >= BUDGET_RUN):
                spent = True
                break
        return spent

    def error(self, causes: Mapping[str, int], examples: Sequence[str]) -> TooManyFailures:
        """What to raise when it is spent; `examples` are messages of the last failures."""
        said = ", ".join(f"{cause}: {count}" for cause, count in causes.items())
        last = "\n  ".join(examples)
        return TooManyFailures(
            f"{sum(self._recent)} of the last {len(self._recent)} samples could not be read ({said}); "
            f"'mmssl shards check' looks at every clip of a corpus. The last ones:\n  {last}",
            causes,
        )
