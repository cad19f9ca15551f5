"""The pages of the dashboard, one module each: what a page asks and in which shape its template gets it."""
