"""What `scripts/chaos` is made of: the plan, the clients, the faults, the proxy in between, and the books."""
