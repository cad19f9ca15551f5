"""One file per HTTP library: where its requests pass, and how the bytes of a response are seen."""
