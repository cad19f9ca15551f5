"""The providers' formats: each file turns a `Call` into a `Reply`, and `routes` says which path is which.

No sockets here. What a provider's usage object looks like is a table; the truth is our own `Usage`.
"""
