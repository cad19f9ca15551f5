"""Seeing AI calls as they happen, from inside the program that makes them.

Public modules: `hooks` (what is patched), `call` (a call's life), `tap` (bytes in passing), `caller` (whose
function it was). One file per transport in `transports/`, one per SDK family in `entries/`.
"""
