"""Who may do what: operators' roles and platform keys' scopes, one table each."""

from typing import Literal, get_args

Role = Literal["viewer", "analyst", "campaigns", "fraud", "admin"]

ROLES: tuple[Role, ...] = get_args(Role)

Permission = Literal[
    "campaigns:read",
    "campaigns:write",
    "registries:read",
    "registries:write",
    "statistics:read",
    "deliveries:read",
    "deliveries:replay",
    "personal:read",
    "personal:erase",
    "personal:hold",
    "personal:link",
    "platforms:read",
    "platforms:write",
    "stations:read",
    "stations:write",
    "rewards:read",
    "rewards:write",
    "operators:read",
    "operators:write",
    "audit:read",
    "balances:import",
    "plastics:read",
    "plastics:write",
    "plastics:close",
    "adjustments:read",
    "adjustments:write",
    "objections:read",
    "objections:answer",
    "points-policy:read",
    "points-policy:write",
    "fraud:read",
    "fraud:write",
    "fraud-models:read",
    "fraud-models:write",
    "fraud-policy:write",
    "fraud:decide",
]

MAY: dict[Permission, tuple[Role, ...]] = {
    # Everybody who signs in sees what the program does ...
    "campaigns:read": ROLES,
    "registries:read": ROLES,
    "statistics:read": ROLES,
    "platforms:read": ROLES,
    "stations:read": ROLES,
    "rewards:read": ROLES,
    # ... and changes what is theirs.
    "campaigns:write": ("campaigns", "admin"),
    "registries:write": ("campaigns", "admin"),
    # Rewards and their codes, causes.
    "rewards:write": ("campaigns", "admin"),
    # Raw deliveries and events name persons.
    "personal:read": ("fraud", "admin"),
    "deliveries:read": ("fraud", "admin"),
    "personal:erase": ("admin",),
    "personal:hold": ("admin",),
    "personal:link": ("admin",),
    "deliveries:replay": ("admin",),
    # Keys, people and the record of who did what.
    "platforms:write": ("admin",),
    "stations:write": ("admin",),
    "operators:read": ("admin",),
    "operators:write": ("admin",),
    "audit:read": ("admin",),
    # Points that no campaign awarded.
    "balances:import": ("admin",),
    # The same one by one, with the consumer's name; much of it takes two of them.
    "adjustments:read": ("fraud", "admin"),
    "adjustments:write": ("fraud", "admin"),
    # What persons say to fraud checks; their names and words only with personal:read.
    "objections:read": ("analyst", "fraud", "admin"),
    "objections:answer": ("fraud", "admin"),
    # What is reported to authorities.
    "plastics:read": ROLES,
    "plastics:write": ("analyst", "admin"),
    "plastics:close": ("analyst", "admin"),
    # How points live and die, and up to how many somebody may give alone.
    "points-policy:read": ROLES,
    "points-policy:write": ("admin",),
    # What the fraud checks hold, and what they are told; without persons' names, which take personal:read.
    "fraud:read": ("analyst", "fraud", "admin"),
    "fraud:write": ("fraud", "admin"),
    # What the fraud checks look at and how it adds up, their monitors; how long holds last and what comes then.
    "fraud-models:read": ("analyst", "fraud", "admin"),
    "fraud-models:write": ("fraud", "admin"),
    "fraud-policy:write": ("admin",),
    "fraud:decide": ("fraud", "admin"),
}
"""Which roles have a permission: `await callers.operator(request, *MAY["campaigns:write"])`."""

Scope = Literal[
    "events:write", "events:read", "consumers:read", "consumers:export", "consumers:erase", "deliveries:read", "balances:import",
    "plastics:write", "plastics:read", "redemptions:write", "redemptions:read", "consumers:link",
    "transfers:write", "objections:write",
]  # fmt: skip

SCOPES: dict[Scope, str] = {
    "events:write": "report events, one by one and in batches, try them out, and read what packaging classes and activities they may name",
    "events:read": "read its own events",
    "consumers:read": "read its consumers' balances and activity, and what these can spend points on",
    "deliveries:read": "read the log of its own webhooks",
    "consumers:export": "read everything that is held about one of its consumers, and its privacy requests",
    "consumers:erase": "erase its consumers",
    "balances:import": "take over its consumers' points from another system",
    "plastics:write": "report the disposable plastic that it used and collected",
    "plastics:read": "read what it reported of plastics, and its part of the half-yearly report",
    "redemptions:write": "reserve, spend and give back its consumers' points",
    "redemptions:read": "read its consumers' redemptions",
    "consumers:link": "join its consumers' points with those of the same person elsewhere, and separate them again",
    "transfers:write": "give points of its consumers to others of its consumers",
    "objections:write": "object for its consumers to what the fraud checks held or rejected",
}
"""What the scopes of a platform key allow; a key without scopes may do everything that a platform may do."""

StationScope = Literal["tokens:issue", "returns:report"]

STATION_SCOPES: frozenset[str] = frozenset(get_args(StationScope))
"""What every key of a station may do."""

ConsumerScope = Literal["balance:read", "redeem"]

CONSUMER_SCOPES: frozenset[str] = frozenset(get_args(ConsumerScope))
"""What a consumer token may carry in `scope` (CONTRACT §3.1)."""
