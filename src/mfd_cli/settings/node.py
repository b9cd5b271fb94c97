"""What every branch of a file of settings is made of: frozen nodes, and the plain kinds of values."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

MOST = (1 << 31) - 1
"""Nothing is counted further: no training comes near, and a slip of the keyboard is told."""
Count = Annotated[int, Field(ge=1, le=MOST)]
Share = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]


class Node(BaseModel):
    """One branch of the tree: frozen, no unknown keys, no infinite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false as numbers: `epochs = true` would otherwise be one epoch."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("Input should not be true or false")
        return value
