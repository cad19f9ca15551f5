"""Work that is handed to another task or thread, and what of ours goes with it: one file per place of handing over."""
