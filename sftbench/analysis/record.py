"""What every record of a summary is: frozen, checked, with no field that is not declared."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen; may be made from a NamedTuple or dataclass; no field that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)
