"""Bounds of what crosses the edge: one table, compared with docs/api.md by the suite.

Texts are counted in characters, bodies in bytes. A body that exceeds its bound is 413 and not read on; whatever else exceeds one is 422,
with a pointer. The sizes of bodies are the defaults of settings.
"""

from typing import Final

# Requests
MAX_BODY_BYTES: Final = 262_144
MAX_BULK_BODY_BYTES: Final = 8 * 2**20
MAX_HOOK_BODY_BYTES: Final = 2 * 2**20
MAX_IMPORT_BYTES: Final = 8 * 2**20
MAX_SIMULATION_BYTES: Final = 2**20
MAX_REDEMPTION_BYTES: Final = 16_384
MAX_FORM_BYTES: Final = 4_096
MAX_FORM_FIELDS: Final = 16
MAX_REQUEST_ID_CHARS: Final = 128
MAX_TOKEN_CHARS: Final = 4_096
MAX_IF_MATCH_CHARS: Final = 4_096
MAX_QUERY_FIELDS: Final = 20
MAX_CURSOR_CHARS: Final = 1_024
MAX_PAGE_ITEMS: Final = 200

# What many things have
MAX_KEY_CHARS: Final = 128
MAX_CODE_CHARS: Final = 64
MAX_TEXT_CHARS: Final = 256
MAX_NAME_CHARS: Final = 200
MAX_DECIMAL_CHARS: Final = 32
MAX_DURATION_CHARS: Final = 32
MAX_POINTS: Final = 10**15
MAX_LINK_CODE_CHARS: Final = 32

# Persons under review
MAX_OBJECTION_CHARS: Final = 2_000

# Events
MAX_BATCH: Final = 5_000
MAX_LINES: Final = 500
MAX_QUANTITY: Final = 10**12
MAX_PARCELS: Final = 1_000
MAX_PARCEL_ASSETS: Final = 1_000
MAX_PROOF_CHARS: Final = 4_096
MAX_FREE_BYTES: Final = 8_192
MAX_FREE_DEPTH: Final = 8

# Campaigns
MAX_AWARD_POINTS: Final = 10**9
MAX_CONDITION_CHARS: Final = 2_000
MAX_FACTOR_CHARS: Final = 16
MAX_TIERS: Final = 50
MAX_MULTIPLIED: Final = 50
MAX_CAMPAIGN_PLATFORMS: Final = 1_000
MAX_PRIORITY: Final = 1_000_000
MAX_SIMULATED: Final = 100

# Registries, and balances taken over
MAX_IMPORT_ROWS: Final = 5_000
MAX_IMPORT_COLUMNS: Final = 50
MAX_IMPORT_LINE_CHARS: Final = 65_536
MAX_BALANCE: Final = 10**15
MAX_GTIN_CHARS: Final = 64
MAX_CERTIFICATE_GTINS: Final = 10_000
MAX_PRODUCT_SKUS: Final = 1_000
MAX_REASON_CHARS: Final = 500
MAX_ASSET_TRIPS: Final = 1_000_000
MAX_RETURN_WINDOW_DAYS: Final = 3_660

# Impact
MAX_SOURCE_CHARS: Final = 500
MAX_FACTOR_USES: Final = 100
MAX_FACTOR_VERSIONS: Final = 1_000
MAX_POLICY_VERSIONS: Final = 1_000
MAX_REPORT_DAYS: Final = 1_830
MAX_PLASTIC_LINES: Final = 10_000

# Stations
MAX_STATION_RETURNS: Final = 500
MAX_STATION_TOKENS: Final = 1_000
MAX_PROOF_LIFE_S: Final = 86_400
MAX_STATION_LATE_H: Final = 720
MAX_STATION_ROW_ID_CHARS: Final = 48
MAX_STATION_CLASSES: Final = 200
MAX_OPENINGS: Final = 8
MAX_SPECIAL_DAYS: Final = 400

# Rewards
MAX_REWARD_STOCK: Final = 10**9
MAX_VOUCHER_CHARS: Final = 512

# Callers
MAX_SCOPES: Final = 50
MAX_PEM_CHARS: Final = 8_192
MAX_URL_CHARS: Final = 2_048
MAX_KEEP_OLD_DAYS: Final = 30
MAX_HOOK_SECRETS: Final = 5
MAX_SECRET_CHARS: Final = 256
MAX_PACKAGING_RULES: Final = 100
MAX_STATION_RULES: Final = 1_000
MAX_EPCIS_EVENTS: Final = 1_000
MAX_EPCIS_EPCS: Final = 10_000
MAX_REDACTED_ORDERS: Final = 10_000
MAX_EMAIL_CHARS: Final = 254
MAX_LIMIT_REQUESTS: Final = 10**9
MAX_LIMIT_S: Final = 86_400

# Packaging classes and activities
MAX_OWN_CLASSES: Final = 500
MAX_OWN_KINDS: Final = 200
MAX_CLASS_EVIDENCE: Final = 14
MAX_SCHEMA_BYTES: Final = 8_192
MAX_SCHEMA_DEPTH: Final = 16
MAX_SCHEMA_VALUES: Final = 100
MAX_EVIDENCE_VALUES: Final = 100
MAX_CLAIM_KEYS: Final = 4
