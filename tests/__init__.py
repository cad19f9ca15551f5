"""The tests. A package so that helpers are imported as `tests.FOLDER.NAME`, whatever else calls itself `tests`."""
