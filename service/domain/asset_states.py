"""States of an asset."""

from typing import Literal

State = Literal["registered", "shipped", "returned", "inspected", "retired", "lost"]
