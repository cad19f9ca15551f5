"""What keeps the ledger small, and lets people be forgotten: retention, archives, forgetting, compaction.

Everything here is done in small steps beside ingest, is recorded, and goes on where it was stopped.
"""
